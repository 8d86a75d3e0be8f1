"""Statistics of what layers receive: what their weights are weighed by."""

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from tfsqueeze.core.data import Examples
from tfsqueeze.core.followers import next_normalization
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.least_squares import MOST_INPUTS, LeastSquares, portions
from tfsqueeze.core.linear_view import drawn, linear_view

ROWS = 20_000


@dataclass(frozen=True)
class Moments:
    """Of the rows of a matrix, the input channels of a convolution, or the entries of an embedding.

    Attributes:
        second: what weighs errors: the covariance where a bias or a normalisation makes good for the mean,
            else the second moment; (groups, inputs, inputs). Of an embedding, how often each was looked up.
        mean: (groups, inputs); None of an embedding.
    """

    second: np.ndarray
    mean: np.ndarray | None


def input_moments(
    model: keras.Model, wanted: list[keras.Layer], batches: list[Examples], *, seed: int
) -> dict[int, Moments]:
    """Moments of what layers receive, by the layer's id; layers that are too large have none.

    Args:
        model: a built model.
        wanted: layers in it.
        batches: what the model runs on, at least one.
        seed: of the positions drawn.
    """
    found = {}
    small = [layer for layer in wanted if _width(layer)[1] <= MOST_INPUTS]
    for portion in portions(small, _bytes_of):
        sums = {id(layer): _empty(layer) for layer in portion}
        reader = InnerInputs(model, portion, batches)
        for number, batch in enumerate(batches if reader.order else []):
            for layer, calls in zip(reader.order, reader.read_all(reader.order, batch), strict=True):
                for call, received in enumerate(calls):
                    values = keras.ops.convert_to_numpy(received.first)
                    rng = np.random.default_rng((seed, number, call))
                    _add(sums[id(layer)], layer, values, rng, math.ceil(ROWS / len(batches) / len(calls)))
        found |= {id(layer): _moments(layer, sums[id(layer)]) for layer in reader.order}
    return found


def _width(layer) -> tuple[int, int]:
    """Groups and inputs of the matrix that is summed."""
    if isinstance(layer, layers.Embedding):
        return 1, 0
    if hasattr(layer, "kernel_size"):
        return 1, layer.kernel.shape[-1 if "Transpose" in type(layer).__name__ else -2]
    return linear_view(layer).weights.shape[:2]


def _bytes_of(layer) -> int:
    """Memory that the sums of products of a layer's inputs take."""
    groups, inputs = _width(layer)
    return 8 * groups * (inputs + 1) ** 2


def _empty(layer) -> LeastSquares | np.ndarray:
    if isinstance(layer, layers.Embedding):
        return np.zeros(layer.input_dim)
    return LeastSquares(*_width(layer), 0)


def _add(sums, layer, values, rng, count) -> None:
    if isinstance(layer, layers.Embedding):
        sums += np.bincount(values.astype("int64").ravel(), minlength=layer.input_dim)[: layer.input_dim]
        return
    values = values.astype("float32", copy=False)
    if hasattr(layer, "kernel_size"):
        last = np.moveaxis(values, 1, -1) if layer.data_format == "channels_first" else values
        rows = drawn(last.reshape(-1, 1, last.shape[-1]), rng, count)
    else:
        rows = linear_view(layer).rows(values, rng, count)
    sums.add(rows, np.zeros((*rows.shape[:2], 0), "float32"))


def _moments(layer, sums) -> Moments:
    if isinstance(layer, layers.Embedding):
        return Moments(sums, None)
    second, mean = sums.products[:, :-1, :-1] / sums.count, sums.products[:, :-1, -1] / sums.count
    if layer.bias is not None or next_normalization(layer) is not None:
        second = second - mean[:, :, None] * mean[:, None, :]
    return Moments(_shrunk(second, sums.count), mean)


def _shrunk(second, count) -> np.ndarray:
    """Towards one weight for all inputs, the more the fewer rows there are for each of them."""
    inputs = second.shape[1]
    share = inputs / (inputs + count)
    mean = np.einsum("gii->g", second)[:, None, None] / inputs
    return (1 - share) * second + share * mean * np.eye(inputs)
