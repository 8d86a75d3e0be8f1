"""Estimates of an activation's range from one batch."""

import tensorflow as tf

SAMPLE = 16384
CANDIDATES = 20


def min_max(values, percentile: float, bits: int):
    """The smallest and the greatest value."""
    return tf.reduce_min(values), tf.reduce_max(values)


def percentile_range(values, percentile: float, bits: int):
    """The range that leaves (100 - percentile) % of (a sample of) the values outside, half on each side."""
    ordered = tf.sort(_sampled(values))
    last = tf.cast(tf.size(ordered) - 1, tf.float32)
    outside = (100.0 - percentile) / 200.0
    return (
        ordered[tf.cast(tf.round(outside * last), tf.int32)],
        ordered[tf.cast(tf.round((1 - outside) * last), tf.int32)],
    )


def least_squares_range(values, percentile: float, bits: int):
    """The fraction of the full range (of 20 from 0.4 to 1) with the least squared error after rounding."""
    sample = _sampled(values)
    low, high = tf.minimum(tf.reduce_min(sample), 0.0), tf.maximum(tf.reduce_max(sample), 0.0)
    fractions = tf.linspace(0.4, 1.0, CANDIDATES)
    low_ends, high_ends = low * fractions[:, None], high * fractions[:, None]
    step = tf.maximum(high_ends - low_ends, 1e-9) / (2.0**bits - 1)
    rounded = step * tf.round(tf.clip_by_value(sample[None], low_ends, high_ends) / step)
    best = fractions[tf.argmin(tf.reduce_sum(tf.square(rounded - sample[None]), axis=1))]
    return low * best, high * best


OBSERVERS = {
    "moving_average": min_max,
    "min_max": min_max,
    "percentile": percentile_range,
    "mse": least_squares_range,
    "learned": min_max,
}


def _sampled(values):
    """About `SAMPLE` values in even strides: sorting all would cost more than the layer."""
    flat = tf.reshape(values, [-1])
    return flat[:: tf.maximum(tf.size(flat) // SAMPLE, 1)]
