"""Measuring the statistics of batch normalisation anew, after a model's weights were changed."""

from collections.abc import Iterable

import keras
import numpy as np
from keras import layers

from tfsqueeze.core.checks import check_model
from tfsqueeze.core.data import Examples, collect, input_specs
from tfsqueeze.core.inner_inputs import InnerInputs, Received
from tfsqueeze.core.select import walk

ROWS_AT_ONCE = 2**16


def reestimate_batch_statistics(
    model: keras.Model, data, *, limit: int | None = 1024, batch_size: int = 128
) -> list[str]:
    """Sets the moving statistics of every BatchNormalization to the mean and variance over `data`, in place.

    The layers are measured one after the other in the order they run, each with the new statistics of all
    before it, in inference mode: the result does not depend on the order or the size of the batches, nor
    on any momentum. Frozen layers are measured too: they use their
    statistics all the same.

    Args:
        model: any built model, nested ones included; the statistics, and nothing else, are changed.
        data: unlabelled or labelled examples in any form `model.fit` takes.
        limit: most examples to use, >= 1; None for all.
        batch_size: examples per run, >= 1; it bounds the memory.

    Returns:
        Paths of the layers that were measured, in order. Those inside loops that TensorFlow traces
        (`vectorized_map` over a free time axis) keep their statistics and are missing.

    Raises:
        TypeError, ValueError: if `model` is not built, or the data do not fit it or are empty.

    Example:
        >>> reestimate_batch_statistics(changed, images[:1024])

    Source: the exact statistics of Ioffe & Szegedy, Batch Normalization, arXiv:1502.03167, algorithm 2.
    """
    check_model(model, "reestimate_batch_statistics()")
    paths = {id(n.layer): n.path for n in walk(model) if isinstance(n.layer, layers.BatchNormalization)}
    examples = collect(data, input_specs(model), limit=limit)
    if not paths:
        return []
    normalizations = [n.layer for n in walk(model) if id(n.layer) in paths]
    batches = list(examples.batches(batch_size))
    inputs = InnerInputs(model, normalizations, batches)
    for layer in inputs.order:
        set_batch_statistics(layer, inputs, batches)
    return [paths[id(layer)] for layer in inputs.order]


def set_batch_statistics(
    layer: layers.BatchNormalization, inputs: InnerInputs, batches: Iterable[Examples]
) -> None:
    """Sets the moving statistics of one layer to those of all it receives for some batches.

    Args:
        layer: one of `inputs.order`; it is changed.
        inputs: reads the model that `layer` is in.
        batches: what the model runs on.
    """
    assign_batch_statistics(layer, *batch_moments(layer, inputs, batches))


def batch_moments(
    layer: layers.BatchNormalization, inputs: InnerInputs, batches: Iterable[Examples]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance per channel of all that one layer receives for some batches; see above."""
    moments = _Moments(layer.moving_mean.shape[0])
    for batch in batches:
        for received in inputs.read(layer, batch):
            rows = _rows(layer, received)
            for start in range(0, len(rows), ROWS_AT_ONCE):
                moments.add(rows[start : start + ROWS_AT_ONCE].astype("float64"))
    return moments.mean, moments.variance


def assign_batch_statistics(layer: layers.BatchNormalization, mean: np.ndarray, variance: np.ndarray) -> None:
    """Sets the moving mean and variance of one layer, and what renormalisation derives from them."""
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    if getattr(layer, "renorm", False):
        deviation = np.sqrt(variance + layer.epsilon)
        layer.moving_stddev.assign(deviation)
        layer.renorm_mean.assign(mean)
        layer.renorm_stddev.assign(deviation)


class _Moments:
    """Mean and population variance of rows that come in parts, merged as by Chan et al. (1979)."""

    def __init__(self, channels: int):
        self.count, self.mean, self._squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, rows: np.ndarray) -> None:
        """Counts in an array of shape (rows, channels)."""
        mean = rows.mean(0)
        total = self.count + len(rows)
        shift = mean - self.mean
        self._squares += np.square(rows - mean).sum(0) + np.square(shift) * (self.count * len(rows) / total)
        self.mean += shift * (len(rows) / total)
        self.count = total

    @property
    def variance(self) -> np.ndarray:
        return self._squares / max(self.count, 1)


def _rows(layer, received: Received) -> np.ndarray:
    """What the layer normalises as rows of channels, without steps that are masked out."""
    values = np.moveaxis(np.asarray(received.first), layer.axis, -1)
    mask = received.args[2] if len(received.args) > 2 else received.kwargs.get("mask")
    if mask is not None and layer.axis % values.ndim == values.ndim - 1:
        return values[np.asarray(mask, bool)]
    return values.reshape(-1, values.shape[-1])
