"""Which of several models gives most nearly what another gives."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np

from tfsqueeze.core.data import Examples, pack_inputs


def nearest(model: keras.Model, others: Sequence[keras.Model], batches: Iterable[Examples]) -> int:
    """The index of the model whose outputs are closest to those of `model`.

    Args:
        model: the original.
        others: models with the same inputs and outputs.
        batches: what all of them run on.

    Returns:
        Index into `others`: the least sum over the outputs of squared errors, each relative to the squares
        of what `model` gives.
    """
    squares, errors = np.zeros(len(model.outputs)), np.zeros((len(others), len(model.outputs)))
    for batch in batches:
        expected = _outputs(model, batch)
        squares += [np.square(value).sum() for value in expected]
        for error, other in zip(errors, others, strict=True):
            pairs = zip(_outputs(other, batch), expected, strict=True)
            error += [np.square(value - right).sum() for value, right in pairs]
    # A model that overflows is the furthest of all.
    relative = np.nan_to_num((errors / np.maximum(squares, 1e-30)).sum(1), nan=np.inf)
    return int(relative.argmin())


def _outputs(model, batch) -> list[np.ndarray]:
    found = keras.tree.flatten(model(pack_inputs(model, batch.inputs), training=False))
    return [keras.ops.convert_to_numpy(value).astype("float64") for value in found]
