"""Layers seen as matrix products: rows of inputs times weights plus bias, before the activation.

What is fitted by least squares or factorized is a matrix; here each layer with a kernel becomes one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from tfsqueeze.core.windows import Windows

Rows = Callable[[np.ndarray, np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Arrangement:
    """How a kernel is laid out as a stack of matrices (groups, inputs, outputs).

    Attributes:
        shape: the kernel's, with axes split so that each belongs to one of the three.
        axes: the axes of `shape` that count groups, inputs and outputs.
    """

    shape: tuple[int, ...]
    axes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    def to_matrix(self, kernel: np.ndarray) -> np.ndarray:
        """The kernel as (groups, inputs, outputs)."""
        sizes = [math.prod(self.shape[axis] for axis in part) for part in self.axes]
        return np.transpose(kernel.reshape(self.shape), sum(self.axes, ())).reshape(sizes)

    def to_kernel(self, matrix: np.ndarray) -> np.ndarray:
        """Undoes `to_matrix`, but for the split of axes."""
        order = sum(self.axes, ())
        moved = matrix.reshape([self.shape[axis] for axis in order])
        return np.transpose(moved, np.argsort(order))


@dataclass(frozen=True)
class LinearView:
    """A layer as independent products: output[r, g] = rows[r, g] @ weights[g] + bias[g].

    Attributes:
        layer: the layer; `assign` changes it.
        attribute: name of the kernel that is the matrix.
        arrangement: of that kernel.
        rows: `rows(inputs, rng, count)` gives the input rows for a batch of the layer's inputs as float32
            (rows, groups, inputs): all in order, or `count` of them drawn at random. The same state of
            `rng` draws the same ones in a layer with other channels.
    """

    layer: keras.Layer
    attribute: str
    arrangement: Arrangement
    rows: Rows

    @property
    def kernel(self) -> keras.Variable:
        """The variable behind the matrix."""
        return getattr(self.layer, self.attribute)

    @property
    def weights(self) -> np.ndarray:
        """The kernel as (groups, inputs, outputs)."""
        return self.arrangement.to_matrix(_array(self.kernel))

    @property
    def bias(self) -> np.ndarray | None:
        """The bias as (groups, outputs); None without one."""
        bias = getattr(self.layer, "bias", None)
        return None if bias is None else _array(bias).reshape(self.output_shape)

    @property
    def output_shape(self) -> tuple[int, int]:
        """Number of groups, and of outputs in each."""
        sizes = [math.prod(self.arrangement.shape[axis] for axis in part) for part in self.arrangement.axes]
        return sizes[0], sizes[2]

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """The layer's outputs before its activation, (rows, groups, outputs)."""
        product = np.matmul(np.swapaxes(rows, 0, 1), self.weights).swapaxes(0, 1)
        return product if self.bias is None else product + self.bias

    def assign(self, weights: np.ndarray, bias: np.ndarray | None) -> None:
        """Sets the kernel, and the bias unless None."""
        self.kernel.assign(self.arrangement.to_kernel(weights).reshape(self.kernel.shape))
        if bias is not None:
            self.layer.bias.assign(bias.reshape(self.layer.bias.shape))


def linear_view(layer: keras.Layer) -> LinearView | None:
    """The layer as a matrix product; None if it is none, or its kernel is computed rather than stored.

    Args:
        layer: any built layer. Dense, EinsumDense and convolutions are products, grouped, depthwise and
            transposed ones too; of a separable convolution it is the pointwise half.
    """
    for kinds, make in _VIEWS.items():
        if isinstance(layer, kinds) and layer.built:
            view = make(layer)
            return view if view is not None and _is_plain(view) else None
    return None


def reproduces(view: LinearView, inputs, outputs, tolerance: float = 1e-2) -> bool:
    """Whether the view gives what the layer gave for a batch: a check before anything is built on it.

    Args:
        view: of the layer.
        inputs: a batch of its inputs.
        outputs: what the layer's call returned for it, after the activation.
        tolerance: largest error relative to the largest output.
    """
    rows = view.rows(_array(inputs), np.random.default_rng(0), 10**6)
    mine = _array(view.layer.activation(view.outputs(rows)))
    given = _array(outputs)
    if getattr(view.layer, "data_format", "") == "channels_first":
        given = np.moveaxis(given, 1, -1)
    scale = np.abs(given).max(initial=1e-6)
    return mine.size == given.size and bool(np.abs(mine.ravel() - given.ravel()).max() <= tolerance * scale)


def _is_plain(view: LinearView) -> bool:
    is_stored = isinstance(view.kernel, keras.Variable)
    bias = getattr(view.layer, "bias", None)
    adapted = getattr(view.layer, "lora_enabled", False) or getattr(view.layer, "quantization_mode", None)
    is_whole = bias is None or math.prod(bias.shape) == math.prod(view.output_shape)
    return is_stored and is_whole and not adapted


def _array(values) -> np.ndarray:
    return keras.ops.convert_to_numpy(values).astype("float32", copy=False)


def _dense(layer):
    return _einsum(layer, "...k,ko->...o")


def _einsum_dense(layer):
    return _einsum(layer, layer.equation.replace(" ", ""))


def _einsum(layer, equation) -> LinearView | None:
    """Indices are rows (not in the kernel), groups (in all terms), contracted, or new in the output."""
    terms, output = equation.replace("...", ".").split("->")
    inputs, kernel = terms.split(",")
    groups = [i for i in kernel if i in inputs and i in output]
    contracted = [i for i in kernel if i in inputs and i not in output]
    new = [i for i in kernel if i not in inputs]
    if not output.endswith("".join([*groups, *new])):
        return None

    def rows(values, rng, count):
        free = values.ndim - len(inputs.replace(".", ""))
        names = inputs.replace(".", "".join(map(str, range(free))))
        first = [i for i in names if i not in kernel]
        moved = np.transpose(values, [names.index(i) for i in (*first, *groups, *contracted)])
        sizes = moved.shape
        split = len(first) + len(groups)
        flat = moved.reshape(-1, math.prod(sizes[len(first) : split]), math.prod(sizes[split:]))
        return drawn(flat, rng, count)

    axes = tuple(tuple(kernel.index(i) for i in part) for part in (groups, contracted, new))
    return LinearView(layer, "kernel", Arrangement(tuple(layer.kernel.shape), axes), rows)


def drawn(rows: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """All rows in order, or `count` of them drawn at random: the same as a `LinearView` draws of as many."""
    return rows if len(rows) <= count else rows[np.sort(rng.choice(len(rows), count, replace=False))]


def _convolution(layer) -> LinearView:
    *size, inputs, outputs = layer.kernel.shape
    rank, groups, windows = len(size), layer.groups, Windows.of(layer)

    def rows(values, rng, count):
        found = windows.gather(values, rng, count)
        split = found.reshape(len(found), -1, groups, inputs)
        return split.transpose(0, 2, 1, 3).reshape(len(found), groups, -1)

    axes = ((rank + 1,), tuple(range(rank + 1)), (rank + 2,))
    arrangement = Arrangement((*size, inputs, groups, outputs // groups), axes)
    return LinearView(layer, "kernel", arrangement, rows)


def _depthwise(layer) -> LinearView:
    rank, windows = len(layer.kernel.shape) - 2, Windows.of(layer)

    def rows(values, rng, count):
        return np.swapaxes(windows.gather(values, rng, count), 1, 2)

    axes = ((rank,), tuple(range(rank)), (rank + 1,))
    return LinearView(layer, "kernel", Arrangement(tuple(layer.kernel.shape), axes), rows)


def _separable(layer) -> LinearView:
    rank, windows = len(layer.pointwise_kernel.shape) - 2, Windows.of(layer)

    def rows(values, rng, count):
        depthwise = _array(layer.depthwise_kernel)
        depthwise = depthwise.reshape(-1, *depthwise.shape[-2:])
        products = np.einsum("rwc,wcm->rcm", windows.gather(values, rng, count), depthwise)
        return products.reshape(len(products), 1, -1)

    axes = ((), tuple(range(rank + 1)), (rank + 1,))
    return LinearView(layer, "pointwise_kernel", Arrangement(tuple(layer.pointwise_kernel.shape), axes), rows)


def _transposed(layer) -> LinearView | None:
    rank, windows = len(layer.kernel.shape) - 2, Windows.of(layer, transposed=True)
    if layer.output_padding is not None:
        return None

    def rows(values, rng, count):
        found = windows.gather(values, rng, count)
        return found.reshape(len(found), 1, -1)

    axes = ((), (*range(rank), rank + 1), (rank,))
    return LinearView(layer, "kernel", Arrangement(tuple(layer.kernel.shape), axes), rows)


_VIEWS = {
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    (layers.DepthwiseConv1D, layers.DepthwiseConv2D): _depthwise,
    (layers.SeparableConv1D, layers.SeparableConv2D): _separable,
    (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose): _transposed,
    (layers.Conv1D, layers.Conv2D, layers.Conv3D): _convolution,
}
