"""Each form of each layer: exact at full rank, its costs as counted, its product as computed."""

import keras
import numpy as np
import pytest
from keras import layers

from tfsqueeze.architecture.form import choices, lost_weight, product
from tfsqueeze.architecture.forms import forms, unsupported
from tfsqueeze.architecture.refit import Replacement
from tfsqueeze.architecture.replacing import Costs, put_in_place
from tfsqueeze.architecture.successors import Names

CASES = {
    "dense": ((5, 6), layers.Dense(9, activation="tanh"), "auto"),
    "einsum": ((5, 6), layers.EinsumDense("abc,cd->abd", (None, 7), bias_axes="d"), "auto"),
    "einsum heads": ((5, 2, 6), layers.EinsumDense("abhc,hcd->abhd", (5, 2, 7), bias_axes="hd"), "auto"),
    "einsum joins heads": ((5, 2, 6), layers.EinsumDense("...hc,hcd->...d", (7,)), "auto"),
    "pointwise": ((8, 9, 6), layers.Conv2D(7, 1, strides=2, activation="relu"), "auto"),
    "embedding": ((4,), layers.Embedding(11, 6, mask_zero=True), "auto"),
    "spatial": ((9, 8, 5), layers.Conv2D(6, (3, 2), strides=(2, 1), padding="same"), "spatial"),
    "spatial dilated": ((9, 8, 5), layers.Conv2D(6, 3, dilation_rate=(2, 1), use_bias=False), "spatial"),
    "tucker": ((9, 8, 5), layers.Conv2D(6, (3, 2), strides=2, padding="same"), "tucker"),
    "tucker causal": ((9, 5), layers.Conv1D(6, 3, padding="causal", dilation_rate=2), "tucker"),
    "tucker 3D": ((5, 4, 4, 3), layers.Conv3D(4, 2), "tucker"),
    "tucker transposed": ((4, 4, 5), layers.Conv2DTranspose(6, 3, strides=2, padding="same"), "tucker"),
    "cp": ((9, 8, 5), layers.Conv2D(6, (3, 2), strides=2, padding="same"), "cp"),
    "cp dilated": ((9, 5), layers.Conv1D(6, 3, dilation_rate=2), "cp"),
}


def replaced(case, ranks=None):
    """The form, its kernels, a model of the one layer, and one with the form in its place."""
    shape, layer, method = CASES[case]
    layer = type(layer).from_config(layer.get_config() | {"name": "layer"})
    model = keras.Sequential([keras.Input(shape, dtype="int32" if case == "embedding" else None), layer])
    for variable in model.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    assert unsupported(layer, method) is None
    form = forms(layer, method, None)[-1]
    ranks, names = ranks or form.full_ranks, Names(model)
    kernels = form.kernels(ranks)
    replacement = Replacement("layer", layer, form, kernels, 0.0, form.layers(ranks, names))
    return form, kernels, model, put_in_place(model, [replacement], names, {})


def inputs_of(model):
    rng = np.random.default_rng(0)
    shape = (3, *model.input_shape[1:])
    return rng.integers(0, 11, shape) if model.inputs[0].dtype == "int32" else rng.normal(size=shape)


@pytest.mark.parametrize("case", CASES)
def test_full_rank_is_exact(case):
    form, kernels, model, changed = replaced(case)
    assert lost_weight(form, kernels) < 1e-12
    x = inputs_of(model)
    expected = np.asarray(model(x))
    np.testing.assert_allclose(np.asarray(changed(x)), expected, atol=1e-6 * np.abs(expected).max())
    assert changed.output_shape == model.output_shape


@pytest.mark.parametrize("case", CASES)
def test_costs_are_those_counted_and_the_energy_is_that_of_the_product(case):
    form, *_ = replaced(case)
    ranks = tuple(max(1, full // 2) for full in form.full_ranks)
    form, kernels, model, changed = replaced(case, ranks)
    costs = Costs(model)
    (choice,) = choices(form, costs.positions(model.layers[0]), "params", np.array([ranks]))
    assert choice.macs == Costs(changed).total
    assert choice.params == sum(kernel.size for kernel in kernels)
    error = np.square(product(form, kernels) - form.weights).sum() / np.square(form.weights).sum()
    if form.name == "svd" or form.name == "spatial":
        np.testing.assert_allclose(choice.lost, error, rtol=1e-6)
    else:
        # Fitting the bases to each other, or to the rank, only gains.
        assert 0 < error <= choice.lost * (1 + 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_chain_gives_what_its_product_does(case):
    form, *_ = replaced(case)
    ranks = tuple(max(1, full // 2) for full in form.full_ranks)
    form, kernels, model, changed = replaced(case, ranks)
    layer = model.layers[0]
    variable = layer.embeddings if case == "embedding" else layer.kernel
    view = None if case == "embedding" else form_view(layer)
    weights = product(form, kernels)
    variable.assign(
        weights[0] if view is None else view.arrangement.to_kernel(weights).reshape(variable.shape)
    )
    x = inputs_of(model)
    np.testing.assert_allclose(np.asarray(changed(x)), np.asarray(model(x)), atol=1e-4)


def form_view(layer):
    from tfsqueeze.core.linear_view import linear_view

    return linear_view(layer)


@pytest.mark.parametrize(
    "layer, shape, reason",
    [
        (layers.Conv2D(4, 3, groups=2), (6, 6, 4), "grouped"),
        (layers.DepthwiseConv2D(3), (6, 6, 4), "depthwise"),
        (layers.SeparableConv2D(4, 3), (6, 6, 4), "separable"),
        (layers.BatchNormalization(), (6,), "not factorized"),
    ],
)
def test_says_why_a_layer_cannot_be_factorized(layer, shape, reason):
    layer.build((None, *shape))
    assert reason in unsupported(layer)


def test_a_class_with_a_call_of_its_own_is_left_alone():
    class Doubled(layers.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    layer = Doubled(4)
    layer.build((None, 3))
    assert "of its own" in unsupported(layer)
