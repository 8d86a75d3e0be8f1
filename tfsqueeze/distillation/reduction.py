"""From values per example to the one number that is trained on, as Keras' own losses do it."""

import math

import keras
from keras import ops
from keras.src.losses.loss import scale_loss_for_distribution


def weighted_mean(values, sample_weight=None, mask=None):
    """Mean of values over examples and positions; under a strategy, this replica's share of it.

    Args:
        values: shape (batch, ...); a scalar is taken as it is.
        sample_weight: shape (batch,) or (batch, ...) with fewer, as many or more axes, or None. Weights
            multiply the values; the mean divides by the number of values, as in Keras.
        mask: booleans of the shape of the values (only these count, in the number too); a mask of another
            number of axes is left out.
    """
    if mask is not None and len(mask.shape) == len(values.shape) > 0:
        mask = ops.cast(mask, values.dtype)
        values, count = ops.where(mask > 0, values, 0.0), ops.sum(mask)
    else:
        count = ops.cast(math.prod(ops.shape(values)), values.dtype)
    if sample_weight is not None and len(values.shape) > 0:
        values = values * _to_rank(ops.cast(sample_weight, values.dtype), len(values.shape))
    return scale_loss_for_distribution(ops.divide_no_nan(ops.sum(values), count))


def common_weights(sample_weight):
    """Sample weights that are the same for all outputs, or None."""
    weights = keras.tree.flatten(sample_weight)
    return weights[0] if len(weights) == 1 else None


def _to_rank(weights, rank: int):
    """A weight per position becomes their mean per example where values have no positions."""
    if len(weights.shape) > rank:
        return ops.mean(weights, axis=tuple(range(rank, len(weights.shape))))
    while len(weights.shape) < rank:
        weights = weights[..., None]
    return weights
