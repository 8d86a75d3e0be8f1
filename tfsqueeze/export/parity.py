"""Whether a `.tflite` file computes what the model computes."""

from collections.abc import Mapping

import numpy as np

from tfsqueeze.export.result import OutputParity
from tfsqueeze.tflite.runner import Runner

_NO_ERROR_DB = 200.0


def compare(content: bytes, inputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]):
    """Runs a file with the real interpreter and compares its outputs.

    Args:
        content: a `.tflite` file.
        inputs: examples by input name.
        expected: the model's outputs on them by output name.

    Returns:
        `OutputParity` by output name.

    Raises:
        ValueError: if the interpreter refuses the file or an output is not finite where the model's is.
    """
    outputs = Runner(content).run(inputs)
    return {name: output_parity(name, array, outputs[name]) for name, array in expected.items()}


def output_parity(name: str, expected: np.ndarray, received: np.ndarray) -> OutputParity:
    """Compares one output; arrays of shape (n, ...)."""
    if received.shape != expected.shape:
        raise ValueError(
            f"Output {name!r} of the file has shape {received.shape}, but the model gives {expected.shape}."
        )
    expected, received = np.asarray(expected, np.float64), np.asarray(received, np.float64)
    usable = np.isfinite(expected)
    if not np.isfinite(received[usable]).all():
        raise ValueError(
            f"Output {name!r} of the exported file has NaN or infinity where the model has none. Its numbers "
            "overflow in the chosen type: try another `quantize`, or scale the inputs as in training."
        )
    difference = np.where(usable, received - np.where(usable, expected, 0), 0)
    is_scores = expected.ndim == 2 and expected.shape[1] > 1
    agreement = float((expected.argmax(1) == received.argmax(1)).mean()) if is_scores else None
    return OutputParity(
        max_error=float(np.abs(difference).max(initial=0)),
        snr_db=snr_db(np.where(usable, expected, 0), difference),
        top1=agreement,
    )


def snr_db(signal: np.ndarray, difference: np.ndarray) -> float:
    """10 log10(sum(signal^2) / sum(difference^2)), at most 200."""
    power, noise = float(np.sum(signal**2)), float(np.sum(difference**2))
    if noise == 0:
        return _NO_ERROR_DB
    return float(np.clip(10 * np.log10(max(power, 1e-300) / noise), -_NO_ERROR_DB, _NO_ERROR_DB))
