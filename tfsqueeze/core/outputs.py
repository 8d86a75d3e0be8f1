"""Names of a model's outputs, the same wherever they appear: signatures, metrics, reports."""

from collections.abc import Mapping

import keras
import numpy as np


def output_names(model: keras.Model, outputs) -> list[str]:
    """Names of the flattened outputs of a call of `model`.

    Args:
        model: the model that was called.
        outputs: what it returned: a tensor or a nested structure of tensors.

    Returns:
        The keys if the outputs are a dict, else the names of the output layers, else output_0, output_1, ...
    """
    paths = (
        [path for path, _ in keras.tree.flatten_with_path(outputs)] if keras.tree.is_nested(outputs) else [()]
    )
    if isinstance(outputs, Mapping):
        return ["_".join(map(str, path)) for path in paths]
    functional = getattr(model, "_functional", None) or model
    names = list(getattr(functional, "output_names", None) or [])
    is_usable = len(names) == len(paths) and len(set(names)) == len(names)
    return names if is_usable else [f"output_{index}" for index in range(len(paths))]


def named_outputs(model: keras.Model, outputs) -> dict[str, np.ndarray]:
    """The outputs of a call of `model` as NumPy arrays by name."""
    arrays = [np.asarray(value) for value in keras.tree.flatten(outputs)]
    return dict(zip(output_names(model, outputs), arrays, strict=True))
