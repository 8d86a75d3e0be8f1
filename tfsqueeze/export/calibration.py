"""Checks of calibration data, made before the converter, which crashes or lies on what is wrong with it."""

import numpy as np

from tfsqueeze.core.data import Examples, InputSpec, collect

NEEDS_DATA = ("int8", "int16x8")


def has_integer_activations(quantize: str | None, io_dtype: str = "float32") -> bool:
    """Whether the variant rounds activations, to ranges that are measured on data."""
    return quantize in NEEDS_DATA or (quantize == "int4" and io_dtype != "float32")


def check_data_given(data, quantize: str | None, io_dtype: str = "float32") -> None:
    """Raises ValueError if the variant measures ranges on data and there is none."""
    if data is None and has_integer_activations(quantize, io_dtype):
        raise ValueError(
            f"quantize={quantize!r} needs `representative_data`: some 100 to 500 typical inputs, from which "
            "the ranges of the activations are measured. Received: representative_data=None. "
            'Without data, use quantize="dynamic" (8-bit weights, float activations).'
        )


def calibration_examples(data, specs: list[InputSpec], limit: int) -> Examples:
    """Reads and checks representative data.

    Args:
        data: any form that `core.data.collect` reads.
        specs: the model's inputs.
        limit: most examples to read.

    Raises:
        ValueError: if it is empty, of a wrong shape, not finite, or all zeros.
        TypeError: if it is of no known kind or not numeric.
    """
    free = [InputSpec(spec.name, (None, *spec.shape[1:]), spec.dtype) for spec in specs]
    examples = collect(data, free, limit=limit)
    for name, array in examples.inputs.items():
        _check_values(name, array)
    return examples


def _check_values(name: str, array: np.ndarray) -> None:
    if array.size == 0:
        raise ValueError(
            f"The representative data of input {name!r} is empty. Received shape: {array.shape}."
        )
    if array.dtype.kind != "f":
        return
    broken = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if broken.size:
        raise ValueError(
            f"The representative data must be finite. Received NaN or infinity in input {name!r}, in "
            f"{broken.size} of {len(array)} examples, first in example {broken[0]}. Remove them."
        )
    if not array.any():
        raise ValueError(
            f"The representative data of input {name!r} is all zeros, so no range can be measured from it. "
            "Pass typical inputs, scaled as in training."
        )
