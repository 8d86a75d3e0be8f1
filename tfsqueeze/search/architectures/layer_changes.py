"""Kernel sizes and activations of a trained network changed, its weights kept where they fit."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.core.rewrite import rewrite

CONVOLUTIONS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
# Nonlinearities of hidden layers that can stand in for each other; softmax and sigmoid are not among them.
HIDDEN_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hard_silu", "mish")
ACTIVATION_LAYERS = {layers.ReLU: "relu", layers.LeakyReLU: "leaky_relu", layers.ELU: "elu"}
ACTIVATED = (*CONVOLUTIONS, layers.Dense, layers.Activation)


def kernel_sizes(model: keras.Model) -> set[int]:
    """Sizes of the kernels that `with_kernel_size` can change."""
    return {max(layer.kernel_size) for layer in model._flatten_layers() if _has_flexible_kernel(layer)}


def with_kernel_size(model: keras.Model, size: int) -> keras.Model:
    """Returns a copy whose convolutions have kernels of another size, centred on the old ones.

    A larger kernel is filled with zeros and computes the same; a smaller one keeps the centre. Convolutions
    of one pixel stay, and so do those without padding, whose outputs would change size.

    Args:
        model: a built Sequential or Functional model; it is not changed.
        size: height and width of the kernels, odd.
    """

    def replace(layer):
        if not _has_flexible_kernel(layer) or max(layer.kernel_size) == size:
            return None
        sizes = [size if old > 1 else 1 for old in layer.kernel_size]
        return _remade(layer, kernel_size=sizes)

    return rewrite(model, replace, transfer=_centred)


def activations(model: keras.Model) -> set[str]:
    """Names of the hidden nonlinearities that `with_activation` can change."""
    return {name for layer in model._flatten_layers() if (name := _activation(layer)) is not None}


def with_activation(model: keras.Model, activation: str) -> keras.Model:
    """Returns a copy with another nonlinearity in all hidden layers that have one; all weights are kept.

    Args:
        model: a built Sequential or Functional model; it is not changed.
        activation: one of `HIDDEN_ACTIVATIONS`.
    """

    def replace(layer):
        if _activation(layer) in (None, activation):
            return None
        if type(layer) in ACTIVATION_LAYERS:
            return layers.Activation(activation, name=layer.name, dtype=layer.dtype_policy)
        return _remade(layer, activation=activation)

    return rewrite(model, replace, transfer=_centred)


def _has_flexible_kernel(layer) -> bool:
    return (
        type(layer) in CONVOLUTIONS
        and layer.padding in ("same", "causal")
        and max(layer.kernel_size) > 1
        and all(size % 2 for size in layer.kernel_size)
    )


def _activation(layer) -> str | None:
    # A ReLU with a bound or a slope is another function than its name says.
    if type(layer) in ACTIVATION_LAYERS:
        is_plain = type(layer) is not layers.ReLU or (layer.max_value, layer.threshold) == (None, 0)
        return ACTIVATION_LAYERS[type(layer)] if is_plain else "relu6" if layer.max_value == 6 else None
    if type(layer) not in ACTIVATED:
        return None
    name = getattr(layer.activation, "__name__", None)
    return name if name in HIDDEN_ACTIVATIONS else None


def _remade(layer, **changes) -> keras.Layer:
    config = {key: value for key, value in layer.get_config().items() if key != "build_config"}
    return type(layer).from_config({**config, **changes})


def _centred(old, new_layers) -> None:
    (new,) = new_layers
    for source, target in zip(old.weights, new.weights, strict=True):
        target.assign(_fitted(source.numpy(), target.shape, causal=getattr(old, "padding", "") == "causal"))


def _fitted(values: np.ndarray, shape, *, causal: bool) -> np.ndarray:
    """Cut or filled with zeros around the centre; causal kernels, which end at the present, at the start."""
    for axis, (old, new) in enumerate(zip(values.shape, shape, strict=True)):
        growth = new - old
        before = growth if causal else growth // 2
        if growth > 0:
            widths = [(before, growth - before) if other == axis else (0, 0) for other in range(values.ndim)]
            values = np.pad(values, widths)
        elif growth < 0:
            values = values.take(range(-before, -before + new), axis)
    return values
