"""How much of each output of a layer gets through to what follows."""

import keras
import numpy as np

from tfsqueeze.core.followers import next_normalization
from tfsqueeze.core.linear_view import linear_view

FLOOR = 1e-3


def gains(layer: keras.Layer) -> np.ndarray:
    """What the batch normalisation behind a layer multiplies each output by; 1 without one.

    Errors count after it: an output that varies little is made as large as the others there, and what was
    lost of it with it.

    Args:
        layer: a built layer with a `LinearView`.

    Returns:
        Array of shape (groups, outputs), none below a thousandth of the largest.
    """
    shape, normalization = linear_view(layer).output_shape, next_normalization(layer)
    if normalization is None or normalization.moving_variance.shape[0] != shape[0] * shape[1]:
        return np.ones(shape)
    variance = keras.ops.convert_to_numpy(normalization.moving_variance).astype("float64")
    gamma = 1.0 if normalization.gamma is None else keras.ops.convert_to_numpy(normalization.gamma)
    found = np.abs(gamma) / np.sqrt(variance + normalization.epsilon)
    return np.maximum(found, max(FLOOR * found.max(), 1e-30)).reshape(shape)
