"""Every kernel as a matrix gives exactly what its layer gives."""

import keras
import numpy as np
import pytest
from keras import layers

from tfsqueeze.core.linear_view import linear_view, reproduces

CASES = [
    (layers.Dense(5, activation="relu"), (7,)),
    (layers.Dense(5), (3, 4, 7)),
    (layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d"), (4, 5)),
    (layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (4, 5)),
    (layers.EinsumDense("abcd,cde->abe", (None, 6), bias_axes="e"), (4, 2, 3)),
    (layers.EinsumDense("...gc,gcd->...gd", (3, 6)), (4, 3, 5)),
    (layers.Conv1D(6, 3, padding="causal", dilation_rate=2), (9, 4)),
    (layers.Conv2D(6, 3, padding="same", strides=2, activation="gelu"), (8, 9, 4)),
    (layers.Conv2D(6, (2, 3), groups=2, dilation_rate=(1, 2)), (8, 9, 4)),
    (layers.Conv3D(3, 2, padding="same", strides=(1, 2, 2)), (4, 5, 6, 2)),
    (layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", strides=2), (9, 8, 3)),
    (layers.DepthwiseConv1D(4), (9, 3)),
    (layers.SeparableConv2D(5, 3, depth_multiplier=2, padding="same"), (6, 6, 3)),
    (layers.Conv2DTranspose(5, 3, strides=2, padding="same"), (4, 5, 3)),
    (layers.Conv2DTranspose(5, 2, strides=3), (4, 5, 3)),
    (layers.Conv1DTranspose(5, 4, strides=2, padding="valid"), (6, 3)),
    (layers.Conv3DTranspose(2, 3, strides=2, padding="same"), (3, 3, 2, 2)),
    (layers.Conv2DTranspose(5, 3, dilation_rate=2, padding="same"), (6, 6, 3)),
]
NAMES = [f"{type(layer).__name__}{index}" for index, (layer, _) in enumerate(CASES)]


def built(layer, shape, seed=0):
    twin = type(layer).from_config(layer.get_config())
    x = np.random.default_rng(seed).normal(size=(2, *shape)).astype("float32")
    y = twin(x)
    if getattr(twin, "bias", None) is not None:
        twin.bias.assign(np.random.default_rng(1).normal(size=twin.bias.shape))
        y = twin(x)
    return twin, x, y


@pytest.mark.parametrize("layer, shape", CASES, ids=NAMES)
def test_the_view_reproduces_the_layer(layer, shape):
    twin, x, y = built(layer, shape)
    assert reproduces(linear_view(twin), x, y, tolerance=1e-5)


@pytest.mark.parametrize("layer, shape", CASES, ids=NAMES)
def test_assigning_its_own_matrix_changes_nothing_and_another_changes_the_layer(layer, shape):
    twin, x, y = built(layer, shape)
    view = linear_view(twin)
    view.assign(view.weights, view.bias)
    np.testing.assert_allclose(twin(x), y, atol=1e-6)
    view.assign(2 * view.weights, None)
    assert reproduces(view, x, twin(x), tolerance=1e-5)
    assert not reproduces(view, x, y)


def test_rows_are_drawn_alike_whatever_the_channels():
    narrow, x, _ = built(layers.Conv2D(2, 3, padding="same"), (8, 8, 3))
    wide, _, _ = built(layers.Conv2D(7, 3, padding="same"), (8, 8, 5))
    wider = np.concatenate([x, np.zeros_like(x[..., :2])], -1)
    first = linear_view(narrow).rows(x, np.random.default_rng(5), 20)
    second = linear_view(wide).rows(wider, np.random.default_rng(5), 20)
    assert first.shape == (20, 1, 27)
    np.testing.assert_array_equal(first.reshape(20, 9, 3), second.reshape(20, 9, 5)[..., :3])


def test_what_is_no_plain_product_has_no_view():
    adapted, _, _ = built(layers.Dense(5), (7,))
    adapted.enable_lora(2)
    shared_bias = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="e")
    shared_bias.build((None, 4, 5))
    padded = layers.Conv2DTranspose(2, 3, strides=2, output_padding=1)
    padded.build((None, 4, 4, 2))
    turned = layers.EinsumDense("abc,cd->adb", (6, 4))
    turned.build((None, 4, 5))
    for layer in (adapted, shared_bias, padded, turned, layers.ReLU(), layers.Dense(3)):
        assert linear_view(layer) is None


def test_channels_first_windows():
    layer = layers.Conv2D(4, 3, padding="same", data_format="channels_first")
    layer.build((None, 3, 6, 7))
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype("float32")
    twin = layers.Conv2D(4, 3, padding="same", data_format="channels_last")
    twin.build((None, 6, 7, 3))
    twin.set_weights(layer.get_weights())
    y = keras.ops.transpose(twin(np.moveaxis(x, 1, -1)), (0, 3, 1, 2))
    assert reproduces(linear_view(layer), x, y, tolerance=1e-5)
