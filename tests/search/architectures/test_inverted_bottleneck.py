"""Inverted bottlenecks: exact where the channels suffice, as close as can be where they do not."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.search.architectures.inverted_bottleneck import BottleneckForm, to_inverted_bottleneck


def outputs(model, x) -> np.ndarray:
    return np.asarray(model(x, training=False))


def convolution(cls=layers.Conv2D, size=(6, 6), channels=4, activation="tanh", **settings) -> keras.Model:
    conv = cls(5, 3, activation=activation, bias_initializer="normal", name="conv", **settings)
    return keras.Sequential([keras.Input((*size, channels)), conv])


def signed(model, count=24, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, *model.input_shape[1:])).astype("float32")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "same", "strides": 2},
        {"padding": "same", "dilation_rate": 2},
        {"use_bias": False},
        {"cls": layers.Conv1D, "size": (9,), "padding": "same", "strides": 2},
    ],
)
def test_with_channels_for_all_terms_it_computes_the_same(settings):
    model = convolution(**settings)
    # Of each channel 3 or 5 terms, 4 channels each.
    block = to_inverted_bottleneck(model, expansion=20)
    assert [layer.name for layer in block.layers] == ["conv_expand", "conv_depthwise", "conv_project"]
    x = signed(model)
    np.testing.assert_allclose(outputs(block, x), outputs(model, x), atol=1e-5)
    assert tfs.explain(block).done["conv"]["error"] == pytest.approx(0, abs=1e-12)


def test_one_term_for_each_channel_is_the_separable_approximation():
    rng = np.random.default_rng(0)
    model = convolution()
    separable = np.einsum("ijc,co->ijco", rng.normal(size=(3, 3, 4)), rng.normal(size=(4, 5)))
    model.get_layer("conv").kernel.assign(separable)
    x = signed(model)
    np.testing.assert_allclose(
        outputs(to_inverted_bottleneck(model, expansion=4), x), outputs(model, x), atol=1e-5
    )
    # Inputs that are never negative need half the channels.
    x = np.abs(x)
    block = to_inverted_bottleneck(model, expansion=2, data=x)
    np.testing.assert_allclose(outputs(block, x), outputs(model, x), atol=1e-4)


def test_the_error_is_the_share_of_the_kernel_that_is_left_out():
    layer = convolution().get_layer("conv")
    errors = [BottleneckForm(layer, expansion).error for expansion in (1, 2, 4, 8, 20)]
    assert errors == sorted(errors, reverse=True) and errors[-1] == pytest.approx(0, abs=1e-12)
    form = BottleneckForm(layer, 8)
    expand, depthwise, project = (kernel.reshape(-1, *kernel.shape[-2:]) for kernel in form.kernels())
    # Both ReLUs left out, a quarter of the channels' sum is the kernel.
    product = np.einsum("ce,we,eo->wco", expand[0], depthwise[..., 0], project[0]) / 4
    kernel = np.asarray(layer.kernel).reshape(product.shape)
    assert np.square(product - kernel).sum() / np.square(kernel).sum() == pytest.approx(form.error)


def test_data_bring_it_closer():
    model = convolution(channels=8, padding="same")
    x, others = np.abs(signed(model, 64)), np.abs(signed(model, 64, seed=1))
    blind, fitted = (to_inverted_bottleneck(model, expansion=2, data=data) for data in (None, x))
    errors = [np.square(outputs(block, others) - outputs(model, others)).mean() for block in (blind, fitted)]
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("name", ["residual", "nested", "sequential"])
def test_networks_keep_their_shape_and_can_be_saved(name, tmp_path):
    model = ZOO[name]()
    x = zoo_inputs(model, 8)
    block = to_inverted_bottleneck(model, expansion=3, data=x)
    assert outputs(block, x).shape == outputs(model, x).shape
    assert any(layer.name.endswith("_project") for layer in block._flatten_layers())
    block.save(tmp_path / "block.keras")
    again = keras.models.load_model(tmp_path / "block.keras")
    np.testing.assert_array_equal(outputs(again, x), outputs(block, x))


def test_what_cannot_become_one():
    with pytest.raises(ValueError, match="few input channels"):
        to_inverted_bottleneck(convolution(channels=3))
    assert "conv" in tfs.explain(to_inverted_bottleneck(convolution(channels=3), select="conv")).done
    with pytest.raises(ValueError, match="causal, which depthwise convolutions are not"):
        to_inverted_bottleneck(convolution(layers.Conv1D, (9,), padding="causal"), select="conv")
    with pytest.raises(ValueError, match=r"`expansion` must be a whole number >= 1. Received: expansion=0"):
        to_inverted_bottleneck(convolution(), expansion=0)
