import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tfsqueeze.distillation import SoftLabels


def flip(image, seed):
    return tf.image.stateless_random_flip_left_right(image, seed)


def logits_of(teacher, x):
    return np.log(teacher.predict(x, verbose=0))


def by_example(dataset):
    """Rows of a dataset in order."""
    parts = [(x.numpy(), {name: value.numpy() for name, value in y.items()}) for x, y in dataset]
    names = parts[0][1]
    return np.concatenate([x for x, _ in parts]), {n: np.concatenate([y[n] for _, y in parts]) for n in names}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
def test_what_is_stored_is_what_the_teacher_says(tmp_path, dtype, tolerance):
    x, y = images(50)
    teacher = convnet(8)
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype=dtype)
    found, targets = by_example(labels.dataset(x, y, batch_size=16, shuffle=False))
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(targets["labels"], y)
    np.testing.assert_allclose(targets["teacher"], logits_of(teacher, x), atol=tolerance)
    shuffled, _ = by_example(labels.dataset(x, y, seed=3))
    again, _ = by_example(labels.dataset(x, y, seed=3))
    np.testing.assert_array_equal(shuffled, again)
    assert (shuffled != x).any()


def test_top_classes_keep_their_probabilities(tmp_path):
    x, _ = images(20)
    teacher = convnet(8, classes=6)
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32", top_k=2)
    found = np.exp(labels.logits(np.arange(20)))
    expected = teacher.predict(x, verbose=0)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-4)
    top = np.argsort(-expected, axis=-1)[:, :2]
    np.testing.assert_allclose(
        np.take_along_axis(found, top, -1), np.take_along_axis(expected, top, -1), rtol=1e-4
    )
    size = sum(file.stat().st_size for file in (tmp_path / "labels").glob("*.bin"))
    assert size == 20 * (2 * 4 + 2 * 4 + 8)


def test_training_from_the_store_is_training_from_the_teacher(tmp_path):
    x, y = images(32)
    teacher, results = convnet(8), []
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32")
    for source in (teacher, labels):
        keras.utils.set_random_seed(5)
        distiller = tfs.Distiller(convnet(), source, alpha=0.7)
        distiller.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        data = (x, y) if source is teacher else (labels.dataset(x, y, batch_size=16, shuffle=False),)
        logs = distiller.fit(
            *data,
            batch_size=None if source is labels else 16,
            shuffle=False,
            epochs=2,
            validation_data=(x, y),
            verbose=0,
        ).history
        results.append((logs, distiller))
    for name, values in results[0][0].items():
        np.testing.assert_allclose(results[1][0][name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    distiller = results[1][1]
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    again.fit(labels.dataset(x, batch_size=16), verbose=0)
    with pytest.raises(ValueError, match=r"fit on `labels.dataset"):
        distiller.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        distiller.fit(x, y, verbose=0)


def test_augmentation_is_repeated_exactly(tmp_path):
    x, y = images(12)
    teacher = convnet(8)
    written = {"augment": flip, "epochs": 2, "seed": 7}
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32", **written)
    assert labels.count == 12
    found, targets = by_example(labels.dataset(x, y, augment=flip, shuffle=True))
    assert len(found) == 24
    flipped = (found[:, None] == x[:, :, ::-1][None]).all((2, 3, 4)).any(1)
    assert 0 < flipped.sum() < 24
    np.testing.assert_allclose(targets["teacher"], logits_of(teacher, found), atol=1e-4)
    with pytest.raises(ValueError, match="written with `augment`: give the same"):
        labels.dataset(x, y)


class Interrupted(keras.Model):
    """Fails at the third call."""

    def __init__(self, model):
        super().__init__()
        self.model, self.left = model, 2
        self.build((None, 8, 8, 3))

    def call(self, inputs, training=False):
        if tf.executing_eagerly():
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        return self.model(inputs)


def test_interrupted_writing_goes_on(tmp_path):
    x, _ = images(40)
    teacher = Interrupted(convnet(8, activation=None))
    with pytest.raises(KeyboardInterrupt):
        SoftLabels.write(tmp_path / "labels", teacher, x, batch_size=8)
    with pytest.raises(ValueError, match=r"unfinished \(16 rows\)"):
        SoftLabels(tmp_path / "labels")
    with open(tmp_path / "labels" / "values.bin", "ab") as file:
        file.write(b"half a row")
    teacher.left = 2
    with pytest.raises(ValueError, match="other data, or in another order"):
        SoftLabels.write(tmp_path / "labels", teacher, x[::-1], batch_size=8)
    teacher.left = 100
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, batch_size=10)
    assert teacher.left >= 97
    np.testing.assert_allclose(labels.logits(np.arange(40)), teacher.model.predict(x, verbose=0), atol=5e-3)


def test_other_data_damage_and_settings_are_refused(tmp_path):
    x, y = images(20)
    teacher, path = convnet(8), tmp_path / "labels"
    with pytest.raises(ValueError, match="There are no soft labels"):
        SoftLabels(path)
    labels = SoftLabels.write(path, teacher, x)
    with pytest.raises(ValueError, match=r"20 of 20 examples are not those .* \(the first one: 0\)"):
        labels.dataset(x[::-1], y)
    with pytest.raises(ValueError, match=r"are of 20 examples. Received: 10"):
        labels.dataset(x[:10], y[:10])
    with pytest.raises(ValueError, match=r"teacher: .* there"):
        SoftLabels.write(path, convnet(8), x)
    with pytest.raises(ValueError, match="dtype: float16 there, float32 now"):
        SoftLabels.write(path, teacher, x, dtype="float32")
    with pytest.raises(ValueError, match=r"`top_k` must be between 1 and the 3 classes"):
        SoftLabels.write(tmp_path / "other", teacher, x, top_k=9)
    values = path / "values.bin"
    values.write_bytes(values.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"truncated or damaged: 117 bytes instead of 120 for 20 rows"):
        SoftLabels(path)
    (path / "facts.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        SoftLabels(path)


def test_positions_and_several_inputs(tmp_path):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.RepeatVector(3)(layers.Add()([a, b]))
    teacher = keras.Model({"a": a, "b": b}, layers.Dense(5, activation="sigmoid", name="head")(x))
    student = keras.models.clone_model(teacher)
    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=(10, 4)).astype("float32") for name in "ab"}
    labels = SoftLabels.write(tmp_path / "labels", teacher, data, dtype="float32")
    logits = labels.logits(np.arange(10))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), teacher.predict(data, verbose=0), rtol=1e-3)
    distiller = tfs.Distiller(student, labels, alpha=1.0)
    distiller.compile("sgd", run_eagerly=True)
    distiller.fit(labels.dataset(data, batch_size=5), verbose=0)
