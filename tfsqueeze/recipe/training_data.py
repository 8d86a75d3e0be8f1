"""Training data for a model whose input may have been made smaller on the way."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.data import Examples, input_specs, pack_inputs
from tfsqueeze.core.images import fit_images

BATCH_SIZE = 256


def fit_arguments(model: keras.Model, data: Any, batch_size: int | None = None) -> dict[str, Any]:
    """The arguments of `fit` for data in any form it takes, images resized to the input of `model`.

    Args:
        model: a built model.
        data: arrays, `(x, y)` or `(x, y, sample_weight)`, a `tf.data.Dataset`, a `PyDataset`, `Examples`.
        batch_size: passed on where the data is not batched already.
    """
    if isinstance(data, Examples):
        data = (pack_inputs(model, data.inputs), data.targets, data.weights)
    if isinstance(data, tf.data.Dataset):
        return {"x": data.map(lambda *batch: _resized_batch(model, batch), tf.data.AUTOTUNE)}
    if not isinstance(data, tuple):
        return {"x": data}
    x, y, weights = (*data, None, None)[:3]
    return {"x": resized(model, x), "y": y, "sample_weight": weights, "batch_size": batch_size}


def resized(model: keras.Model, inputs: Any) -> Any:
    """Arrays of inputs, with images bilinearly resized to the size that `model` takes."""
    flat = keras.tree.flatten(inputs)
    expected = {spec.shape for spec in input_specs(model)}
    if all(any(_fits(np.shape(array), shape) for shape in expected) for array in flat):
        return inputs
    count = len(flat[0])
    parts = [
        keras.tree.map_structure(
            np.asarray,
            fit_images(model, keras.tree.map_structure(lambda a: a[start : start + BATCH_SIZE], inputs)),  # noqa: B023
        )
        for start in range(0, count, BATCH_SIZE)
    ]
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def count_steps(data: Any, batch_size: int) -> int | None:
    """Optimizer steps of one pass over the data, None if they cannot be known beforehand."""
    if isinstance(data, Examples):
        return -(-len(data) // batch_size)
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality().numpy())
        return count if count >= 0 else None
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches
    if isinstance(data, tuple):
        return -(-len(keras.tree.flatten(data[0])[0]) // batch_size)
    return None


def _resized_batch(model, batch: tuple):
    inputs, *rest = batch
    return (fit_images(model, inputs), *rest) if rest else fit_images(model, inputs)


def _fits(shape, expected) -> bool:
    return len(shape) == len(expected) and all(
        size in (None, own) for size, own in zip(expected[1:], shape[1:], strict=True)
    )
