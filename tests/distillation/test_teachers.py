import keras
import numpy as np
import pytest

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.distillation import Teachers
from tfsqueeze.distillation.output_pairs import outputs_of


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def answers(models, x):
    return [np.log(model.predict(x, verbose=0)) for model in models]


def test_equal_teachers_are_as_one():
    x, _ = images(8)
    one = convnet(8)
    for options in ({}, {"weights": [1, 3]}, {"by_confidence": True}):
        both = Teachers([one, rewrite(one)], **options)
        np.testing.assert_allclose(
            both.predict(x, verbose=0), one.predict(x, verbose=0), rtol=1e-4, atol=1e-6
        )


def test_logits_are_averaged_by_weight_and_confidence():
    x, _ = images(8)
    models = [convnet(8), convnet(6, activation=None), convnet(4, size=10)]
    one, other = convnet(8), convnet(4)
    a, b = answers([one, other], x)
    weighted = Teachers([one, other], weights=[3, 1]).predict(x, verbose=0)
    np.testing.assert_allclose(weighted, softmax(0.75 * a + 0.25 * b), rtol=1e-4)
    sure = [np.exp((np.exp(z) * z).sum(-1, keepdims=True)) for z in (a, b)]
    confident = Teachers([one, other], by_confidence=True).predict(x, verbose=0)
    np.testing.assert_allclose(confident, softmax((sure[0] * a + sure[1] * b) / sum(sure)), rtol=1e-4)
    mixed = Teachers(models).predict(x, verbose=0)
    np.testing.assert_allclose(mixed.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["multi_output", "shared", "recurrent", "subclassed", "decoder"])
def test_any_models_teach_together(name):
    model = ZOO[name]()
    x = zoo_inputs(model)
    both = Teachers([model, rewrite(model)])
    kinds = [[output.activation for output in outputs_of(one)] for one in (both, model)]
    assert kinds[0] == kinds[1]
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), both(x), model(x)
    )


def test_a_student_learns_from_several_and_all_is_saved(tmp_path):
    x, y = images()
    teachers = Teachers([convnet(8), convnet(6)], weights=[2, 1], by_confidence=True)
    distiller = tfs.Distiller(convnet(), teachers)
    distiller.compile("adam", "sparse_categorical_crossentropy")
    before = [variable.numpy() for variable in teachers.weights]
    distiller.fit(x, y, verbose=0)
    for old, variable in zip(before, teachers.weights, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    np.testing.assert_array_equal(again.teacher(x), teachers(x))
    np.testing.assert_array_equal(again.student(x), distiller.student(x))


def test_bad_teachers_are_refused():
    model = convnet()
    with pytest.raises(ValueError, match=r"two or more teachers. Received: 1"):
        Teachers([model])
    with pytest.raises(ValueError, match="one number for each of 2 teachers"):
        Teachers([model, convnet()], weights=[1])
    with pytest.raises(ValueError, match=r"same shapes.*\(None, 3\).*\(None, 5\)"):
        Teachers([model, convnet(classes=5)])
