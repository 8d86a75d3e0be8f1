"""Estimates of an activation's range from one batch, in the graph of the training step."""

import tensorflow as tf

BINS = 4096
#: Fractions of the full range that are compared by their error.
FRACTIONS = tuple(twentieths / 20 for twentieths in range(1, 21))
_SMALLEST = 1e-12


def min_max(values, percentile: float, bits: int):
    """The smallest and the greatest value."""
    return tf.reduce_min(values), tf.reduce_max(values)


def percentile_range(values, percentile: float, bits: int):
    """The range that leaves (100 - percentile) % of the values outside, half on each side."""
    centres, counts = _histogram(values)
    below = tf.cumsum(counts) / tf.reduce_sum(counts)
    outside = (100.0 - percentile) / 200.0
    return centres[tf.argmax(below > outside)], centres[tf.argmax(below >= 1.0 - outside)]


def least_squares_range(values, percentile: float, bits: int):
    """The fraction of the full range with the least squared error after clipping and rounding."""
    centres, counts = _histogram(values)
    fractions = tf.constant(FRACTIONS)[:, None]
    low_ends, high_ends = fractions * centres[0], fractions * centres[-1]
    step = tf.maximum(high_ends - low_ends, _SMALLEST) / (2.0**bits - 1)
    rounded = step * tf.round(tf.minimum(tf.maximum(centres, low_ends), high_ends) / step)
    best = tf.argmin(tf.reduce_sum(counts * tf.square(rounded - centres), axis=1))
    return low_ends[best, 0], high_ends[best, 0]


OBSERVERS = {
    "moving_average": min_max,
    "min_max": min_max,
    "percentile": percentile_range,
    "mse": least_squares_range,
    "learned": min_max,
}


def _histogram(values):
    """Middles of equal bins between the extremes (0 among them), and how many of all values are in each."""
    flat = tf.reshape(values, [-1])
    low, high = tf.minimum(tf.reduce_min(flat), 0.0), tf.maximum(tf.reduce_max(flat), 0.0)
    width = (high - low) / BINS
    bins = tf.clip_by_value(tf.cast((flat - low) / tf.maximum(width, _SMALLEST), tf.int32), 0, BINS - 1)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, BINS)
    return low + width * (tf.range(BINS, dtype=tf.float32) + 0.5), tf.cast(counts, tf.float32)
