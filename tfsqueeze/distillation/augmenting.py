"""Changing examples the same way whenever they are read."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
MARKED = 8
"""Examples by which an augmentation is known again."""


def augmented(inputs: dict, rows, seed: int, augment: Augment) -> dict:
    """Every input of every example changed as its row and the seed say.

    Args:
        inputs: tensors or arrays by name, examples along the first axis.
        rows: whole numbers, one for each example.
        seed: of all rows.
        augment: a TensorFlow function of one example and a seed (int64 tensor of two numbers).
    """
    seeds = tf.stack([tf.fill(tf.shape(rows), tf.constant(seed, tf.int64)), tf.cast(rows, tf.int64)], axis=1)
    return {
        name: tf.map_fn(
            lambda both: augment(both[0], both[1]),
            (value, seeds),
            fn_output_signature=tf.as_dtype(value.dtype),
        )
        for name, value in inputs.items()
    }


def marks_of(inputs: dict, seed: int, augment: Augment) -> list[float]:
    """A number for each of the first examples, by which the same augmentation of them is known again.

    The projection of the augmented example, scaled to length 1, on fixed random directions: another crop or
    flip changes it, another rounding on another machine does not.
    """
    first = {name: value[:MARKED] for name, value in inputs.items()}
    count = len(next(iter(first.values())))
    changed = augmented(first, tf.range(count, dtype=tf.int64), seed, augment)
    flat = [np.reshape(keras.ops.convert_to_numpy(changed[name]), (count, -1)) for name in sorted(changed)]
    examples = np.concatenate(flat, axis=1).astype("float64")
    directions = np.random.default_rng(0).normal(size=examples.shape[1])
    lengths = np.linalg.norm(examples, axis=1).clip(1e-12)
    return [float(mark) for mark in examples @ directions / lengths]


def are_same_marks(some: list[float], others: list[float]) -> bool:
    """Whether the marks of as many examples as both have agree."""
    return all(abs(one - other) < 0.01 for one, other in zip(some, others, strict=False))
