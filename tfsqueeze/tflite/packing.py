"""Stores weights of few levels in 4 or 2 bits, which converters leave in 8.

A kernel trained with 4 bits takes at most 15 values per channel, and its 8-bit form only spreads them out.
The levels can be read back from the integers without knowing the training: a channel with greatest level L
holds round(127 l / L) for levels l.
"""

import copy
from collections import defaultdict

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfsqueeze.tflite import flatbuffer

FOUR_BIT_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
TWO_BIT_OPERATORS = ("FULLY_CONNECTED",)
_KERNEL_OPERATORS = (*FOUR_BIT_OPERATORS, "TRANSPOSE_CONV", "BATCH_MATMUL", "GATHER", "EMBEDDING_LOOKUP")
_FEWEST = 4
_MOST_LEVELS = 7
_EIGHT_BITS = 127


def pack_low_bits(content: bytes) -> bytes | None:
    """Packs every kernel that fits 4 or 2 bits exactly, where an integer operator reads it so.

    Args:
        content: a full-integer `.tflite` file.

    Returns:
        The smaller file, or None if there is nothing to pack.
    """
    model = flatbuffer.unpack(content)
    if flatbuffer.has_external_buffers(model):
        return None
    packed = False
    for subgraph in model.subgraphs:
        for index, operators in _kernels(model, subgraph).items():
            levels = _levels(model, subgraph.tensors[index])
            bits = None if levels is None else _bits(model, levels, operators)
            if bits is not None:
                _store(model, subgraph, index, operators, levels, bits)
                packed = True
    return flatbuffer.pack(model) if packed else None


def unpacked_low_bits(content: bytes) -> dict[str, tuple[int, int]]:
    """Bytes as stored and bytes if packed of the 8-bit kernels that need fewer bits, by operator."""
    model = flatbuffer.unpack(content)
    found: dict[str, tuple[int, int]] = {}
    for subgraph in model.subgraphs:
        for index, operators in _kernels(model, subgraph).items():
            levels = _levels(model, subgraph.tensors[index])
            if levels is not None:
                name = flatbuffer.operator_name(model, operators[0])
                size = model.buffers[subgraph.tensors[index].buffer].data.size
                stored, needed = found.get(name, (0, 0))
                bits = 2 if levels.max() == 1 else 4
                found[name] = stored + size, needed + (size * bits + 7) // 8
    return found


def _kernels(model, subgraph) -> dict[int, list]:
    """Operators by the 8-bit constant that is their kernel, and nothing else's operand."""
    users, others = defaultdict(list), set()
    for operator in subgraph.operators:
        kernel = _kernel_position(flatbuffer.operator_name(model, operator))
        for position, index in enumerate(operator.inputs):
            if position == kernel and index >= 0:
                users[int(index)].append(operator)
            else:
                others.add(int(index))
    buffers = [tensor.buffer for graph in model.subgraphs for tensor in graph.tensors]
    return {
        index: operators
        for index, operators in users.items()
        if index not in others
        and subgraph.tensors[index].type == schema.TensorType.INT8
        and model.buffers[subgraph.tensors[index].buffer].data is not None
        and buffers.count(subgraph.tensors[index].buffer) == 1
    }


def _kernel_position(name: str) -> int | None:
    if name not in _KERNEL_OPERATORS:
        return None
    return 0 if name == "GATHER" else 1


def _levels(model, tensor) -> np.ndarray | None:
    """The greatest level of each channel, or None if more than 4 bits are needed."""
    values = _by_channel(model, tensor)
    if values.shape[1] < _FEWEST:
        return None
    found = np.zeros(len(values), int)
    for greatest in range(_MOST_LEVELS, 0, -1):
        spread = _EIGHT_BITS / greatest
        error = np.abs(np.round(values / spread) * spread - values).max(axis=1)
        found[error <= 0.5 + 1e-3] = greatest
    return found if (found > 0).all() else None


def _by_channel(model, tensor) -> np.ndarray:
    """The integers of a kernel, shape (channels, weights); one row if it has a single scale."""
    values = (
        np.asarray(model.buffers[tensor.buffer].data).view(np.int8).reshape(tensor.shape).astype(np.float64)
    )
    if len(tensor.quantization.scale) == 1:
        return values.reshape(1, -1)
    return np.moveaxis(values, tensor.quantization.quantizedDimension, 0).reshape(
        len(tensor.quantization.scale), -1
    )


def _bits(model, levels, operators) -> int | None:
    names = {flatbuffer.operator_name(model, operator) for operator in operators}
    if levels.max() == 1 and names <= set(TWO_BIT_OPERATORS):
        return 2
    return 4 if names <= set(FOUR_BIT_OPERATORS) else None


def _store(model, subgraph, index, operators, levels, bits) -> None:
    tensor = subgraph.tensors[index]
    axis, count = tensor.quantization.quantizedDimension, len(tensor.quantization.scale)
    values = np.asarray(model.buffers[tensor.buffer].data).view(np.int8).reshape(tensor.shape)
    shape = [1] * values.ndim
    if count > 1:
        shape[axis] = count
    spread = _EIGHT_BITS / levels
    integers = np.round(values / spread.reshape(shape)).astype(np.int8)
    model.buffers[tensor.buffer].data = _packed(integers.ravel(), bits)
    tensor.type = schema.TensorType.INT2 if bits == 2 else schema.TensorType.INT4
    tensor.quantization.scale = (np.asarray(tensor.quantization.scale) * spread).astype(np.float32)
    for operator in operators:
        _rescale_bias(model, subgraph, operator, spread)


def _rescale_bias(model, subgraph, operator, spread) -> None:
    """The bias counts in input scale times kernel scale, so it changes with the latter."""
    if len(operator.inputs) < 3 or operator.inputs[2] < 0:
        return
    index = int(operator.inputs[2])
    if sum(list(other.inputs).count(index) for other in subgraph.operators) > 1:
        subgraph.tensors.append(copy.deepcopy(subgraph.tensors[index]))
        index = len(subgraph.tensors) - 1
        operator.inputs = np.array([*operator.inputs[:2], index, *operator.inputs[3:]], np.int32)
    bias = subgraph.tensors[index]
    values = np.asarray(model.buffers[bias.buffer].data).view(np.int32)
    scale = np.asarray(bias.quantization.scale)
    spread = np.broadcast_to(spread, scale.shape)
    data = np.round(values / spread).astype(np.int32).view(np.uint8)
    if sum(tensor.buffer == bias.buffer for graph in model.subgraphs for tensor in graph.tensors) > 1:
        model.buffers.append(schema.BufferT())
        bias.buffer = len(model.buffers) - 1
    model.buffers[bias.buffer].data = data
    bias.quantization.scale = (scale * spread).astype(np.float32)


def _packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Values as fields of `bits`, the first in the lowest bits of a byte."""
    per_byte = 8 // bits
    fields = (values.view(np.uint8) & (2**bits - 1)).astype(np.uint8)
    fields = np.concatenate([fields, np.zeros(-len(fields) % per_byte, np.uint8)]).reshape(-1, per_byte)
    return np.bitwise_or.reduce(fields << np.arange(0, 8, bits, dtype=np.uint8), axis=1).astype(np.uint8)
