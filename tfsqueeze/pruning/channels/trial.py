"""Learning by trial what an operation does with channels: nothing is guessed from its name.

If taking some positions of an input axis and then applying the operation gives exactly what applying it
first and taking the same positions of an output axis gives, then the operation passes the channels of
that axis on one by one, and a cut network may use it as it is.
"""

import functools
from collections.abc import Callable, Iterator

import keras
import numpy as np

_PARTS = (0.5, 0.75)


def passes_channels(function: Callable, size: int) -> bool:
    """Whether a function of one tensor treats each position of the last axis by itself."""
    return _passes_channels(function, min(size, 16))


@functools.lru_cache(maxsize=256)
def _passes_channels(function, size: int) -> bool:
    return is_equivariant(function, [draw((2, 3, max(size, 4)), "float32")], [2], 2)


def is_equivariant(function: Callable, inputs: list[np.ndarray], axes: list[int | None], output: int) -> bool:
    """Whether cutting positions of `axes` of the inputs cuts the same positions of the output, no more.

    Args:
        function: called with the arrays of `inputs` as positional arguments; returns one tensor.
        inputs: arrays.
        axes: for each input the axis to cut, or None to leave that input whole.
        output: the axis of the result that must lose the same positions.
    """
    size = next(array.shape[axis] for array, axis in zip(inputs, axes, strict=True) if axis is not None)
    try:
        whole = _array(function(*inputs))
        return all(_same(function, inputs, axes, output, whole, kept) for kept in parts(size))
    except Exception:  # Whatever a strange operation raises on a smaller input, it cannot be cut.
        return False


def _same(function, inputs, axes, output, whole, kept) -> bool:
    cut = [a if axis is None else np.take(a, kept, axis) for a, axis in zip(inputs, axes, strict=True)]
    part = _array(function(*cut))
    expected = np.take(whole, kept, output)
    return part.shape == expected.shape and np.allclose(part, expected, rtol=1e-4, atol=1e-5)


def parts(size: int) -> Iterator[np.ndarray]:
    """A few sets of positions, never all and never none."""
    rng = np.random.default_rng(size)
    for part in _PARTS:
        count = min(max(int(size * part), 1), size - 1) or 1
        yield np.sort(rng.permutation(size)[:count])


def draw(shape, dtype: str) -> np.ndarray:
    """Random numbers to try an operation on: normal ones, or zeros and ones where it takes integers."""
    rng = np.random.default_rng(0)
    if "int" in dtype or dtype == "bool":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.normal(size=shape).astype("float32")


def _array(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
