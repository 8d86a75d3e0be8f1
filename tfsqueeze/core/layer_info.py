"""The one table of what each layer's kernels are, along which axes they reduce, and what its MACs are.

Everything tfsqueeze knows of a layer class stands here once; subclasses inherit what their class knows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers


@dataclass(frozen=True)
class Kernel:
    """One weight tensor of a layer that multiplies inputs.

    Attributes:
        attribute: name of the layer's attribute that holds it.
        inputs: axes summed over when it is applied (the reduction axes).
        outputs: axes that count output channels.
        by_default: whether techniques that shrink weights take it unless told otherwise. Depthwise
            kernels and embeddings are few and sensitive, or looked up rather than multiplied.
    """

    attribute: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    by_default: bool = True


def kernels(layer: keras.Layer) -> list[tuple[Kernel, keras.Variable]]:
    """The multiplying weights `layer` itself owns (not its sublayers'), with their variables.

    Empty for layers without any, for unbuilt layers, and where the variable was replaced by something
    computed (a quantized or low-rank-adapted kernel).
    """
    found = _look_up(_KERNELS, layer)
    described = found(layer) if callable(found) else found or ()
    pairs = [(kernel, _variable(layer, kernel.attribute)) for kernel in described if layer.built]
    return [(kernel, variable) for kernel, variable in pairs if variable is not None]


def macs(operation, input_shapes: list[tuple], output_shapes: list[tuple]) -> int:
    """Multiply-accumulate operations of one call, for one example.

    A convolution or dense layer counts one per product; additions of biases, normalisation, activations
    and pooling count none, as in the published figures of the networks.

    Args:
        operation: a built layer, or a `keras.ops` operation of a Functional graph.
        input_shapes: shapes of the input tensors, batch axis first.
        output_shapes: shapes of the output tensors, batch axis first.
    """
    count = _look_up(_MACS, operation)
    return int(count(operation, input_shapes, output_shapes)) if count else 0


def counts_sublayers(operation) -> bool:
    """Whether `macs` of this layer includes what its sublayers do (recurrent layers run theirs in a loop)."""
    return isinstance(operation, layers.RNN)


def _look_up(table: dict, operation):
    for cls in type(operation).__mro__:
        if cls in table:
            return table[cls]
    return None


def _variable(layer, attribute: str):
    """The variable behind an attribute, also where Keras hides it behind a property (`_kernel`)."""
    for name in (f"_{attribute}", attribute):
        value = getattr(layer, name, None)
        if isinstance(value, keras.Variable) and len(value.shape) >= 2:
            return value
    return None


def _convolution(rank: int) -> tuple[Kernel, ...]:
    return (Kernel("kernel", tuple(range(rank + 1)), (rank + 1,)),)


def _transposed(rank: int) -> tuple[Kernel, ...]:
    return (Kernel("kernel", (*range(rank), rank + 1), (rank,)),)


def _depthwise(rank: int) -> tuple[Kernel, ...]:
    return (Kernel("kernel", tuple(range(rank)), (rank, rank + 1), by_default=False),)


def _separable(rank: int) -> tuple[Kernel, ...]:
    depthwise = Kernel("depthwise_kernel", tuple(range(rank)), (rank, rank + 1), by_default=False)
    return (depthwise, Kernel("pointwise_kernel", tuple(range(rank + 1)), (rank + 1,)))


def _einsum_kernel(layer) -> tuple[Kernel, ...]:
    inputs, kernel, output = _einsum_terms(layer.equation)
    axes = range(len(kernel))
    reduced = tuple(axis for axis in axes if kernel[axis] in inputs and kernel[axis] not in output)
    return (Kernel("kernel", reduced, tuple(axis for axis in axes if axis not in reduced)),)


def _einsum_terms(equation: str) -> tuple[str, str, str]:
    inputs, output = equation.replace(" ", "").split("->")
    first, second = inputs.split(",")
    return first, second, output


_RECURRENT_CELL = (Kernel("kernel", (0,), (1,)), Kernel("recurrent_kernel", (0,), (1,)))

_KERNELS: dict[type, tuple[Kernel, ...] | Callable] = {
    layers.Dense: (Kernel("kernel", (0,), (1,)),),
    layers.EinsumDense: _einsum_kernel,
    layers.Conv1D: _convolution(1),
    layers.Conv2D: _convolution(2),
    layers.Conv3D: _convolution(3),
    layers.Conv1DTranspose: _transposed(1),
    layers.Conv2DTranspose: _transposed(2),
    layers.Conv3DTranspose: _transposed(3),
    layers.DepthwiseConv1D: _depthwise(1),
    layers.DepthwiseConv2D: _depthwise(2),
    layers.SeparableConv1D: _separable(1),
    layers.SeparableConv2D: _separable(2),
    layers.SimpleRNNCell: _RECURRENT_CELL,
    layers.LSTMCell: _RECURRENT_CELL,
    layers.GRUCell: _RECURRENT_CELL,
    layers.Embedding: (Kernel("embeddings", (0,), (1,), by_default=False),),
}


def _size(shape) -> int:
    """Number of entries of one example; free axes count once."""
    return math.prod(size or 1 for size in shape[1:])


def _spatial(layer, shape) -> int:
    axes = shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
    return math.prod(size or 1 for size in axes)


def _dense_macs(layer, input_shapes, output_shapes):
    return _size(output_shapes[0]) * layer.kernel.shape[0]


def _convolution_macs(layer, input_shapes, output_shapes):
    return _spatial(layer, output_shapes[0]) * math.prod(layer.kernel.shape)


def _transposed_macs(layer, input_shapes, output_shapes):
    return _spatial(layer, input_shapes[0]) * math.prod(layer.kernel.shape)


def _separable_macs(layer, input_shapes, output_shapes):
    weights = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    return _spatial(layer, output_shapes[0]) * weights


def _einsum_macs(layer, input_shapes, output_shapes):
    shapes = (input_shapes[0], tuple(layer.kernel.shape))
    return _einsum_products(layer.equation, shapes, output_shapes[0])


def _einsum_products(equation, shapes, output_shape) -> int:
    """One product per combination of index values, the batch index (the output's first) counted once."""
    terms, output = equation.replace(" ", "").split("->")
    sizes: dict[str, int] = {}
    for term, shape in zip([*terms.split(","), output], [*shapes, output_shape], strict=True):
        sizes.update(_index_sizes(term, shape))
    first = next(iter(_index_sizes(output, output_shape)))
    return math.prod(size for index, size in sizes.items() if index != first)


def _einsum_operation_macs(operation, input_shapes, output_shapes):
    return _einsum_products(operation.subscripts, input_shapes, output_shapes[0])


def _index_sizes(term: str, shape) -> dict[str, int]:
    """Size of each index of an einsum term; the axes under an ellipsis are named by their position."""
    if "..." in term:
        hidden = len(shape) - len(term) + 3
        term = term.replace("...", "".join(str(axis) for axis in range(hidden)))
    return {index: size or 1 for index, size in zip(term, shape, strict=True)}


def _matmul_macs(operation, input_shapes, output_shapes):
    return _size(output_shapes[0]) * (input_shapes[0][-1] or 1)


def _attention_macs(layer, input_shapes, output_shapes):
    """Scores and weighted values; the projections are sublayers and count themselves."""
    query = math.prod(size or 1 for size in input_shapes[0][1:-1])
    value = math.prod(size or 1 for size in input_shapes[min(1, len(input_shapes) - 1)][1:-1])
    heads = getattr(layer, "num_heads", None) or layer.num_query_heads
    return query * value * heads * (_head_size(layer, "key_dim") + _head_size(layer, "value_dim"))


def _head_size(layer, attribute: str) -> int:
    return getattr(layer, f"_{attribute}", None) or getattr(layer, attribute, None) or layer.head_dim


def _recurrent_macs(layer, input_shapes, output_shapes):
    steps = input_shapes[0][1] or 1
    cells = layer.cell._flatten_layers(include_self=True)
    return steps * sum(math.prod(variable.shape) for cell in cells for _, variable in kernels(cell))


def _convolutional_recurrent_macs(layer, input_shapes, output_shapes):
    cell, steps = layer.cell, input_shapes[0][1] or 1
    spatial = _spatial(cell, (None, *output_shapes[0][-(cell.rank + 1) :]))
    weights = math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape)
    return steps * spatial * weights


_MACS: dict[type, Callable] = {
    layers.Dense: _dense_macs,
    layers.EinsumDense: _einsum_macs,
    layers.Conv1D: _convolution_macs,
    layers.Conv2D: _convolution_macs,
    layers.Conv3D: _convolution_macs,
    layers.Conv1DTranspose: _transposed_macs,
    layers.Conv2DTranspose: _transposed_macs,
    layers.Conv3DTranspose: _transposed_macs,
    layers.DepthwiseConv1D: _convolution_macs,
    layers.DepthwiseConv2D: _convolution_macs,
    layers.SeparableConv1D: _separable_macs,
    layers.SeparableConv2D: _separable_macs,
    layers.MultiHeadAttention: _attention_macs,
    layers.GroupQueryAttention: _attention_macs,
    layers.RNN: _recurrent_macs,
    layers.ConvLSTM1D: _convolutional_recurrent_macs,
    layers.ConvLSTM2D: _convolutional_recurrent_macs,
    layers.ConvLSTM3D: _convolutional_recurrent_macs,
    keras.src.ops.numpy.Matmul: _matmul_macs,
    keras.src.ops.numpy.Einsum: _einsum_operation_macs,
}
