"""Multiply-accumulates of `.tflite` operators, from the shapes of their tensors."""

import math
from collections.abc import Sequence

from tfsqueeze.tflite.structure import Operator, Tensor


def operator_macs(operator: Operator, tensors: Sequence[Tensor]) -> int:
    """Multiply-accumulates of one operator; 0 for one without a kernel.

    The kernel layouts are those of the TFLite builtin operators: CONV_2D (out, h, w, in / groups),
    DEPTHWISE_CONV_2D (1, h, w, out), TRANSPOSE_CONV (out, h, w, in), FULLY_CONNECTED (out, in),
    CONV_3D (d, h, w, in, out), CONV_3D_TRANSPOSE (d, h, w, out, in).

    Args:
        operator: the operator.
        tensors: the tensors of its subgraph, with known shapes (`tflite_shapes.for_one_example`).

    Example:
        >>> graph = for_one_example(file.main)
        >>> sum(operator_macs(operator, graph.tensors) for operator in graph.operators)
    """
    inputs = [tensors[index].shape if index >= 0 else None for index in operator.inputs]
    output = tensors[operator.outputs[0]].shape if operator.outputs else ()
    if operator.name in _RECURRENT:
        return math.prod(output[:-1]) * _matrix_entries(operator, tensors)
    count = _COUNTS.get(operator.name)
    return count(inputs, output) if count else 0


def _per_output(taps: slice):
    """For each output value, one product per kernel entry along the `taps` axes."""
    return lambda inputs, output: math.prod(output) * math.prod(inputs[1][taps])


def _transposed_2d(inputs, output):
    out_channels, height, width, _ = inputs[1]
    return math.prod(inputs[2]) * height * width * out_channels


def _transposed_3d(inputs, output):
    return math.prod(inputs[2]) * math.prod(inputs[1][:4])


def _batch_matmul(inputs, output):
    """`adj_x` swaps the last two axes of the first input, so the summed axis is what the rows leave over."""
    rows = output[-2] if len(output) > 1 else 1
    return math.prod(output) * math.prod(inputs[0][-2:]) // max(rows, 1)


def _matrix_entries(operator, tensors) -> int:
    """Weights of the matrices, each applied once per step; peepholes and biases are vectors."""
    weights = (tensors[index] for index in operator.inputs[1:] if index >= 0)
    return sum(tensor.elements for tensor in weights if tensor.is_constant and len(tensor.shape) == 2)


_COUNTS = {
    "CONV_2D": _per_output(slice(1, 4)),
    "DEPTHWISE_CONV_2D": _per_output(slice(1, 3)),
    "FULLY_CONNECTED": _per_output(slice(1, 2)),
    "CONV_3D": _per_output(slice(0, 4)),
    "TRANSPOSE_CONV": _transposed_2d,
    "CONV_3D_TRANSPOSE": _transposed_3d,
    "BATCH_MATMUL": _batch_matmul,
}
_RECURRENT = ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN")
