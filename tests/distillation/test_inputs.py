"""Every form of data, and sizes that are known only while training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tfsqueeze import distillation as kd

CROSS_ENTROPY = "sparse_categorical_crossentropy"


class Batches(keras.utils.PyDataset):
    """Batches of eight, with sample weights."""

    def __init__(self, x, y, weights):
        super().__init__()
        self._parts = (x, y, weights)

    def __len__(self):
        return len(self._parts[0]) // 8

    def __getitem__(self, index):
        return tuple(part[index * 8 : index * 8 + 8] for part in self._parts)


def sgd_logs(x, y=None, **options):
    """Logs of an epoch in which nothing is learned."""
    keras.utils.set_random_seed(1)
    student, teacher = convnet(), convnet(8)
    student.get_layer("normalization").trainable = False
    distiller = tfs.Distiller(student, teacher, alpha=0.5)
    distiller.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY, run_eagerly=True)
    return distiller.fit(x, y, verbose=0, **options).history


def test_every_form_of_data_gives_the_same_loss():
    x, y = images(24)
    weights = np.linspace(0, 2, 24).astype("float32")
    expected = sgd_logs(x, y, sample_weight=weights, batch_size=8)
    dataset = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(8)
    forms = [dataset, Batches(x, y, weights), (batch for batch in Batches(x, y, weights))]
    for form in forms:
        logs = sgd_logs(form)
        for name, values in expected.items():
            np.testing.assert_allclose(logs[name], values, rtol=1e-5, err_msg=name)
    by_class = {0: 0.5, 1: 2.0, 2: 3.0}
    as_weights = np.vectorize(by_class.get)(y).astype("float32")
    first = sgd_logs(dataset.map(lambda x, y, weight: (x, y)), class_weight=by_class)
    second = sgd_logs(x, y, sample_weight=as_weights, batch_size=8)
    np.testing.assert_allclose(first["distillation_loss"], second["distillation_loss"], rtol=1e-5)


def test_inputs_by_name_reach_networks_that_list_them():
    """Names in a dict are sorted, a list of inputs is not."""
    rng = np.random.default_rng(0)
    data = {
        "zebra": rng.normal(size=(8, 8, 8, 1)).astype("float32"),
        "ant": rng.normal(size=(8, 4, 4, 1)).astype("float32"),
        "unused": np.ones((8, 2), "float32"),
    }

    def net(size):
        zebra, ant = keras.Input((size, size, 1), name="zebra"), keras.Input((4, 4, 1), name="ant")
        x = layers.Concatenate()([layers.Flatten()(zebra), layers.Flatten()(ant)])
        return keras.Model([zebra, ant], layers.Dense(3, activation="softmax", name="head")(x))

    student, teacher = net(8), net(6)
    distiller = tfs.Distiller(student, teacher)
    distiller.compile("sgd", CROSS_ENTROPY, run_eagerly=True)
    distiller.fit(data, np.zeros(8), verbose=0)
    expected = student.predict([data["zebra"], data["ant"]], verbose=0)
    np.testing.assert_allclose(distiller.predict(data, verbose=0), expected, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_maps_of_unknown_size_are_brought_together(jit_compile):
    def net(stride):
        image = keras.Input((None, None, 3))
        x = layers.Conv2D(4, 3, stride, padding="same", name="features")(image)
        return keras.Model(image, layers.Conv2D(3, 1, activation="softmax", name="head")(x))

    def batches():
        rng = np.random.default_rng(0)
        for size in (12, 20):
            yield rng.normal(size=(2, size, size + 4, 3)).astype("float32")

    unknown = tf.TensorSpec((None, None, None, 3))
    data = tf.data.Dataset.from_generator(batches, output_signature=unknown)
    losses = [kd.SoftTargets(), kd.Features("features"), kd.AttentionTransfer("features")]
    distiller = tfs.Distiller(net(4), net(2), losses, alpha=1.0)
    distiller.compile("sgd", jit_compile=jit_compile)
    logs = distiller.fit(data, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert logs["features"][0] > 0


def test_maps_are_resized_alike_with_and_without_xla():
    rng = np.random.default_rng(0)
    student, teacher = (tf.constant(rng.normal(size=(2, *size, 3)), tf.float32) for size in ((9, 3), (5, 7)))
    compare = kd.Features("a").compare
    compiled = tf.function(compare, jit_compile=True)
    np.testing.assert_allclose(compiled(student, teacher), compare(student, teacher), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [kd.RelationalDistance("hidden"), kd.SimilarityPreserving("hidden"), kd.AttentionTransfer("hidden")],
)
def test_what_is_masked_has_no_part_in_relations(loss):
    """Padding of any content behind the same sequences leaves the loss as it is."""

    def net(width):
        tokens = keras.Input((6,), dtype="int32")
        x = layers.Embedding(10, width, mask_zero=True)(tokens)
        return keras.Model(tokens, layers.Dense(width, name="hidden")(x))

    student, teacher = net(4), net(4)
    x = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 0, 0, 0, 0], [6, 7, 8, 9, 0, 0], [1, 3, 5, 0, 0, 0]], "int32")
    values = []
    for padding in (0.0, 100.0):
        for model in (student, teacher):
            embedding = model.layers[1]
            rows = embedding.get_weights()[0]
            rows[0] = padding
            embedding.set_weights([rows])
        distiller = tfs.Distiller(student, teacher, loss, alpha=1.0)
        distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        values.append(distiller.fit(x, verbose=0).history[loss.name])
    np.testing.assert_allclose(*values, rtol=1e-4)


def test_single_batches_are_tested_by_the_student_alone():
    x, y = images(8)
    distiller = tfs.Distiller(convnet(), convnet(8))
    distiller.compile("sgd", CROSS_ENTROPY, metrics=["accuracy"], run_eagerly=True)
    assert "distillation_loss" in distiller.train_on_batch(x, y, return_dict=True)
    assert distiller.test_on_batch(x, y, return_dict=True).keys() == {"loss", "accuracy"}


@pytest.mark.slow
def test_the_student_is_what_is_exported(tmp_path):
    x, _ = images(8)
    distiller = tfs.Distiller(convnet(), convnet(8))
    distiller.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), distiller.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
