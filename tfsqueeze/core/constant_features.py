"""Input features that never varied: what normalisation makes of them must survive rounding."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np

# Standard deviations this small beside the mean are rounding errors of the mean itself.
_PRECISION = 8 * np.finfo("float32").eps


def constant_features(model: keras.Model) -> dict[str, list[int]]:
    """Positions of the features without variance, by name of the `Normalization` that they go through."""
    return {layer.name: np.flatnonzero(_is_constant(layer)).tolist() for layer in _affected(model)}


def settle_constant_features(model: keras.Model) -> None:
    """Gives features without variance the variance 1, in place.

    Keras divides by 1e-7 where the standard deviation is 0. What comes out is 0 as long as the input is the
    very mean, but a mean that is rounded to an integer's grid is missed by some thousandths, which that
    factor makes thousands. With variance 1, as scikit-learn's StandardScaler has it, the same inputs give 0
    and an error stays as small as it is.

    Args:
        model: any built model that has not run yet: compiled functions would keep the old variance.
    """
    for layer in _affected(model):
        variance = _settled(layer)
        if layer.input_mean is None:
            layer.adapt_variance.assign(np.reshape(variance, layer.adapt_variance.shape))
            layer.finalize_state()
        else:
            shape = np.shape(layer.input_variance)
            layer.input_variance = variance.reshape(shape) if variance.size == np.prod(shape) else 1.0
            layer.variance = keras.ops.convert_to_tensor(variance)


@contextlib.contextmanager
def constant_features_settled(model: keras.Model) -> Iterator[None]:
    """Lets `model` compute as after `settle_constant_features` for the length of the block."""
    layers = _affected(model)
    variances = [layer.variance for layer in layers]
    try:
        for layer in layers:
            layer.variance = keras.ops.convert_to_tensor(_settled(layer))
        yield
    finally:
        for layer, variance in zip(layers, variances, strict=True):
            layer.variance = variance


def _affected(model) -> list[keras.layers.Normalization]:
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Normalization) and not layer.invert and _is_constant(layer).any()
    ]


def _is_constant(layer) -> np.ndarray:
    if layer.mean is None:
        return np.zeros(1, bool)
    deviation = np.sqrt(np.asarray(layer.variance, "float32"))
    least = np.maximum(keras.backend.epsilon(), _PRECISION * np.abs(np.asarray(layer.mean, "float32")))
    return (deviation <= least).ravel()


def _settled(layer) -> np.ndarray:
    variance = np.asarray(layer.variance, "float32")
    return np.where(_is_constant(layer).reshape(variance.shape), np.float32(1.0), variance)
