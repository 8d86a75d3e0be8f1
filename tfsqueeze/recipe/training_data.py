"""Training data for a model whose input may have been made smaller on the way."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.data import Examples, input_specs, pack_inputs
from tfsqueeze.core.images import fit_images

BATCH_SIZE = 256
ONE_HOT_LOSS, NUMBER_LOSS = "categorical_crossentropy", "sparse_categorical_crossentropy"


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


def check_labels(model: keras.Model, loss: Any, targets: Any) -> None:
    """Tells of class numbers where the loss expects one-hot vectors, and the other way round.

    Args:
        model: the model that is trained.
        loss: what it is compiled with.
        targets: its training targets; only one array of them is looked at.

    Raises:
        ValueError: if they are of the other kind. The message names the loss that fits them.
    """
    shape = model.output_shape if hasattr(model, "output_shape") else None
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    if not isinstance(targets, np.ndarray) or not isinstance(shape, tuple) or (shape[-1] or 0) < 2:
        return
    are_numbers = targets.ndim < len(shape) or targets.shape[-1] == 1
    if name == ONE_HOT_LOSS and are_numbers:
        found, expected, fitting = "class numbers", "one-hot vectors", NUMBER_LOSS
    elif name == NUMBER_LOSS and targets.shape[1:] == shape[1:]:
        found, expected, fitting = "one-hot vectors", "class numbers", ONE_HOT_LOSS
    else:
        return
    raise ValueError(
        f"The targets are {found}, of shape {targets.shape}, but the loss {name!r} expects {expected}. Give "
        f'`loss="{fitting}"`, or targets of the other kind.'
    )


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
