"""Examples brought together with the rows that are stored of them, without reading them all into memory."""

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.data import Examples, InputSpec, arrays, cast, stream
from tfsqueeze.distillation.label_store import example_digests

STREAM_BUFFER = 1024
"""Examples of a stream among which the next one is drawn, unless told otherwise."""


def numbered_batches(
    data,
    specs: list[InputSpec],
    digests: np.ndarray,
    epochs: int,
    *,
    batch_size: int,
    shuffle: bool | int,
    seed: int,
) -> tf.data.Dataset:
    """Batches of (rows, {"inputs", "targets", "weights"}), the latter two where there are any.

    Arrays are cut where they are, in memory or mapped from a file. What can only be read in order (a dataset,
    a `PyDataset`, a function that returns an iterable) is read once per pass and shuffled in a buffer.

    Args:
        data: the examples, in the forms of `core.data.stream`; no iterator that can be read only once.
        specs: the teacher's inputs.
        digests: of the stored examples, uint8 of shape (examples, 8).
        epochs: passes; the rows of the second begin at the number of examples.
        batch_size: examples per batch.
        shuffle: whether to shuffle; a number is the size of the buffer for what is read in order.
        seed: of the shuffling.

    Raises:
        ValueError: if the examples are not those of the digests: of arrays at once, else of the first batch
            at once, and of others while they are read.
    """
    whole = arrays(data, specs)
    if whole is None:
        return _from_stream(data, specs, digests, epochs, batch_size, shuffle, seed)
    for _ in _checked(data, specs, digests):
        pass
    return _from_arrays(whole, specs, _rows(len(digests), epochs, shuffle, seed).batch(batch_size))


def _rows(count: int, epochs: int, shuffle, seed: int) -> tf.data.Dataset:
    """The rows of all stored passes, one pass after the other, in another order each time they are read."""
    order = tf.data.Dataset.range(count)
    if shuffle:
        order = order.shuffle(count, seed=seed, reshuffle_each_iteration=True)
    numbered = order.repeat(epochs).enumerate()
    return numbered.map(lambda position, index: position // count * count + index)


def _from_arrays(whole: Examples, specs, rows: tf.data.Dataset) -> tf.data.Dataset:
    first = _tree(cast(whole[:1], specs))

    def read(chosen):
        return keras.tree.flatten(_tree(cast(whole[chosen % len(whole)], specs)))

    def batch(chosen):
        flat = keras.tree.flatten(first)
        tensors = tf.numpy_function(read, [chosen], [tf.as_dtype(array.dtype) for array in flat])
        for tensor, array in zip(tensors, flat, strict=True):
            tensor.set_shape((None, *array.shape[1:]))
        return chosen, keras.tree.pack_sequence_as(first, tensors)

    return rows.map(batch, num_parallel_calls=tf.data.AUTOTUNE)


def _from_stream(data, specs, digests, epochs, batch_size, shuffle, seed) -> tf.data.Dataset:
    first = _tree(next(_checked(data, specs, digests)))

    def read():
        for epoch in range(epochs):
            row = epoch * len(digests)
            for part in _checked(data, specs, digests):
                yield np.arange(row, row + len(part)), _tree(part)
                row += len(part)

    described = keras.tree.map_structure(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype)), first
    )
    signature = (tf.TensorSpec((None,), tf.int64), described)
    parts = tf.data.Dataset.from_generator(read, output_signature=signature)
    if not shuffle:
        return parts.rebatch(batch_size)
    size = STREAM_BUFFER if shuffle is True else shuffle
    return parts.unbatch().shuffle(size, seed=seed).batch(batch_size)


def _checked(data, specs, digests: np.ndarray) -> Iterator[Examples]:
    """One pass over the data, batch by batch, as long as it is that of the digests."""
    row = 0
    for part in stream(data, specs):
        known = digests[row : row + len(part)]
        if row + len(part) <= len(digests):
            different = (example_digests(part.inputs) != known).any(axis=1)
            if different.any():
                raise ValueError(
                    f"Example {row + int(different.argmax())} is not the one the soft labels were made from. "
                    "Give the same data, in the same order (unshuffled), scaled as then."
                )
        yield part
        row += len(part)
    if row != len(digests):
        raise ValueError(f"The soft labels are of {len(digests)} examples. Received: {row}.")


def _tree(examples: Examples) -> dict:
    parts = {"inputs": examples.inputs, "targets": examples.targets, "weights": examples.weights}
    return {name: part for name, part in parts.items() if part is not None}
