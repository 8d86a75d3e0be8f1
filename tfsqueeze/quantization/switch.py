"""Rounding that is switched on and off."""

from collections.abc import Callable

import tensorflow as tf


def switched(
    is_rounding: bool | tf.Variable, rounded: Callable[[], tf.Tensor], plain: tf.Tensor
) -> tf.Tensor:
    """What `rounded` returns, or `plain`.

    Args:
        is_rounding: which of the two; a variable decides anew each time a compiled function runs.
        rounded: makes the rounded tensor.
        plain: the tensor as it is, of the same shape.
    """
    if isinstance(is_rounding, tf.Variable):
        made = rounded()
        return tf.where(is_rounding, made, tf.cast(plain, made.dtype))
    return rounded() if is_rounding else plain
