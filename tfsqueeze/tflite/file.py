"""Reads `.tflite` files defensively: a corrupt one gives a ValueError and never a crash."""

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfsqueeze.tflite import flatbuffer
from tfsqueeze.tflite.checksum import METADATA_NAME, verify_checksum
from tfsqueeze.tflite.flatbuffer import OPERATORS, TENSOR_TYPES, text
from tfsqueeze.tflite.structure import BITS, Operator, Signature, Subgraph, Tensor, TFLiteFile

__all__ = ["Operator", "Signature", "Subgraph", "TFLiteFile", "Tensor", "read"]


def read(source) -> TFLiteFile:
    """Parses a `.tflite` file and checks that it hangs together.

    Args:
        source: a path, the file's bytes, or a `TFLiteFile` (returned as it is).

    Raises:
        ValueError: if the file is missing, is no `.tflite` file, is corrupt, or does not match its checksum.

    Example:
        >>> file = read("model.tflite")
        >>> [operator.name for operator in file.main.operators]
    """
    if isinstance(source, TFLiteFile):
        return source
    is_content = isinstance(source, (bytes, bytearray, memoryview))
    content = bytes(source) if is_content else _read_bytes(Path(source))
    try:
        model = flatbuffer.unpack(content)
        has_checksum = verify_checksum(content, model)
        return _parse(model, content, has_checksum)
    except ValueError as error:
        raise error if is_content else ValueError(f"{str(source)!r}: {error}") from error


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(f"Expected a .tflite file. Received a folder: {str(path)!r}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"Cannot read {str(path)!r}: {error.strerror}. Check the path.") from error


def _parse(model: schema.ModelT, content: bytes, has_checksum: bool) -> TFLiteFile:
    if not model.subgraphs:
        raise _corrupt("it has no subgraph")
    subgraphs = tuple(_subgraph(subgraph, model, content) for subgraph in model.subgraphs)
    signatures = {text(s.signatureKey): _signature(s, subgraphs) for s in model.signatureDefs or []}
    entries = {name: data for name, data in flatbuffer.metadata(model).items() if name != METADATA_NAME}
    return TFLiteFile(content, subgraphs, signatures, text(model.description), entries, has_checksum)


def _subgraph(subgraph: schema.SubGraphT, model: schema.ModelT, content: bytes) -> Subgraph:
    tensors = tuple(_tensor(tensor, model, content) for tensor in _items(subgraph.tensors))
    operators = tuple(_operator(operator, model, len(tensors)) for operator in _items(subgraph.operators))
    inputs = _indices(subgraph.inputs, len(tensors), "a subgraph input")
    outputs = _indices(subgraph.outputs, len(tensors), "a subgraph output")
    if not outputs:
        raise _corrupt("a subgraph has no outputs")
    return Subgraph(text(subgraph.name), tensors, operators, inputs, outputs)


def _tensor(tensor: schema.TensorT, model: schema.ModelT, content: bytes) -> Tensor:
    name = text(tensor.name)
    if tensor.type not in TENSOR_TYPES:
        raise _corrupt(f"tensor {name!r} has the unknown type {tensor.type}")
    stored = tuple(int(size) for size in _items(tensor.shape))
    free = tuple(int(size) for size in _items(tensor.shapeSignature)) or stored
    if len(free) != len(stored) or min((*stored, 0)) < 0 or min((*free, 0)) < -1:
        raise _corrupt(f"tensor {name!r} has the shape {stored} with signature {free}")
    quantization = tensor.quantization or schema.QuantizationParametersT()
    parsed = Tensor(
        name=name,
        shape=free,
        dtype=TENSOR_TYPES[tensor.type],
        content=_constant(tensor.buffer, name, model, content),
        scale=np.asarray(_items(quantization.scale), np.float32),
        zero_point=np.asarray(_items(quantization.zeroPoint), np.int64),
        quantized_dimension=quantization.quantizedDimension,
        is_variable=bool(tensor.isVariable),
        sparsity=tensor.sparsity,
    )
    _check_content(parsed)
    _check_quantization(parsed)
    return parsed


def _constant(index: int, name: str, model: schema.ModelT, content: bytes) -> np.ndarray | None:
    """The bytes of buffer `index`; None if it is empty, which marks a computed tensor."""
    if not 0 <= index < len(_items(model.buffers)):
        raise _corrupt(f"tensor {name!r} refers to the missing buffer {index}")
    buffer = model.buffers[index]
    if buffer.offset > 1:
        outside = np.frombuffer(content, np.uint8)[buffer.offset : buffer.offset + buffer.size]
        if outside.size != buffer.size:
            raise _corrupt(f"the data of tensor {name!r} is cut off")
        return outside
    return buffer.data if isinstance(buffer.data, np.ndarray) and buffer.data.size else None


def _check_content(tensor: Tensor) -> None:
    measurable = tensor.is_constant and not tensor.is_sparse and tensor.dtype in BITS
    if measurable and tensor.content.size != tensor.nbytes:
        raise _corrupt(
            f"tensor {tensor.name!r} of shape {tensor.shape} and type {tensor.dtype} needs {tensor.nbytes} "
            f"bytes but holds {tensor.content.size}"
        )


def _check_quantization(tensor: Tensor) -> None:
    count, axis = tensor.scale.size, tensor.quantized_dimension
    fits = count <= 1 or (0 <= axis < len(tensor.shape) and tensor.shape[axis] == count)
    if not fits or tensor.zero_point.size not in (count, 1, 0):
        raise _corrupt(
            f"tensor {tensor.name!r} of shape {tensor.shape} has {count} scales and "
            f"{tensor.zero_point.size} zero points along axis {axis}"
        )
    if not np.all(np.isfinite(tensor.scale)):
        raise _corrupt(f"tensor {tensor.name!r} has a scale that is not finite")


def _operator(operator: schema.OperatorT, model: schema.ModelT, tensors: int) -> Operator:
    codes = _items(model.operatorCodes)
    if not 0 <= operator.opcodeIndex < len(codes):
        raise _corrupt(f"an operator refers to the missing operator code {operator.opcodeIndex}")
    code = codes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number not in OPERATORS:
        raise _corrupt(f"it uses the unknown operator {number}")
    name = text(code.customCode) if OPERATORS[number] == "CUSTOM" else OPERATORS[number]
    options = operator.builtinOptions or operator.builtinOptions2
    return Operator(
        name=name,
        inputs=_indices(operator.inputs, tensors, f"an input of {name}", optional=True),
        outputs=_indices(operator.outputs, tensors, f"an output of {name}"),
        options=dict(vars(options)) if options is not None else {},
        version=code.version,
    )


def _signature(signature: schema.SignatureDefT, subgraphs: tuple[Subgraph, ...]) -> Signature:
    if not 0 <= signature.subgraphIndex < len(subgraphs):
        raise _corrupt(f"a signature refers to the missing subgraph {signature.subgraphIndex}")
    tensors = len(subgraphs[signature.subgraphIndex].tensors)

    def named(entries):
        indices = _indices([entry.tensorIndex for entry in _items(entries)], tensors, "a signature")
        return {text(entry.name): index for entry, index in zip(_items(entries), indices, strict=True)}

    return Signature(named(signature.inputs), named(signature.outputs), signature.subgraphIndex)


def _indices(values, tensors: int, where: str, optional: bool = False) -> tuple[int, ...]:
    indices = tuple(int(value) for value in _items(values))
    wrong = [index for index in indices if not (-1 if optional else 0) <= index < tensors]
    if wrong:
        raise _corrupt(f"{where} refers to the missing tensor {wrong[0]}")
    return indices


def _items(values):
    return [] if values is None else values


def _corrupt(reason: str) -> ValueError:
    return ValueError(f"The .tflite file is corrupt: {reason}. Copy or export it again.")
