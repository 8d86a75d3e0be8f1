"""Biases of 64 bits, which kernels with 16-bit activations read, and the converter writes with 32."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfsqueeze.tflite import flatbuffer

_BIAS_POSITION = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


def widen_biases(content: bytes) -> bytes:
    """Stores the biases of operators with 16-bit inputs in 64 bits; other files stay as they are.

    From a graph with trained 16-bit ranges the converter writes biases in 32 bits and does not tell the
    kernels so (`quantized_bias_type`), which then read two biases as one.

    Args:
        content: a `.tflite` file.
    """
    model = flatbuffer.unpack(content)
    if flatbuffer.has_external_buffers(model):
        return content
    tensors = [
        subgraph.tensors[index]
        for subgraph in model.subgraphs
        for operator in subgraph.operators
        for index in _bias_indices(model, subgraph, operator)
    ]
    buffers: dict[int, int] = {}
    for tensor in tensors:
        if tensor.type == schema.TensorType.INT32:
            tensor.buffer = buffers.get(tensor.buffer) or _widened(model, tensor.buffer, buffers)
            tensor.type = schema.TensorType.INT64
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    for index in buffers.keys() - used:
        model.buffers[index].data = None
    return flatbuffer.pack(model) if buffers else content


def _bias_indices(model, subgraph, operator) -> list[int]:
    position = _BIAS_POSITION.get(flatbuffer.operator_name(model, operator))
    if position is None or len(operator.inputs) <= position or operator.inputs[position] < 0:
        return []
    data = subgraph.tensors[operator.inputs[2 if position == 3 else 0]]
    return [int(operator.inputs[position])] if data.type == schema.TensorType.INT16 else []


def _widened(model, index: int, buffers: dict[int, int]) -> int:
    """A new buffer with the same numbers in 64 bits."""
    values = np.asarray(model.buffers[index].data).view(np.int32)
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = values.astype(np.int64).view(np.uint8)
    buffers[index] = len(model.buffers) - 1
    return buffers[index]
