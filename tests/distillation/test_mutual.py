import keras
import numpy as np
import pytest

from tests.distillation.networks import convnet, images
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.distillation import MutualLearning

CROSS_ENTROPY = "sparse_categorical_crossentropy"


def test_the_loss_is_that_of_the_paper():
    x, y = images(16)
    students = [convnet(4), convnet(6), convnet(5, activation=None, size=10)]
    cohort = MutualLearning(students[:2], alpha=0.25, temperature=2.0)
    cohort.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY, metrics=["accuracy"], run_eagerly=True)
    p = [student(x, training=True).numpy() for student in students[:2]]
    own = sum(float(sum(student.losses)) for student in students[:2])
    soft = [np.sqrt(one) / np.sqrt(one).sum(-1, keepdims=True) for one in p]
    kl = [4 * (a * np.log(a / b)).sum(-1).mean() for a, b in (soft, soft[::-1])]
    hard = [-np.log(one[np.arange(16), y]).mean() for one in p]
    logs = cohort.fit(x, y, verbose=0).history
    np.testing.assert_allclose(logs["loss"], [0.75 * sum(hard) + 0.25 * sum(kl) + own], rtol=1e-3)
    np.testing.assert_allclose([logs["student_0_loss"][0], logs["student_1_loss"][0]], hard, rtol=1e-3)


@pytest.mark.slow
def test_a_cohort_trains_saves_and_loads(tmp_path):
    x, y = images(32)
    students = [convnet(4), convnet(6), convnet(5, activation=None, size=10)]
    before = [[v.numpy() for v in student.trainable_weights] for student in students]
    cohort = MutualLearning(students)
    cohort.compile("adam", CROSS_ENTROPY, metrics=["accuracy"])
    logs = cohort.fit(x, y, epochs=2, validation_data=(x, y), verbose=0).history
    assert {"accuracy", "val_accuracy", "val_student_2_loss"} <= set(logs)
    for old, student in zip(before, students, strict=True):
        assert any((a != v.numpy()).any() for a, v in zip(old, student.trainable_weights, strict=True))
    cohort.save(tmp_path / "cohort.keras")
    again = keras.models.load_model(tmp_path / "cohort.keras")
    for first, second in zip(cohort.predict(x, verbose=0), again.predict(x, verbose=0), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["subclassed", "recurrent"])
def test_models_of_any_kind_learn_together(name):
    model = ZOO[name]()
    x = zoo_inputs(model, 8)
    cohort = MutualLearning([model, rewrite(model)], alpha=1.0)
    cohort.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY, run_eagerly=True)
    assert np.isfinite(cohort.fit(x, np.zeros(8), verbose=0).history["loss"]).all()


def test_regressions_learn_each_others_numbers():
    students = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]) for _ in range(2)]
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    cohort = MutualLearning(students, alpha=1.0)
    cohort.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    logs = cohort.fit(x, np.zeros((8, 2)), verbose=0).history
    first, second = (student(x).numpy() for student in students)
    np.testing.assert_allclose(logs["loss"], [2 * ((first - second) ** 2).mean()], rtol=1e-4)


def test_bad_cohorts_are_refused():
    model = convnet()
    for students in ([model], [model, model]):
        with pytest.raises(ValueError, match="two or more different models"):
            MutualLearning(students)
    with pytest.raises(ValueError, match="class_map"):
        MutualLearning([model, convnet(classes=5)])
    cohort = MutualLearning([model, convnet()])
    cohort.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="needs labels"):
        cohort.fit(images(4)[0], verbose=0)
