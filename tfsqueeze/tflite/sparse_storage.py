"""Stores the kernels of a `.tflite` file sparse where that takes fewer bytes."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfsqueeze.tflite import flatbuffer
from tfsqueeze.tflite.sparsity import encode, index_nbytes

KERNEL_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "DEQUANTIZE")
_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
# What one more tensor, operator and list of places take in the file, generously.
_OVERHEAD_BYTES = 512


def store_sparse(content: bytes) -> bytes:
    """Returns the file with float kernels stored sparse, each where it saves bytes.

    A DENSIFY operator before each such kernel unpacks it when the interpreter prepares the file, so the
    outputs and the time of a run stay the same, and memory is as for the dense file. Integer kernels are
    left alone: XNNPACK, the interpreter's default kernels, refuses them.

    Args:
        content: a `.tflite` file.

    Example:
        >>> smaller = store_sparse(Path("pruned.tflite").read_bytes())
    """
    model = flatbuffer.unpack(content)
    if flatbuffer.has_external_buffers(model):
        return content
    # Tensors that share a buffer, as shared layers have them, share its sparse form too.
    packed: dict[tuple, tuple | None] = {}
    stored = [_store(model, subgraph, packed) for subgraph in model.subgraphs]
    if not any(stored):
        return content
    _drop_unread_buffers(model)
    return flatbuffer.pack(model)


def _store(model: schema.ModelT, subgraph: schema.SubGraphT, packed: dict) -> bool:
    unpacked: dict[int, int] = {}
    operators = []
    for operator in subgraph.operators or []:
        index = _kernel_index(model, operator)
        if index is not None and index not in unpacked:
            dense = _sparse_twin(model, subgraph, index, packed)
            if dense is not None:
                unpacked[index] = dense
                operators.append(_densify(model, index, dense))
        operators.append(operator)
    for operator in operators:
        if flatbuffer.operator_name(model, operator) != "DENSIFY":
            operator.inputs = np.array([unpacked.get(int(i), int(i)) for i in operator.inputs], np.int32)
    subgraph.operators = operators
    return bool(unpacked)


def _kernel_index(model, operator) -> int | None:
    """The tensor that holds an operator's kernel (or that is widened from float16), if it may have one."""
    name = flatbuffer.operator_name(model, operator)
    if name not in KERNEL_OPERATORS:
        return None
    return int(operator.inputs[0 if name == "DEQUANTIZE" else 1])


def _sparse_twin(model, subgraph, index: int, packed: dict) -> int | None:
    """Makes tensor `index` sparse if that is smaller; returns the new tensor that it is unpacked to."""
    tensor = subgraph.tensors[index]
    if tensor.type not in _DTYPES or tensor.sparsity is not None or len(tensor.shape) < 2:
        return None
    key = tensor.buffer, tuple(tensor.shape), tensor.type
    if key not in packed:
        packed[key] = _packed(model, tensor)
    if packed[key] is None:
        return None
    name = flatbuffer.text(tensor.name)
    subgraph.tensors.append(
        schema.TensorT(shape=tensor.shape, type=tensor.type, name=f"{name}_dense", hasRank=tensor.hasRank)
    )
    tensor.buffer, tensor.sparsity = packed[key]
    return len(subgraph.tensors) - 1


def _packed(model, tensor) -> tuple[int, schema.SparsityParametersT] | None:
    """A new buffer with the non-zero values, and their places; None where the dense form is no larger."""
    data = model.buffers[tensor.buffer].data
    if data is None:
        return None
    values = np.asarray(data).view(_DTYPES[tensor.type]).reshape(tensor.shape)
    stored, places = encode(values)
    if not stored.size or stored.nbytes + index_nbytes(places) + _OVERHEAD_BYTES >= values.nbytes:
        return None
    model.buffers.append(schema.BufferT(data=stored.view(np.uint8)))
    return len(model.buffers) - 1, places


def _densify(model, source: int, target: int) -> schema.OperatorT:
    return schema.OperatorT(
        opcodeIndex=_opcode(model),
        inputs=np.array([source], np.int32),
        outputs=np.array([target], np.int32),
        builtinOptionsType=schema.BuiltinOptions.DensifyOptions,
        builtinOptions=schema.DensifyOptionsT(),
    )


def _opcode(model) -> int:
    densify = schema.BuiltinOperator.DENSIFY
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == densify:
            return index
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=densify, builtinCode=densify))
    return len(model.operatorCodes) - 1


def _drop_unread_buffers(model) -> None:
    """Empties the buffers of the dense kernels, unless another tensor or entry reads them."""
    read = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    read |= {entry.buffer for entry in model.metadata or []}
    for index, buffer in enumerate(model.buffers):
        if index not in read:
            buffer.data = None
