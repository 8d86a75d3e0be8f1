"""Models of tensorflow_model_optimization come back plain, with the weights they computed with."""

import os

import numpy as np
import pytest
import tensorflow as tf

from tests.models.legacy_zoo import layers, save, tf_keras
from tfsqueeze.models.legacy import import_tfmot
from tfsqueeze.models.load import load_model


@pytest.fixture(scope="module")
def pruned():
    sparsity = import_tfmot().sparsity.keras
    wrapped = sparsity.prune_low_magnitude(network(), sparsity.ConstantSparsity(0.6, 0, frequency=1))
    return fitted(wrapped, [sparsity.UpdatePruningStep()])


@pytest.fixture(scope="module")
def clustered():
    clustering = import_tfmot().clustering.keras
    linear = clustering.CentroidInitialization.LINEAR
    return fitted(clustering.cluster_weights(network(), number_of_clusters=4, cluster_centroids_init=linear))


@pytest.fixture(scope="module")
def quantized():
    return fitted(import_tfmot().quantization.keras.quantize_model(network()))


def network():
    x = layers.Input((8, 8, 3))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="conv")(x)))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, name="depthwise")(y))
    y = layers.Dense(6, activation="relu", name="hidden")(layers.GlobalAveragePooling2D()(y))
    return tf_keras.Model(x, layers.Dense(3, activation="softmax", name="logits")(y))


def fitted(model, callbacks=()):
    rng = np.random.default_rng(0)
    model.compile("adam", "sparse_categorical_crossentropy")
    data = rng.normal(size=(32, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 32)
    model.fit(*data, batch_size=16, verbose=0, callbacks=list(callbacks))
    return model


def loaded(model, form, folder):
    return load_model(model if form == "memory" else save(model, folder, form))


def outputs(model):
    return np.asarray(
        model(np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype("float32"), training=False)
    )


def assert_plain(model):
    assert next(layer.name for layer in model.layers if layer.weights) == "conv"
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    assert tf.keras.__version__.startswith("3") and "TF_USE_LEGACY_KERAS" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("form", ("memory", "h5", "keras", "tf"))
def test_pruned_weights_stay_zero(pruned, form, tmp_path):
    plain = loaded(pruned, form, tmp_path)
    assert_plain(plain)
    assert np.mean(plain.get_layer("conv").kernel.numpy() == 0) == pytest.approx(0.6, abs=0.01)
    np.testing.assert_allclose(outputs(plain), outputs(pruned), atol=1e-6)
    assert plain.compiled


@pytest.mark.parametrize("form", ("memory", "h5"))
def test_clustered_weights_are_their_centroids(clustered, form, tmp_path):
    plain = loaded(clustered, form, tmp_path)
    assert_plain(plain)
    for name in ("conv", "hidden", "logits"):
        assert len(np.unique(plain.get_layer(name).kernel)) <= 4
    np.testing.assert_allclose(outputs(plain), outputs(clustered), atol=1e-6)


def test_clustered_attention():
    clustering = import_tfmot().clustering.keras
    x = layers.Input((5, 8))
    plain = tf_keras.Model(x, layers.MultiHeadAttention(2, 4, name="attention")(x, x))
    linear = clustering.CentroidInitialization.LINEAR
    wrapped = clustering.cluster_weights(plain, number_of_clusters=3, cluster_centroids_init=linear)
    stripped = load_model(wrapped)
    inputs = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")
    np.testing.assert_allclose(stripped(inputs), wrapped(inputs), atol=1e-6)


@pytest.mark.parametrize("form", ("memory", "h5"))
def test_annotations_vanish(form, tmp_path):
    wrapped = import_tfmot().quantization.keras.quantize_annotate_model(network())
    plain = loaded(wrapped, form, tmp_path)
    assert_plain(plain)
    np.testing.assert_allclose(outputs(plain), outputs(wrapped), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", ("memory", "h5", "tf"))
def test_quantized_layers_keep_their_float_weights(quantized, form, tmp_path):
    plain = loaded(quantized, form, tmp_path)
    assert_plain(plain)
    trained = {weight.name.split(":")[0]: weight.numpy() for weight in quantized.weights}
    np.testing.assert_array_equal(plain.get_layer("conv").kernel, trained["conv/kernel"])
    np.testing.assert_array_equal(plain.get_layer("depthwise").kernel, trained["depthwise/depthwise_kernel"])
    assert plain.get_layer("hidden").activation.__name__ == "relu"
    np.testing.assert_allclose(outputs(plain), outputs(quantized), atol=0.1)


def test_wrapped_model_is_left_as_it_is(quantized):
    before = quantized.get_weights()
    load_model(quantized)
    np.testing.assert_equal(quantized.get_weights(), before)
