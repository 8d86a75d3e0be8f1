"""The `.tflite` flatbuffer as mutable Python objects, and back to bytes."""

import struct

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3

_BUFFER_ALIGNMENT = 16
_PARSE_ERRORS = (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)


def _names_by_code(constants: type) -> dict[int, str]:
    return {code: name for name, code in vars(constants).items() if isinstance(code, int)}


TENSOR_TYPES = _names_by_code(schema.TensorType)
OPERATORS = _names_by_code(schema.BuiltinOperator)


def unpack(content: bytes) -> schema.ModelT:
    """The schema's object tree of a `.tflite` file; arrays are views into `content`.

    Raises:
        ValueError: if `content` is no `.tflite` flatbuffer or is cut off or damaged beyond parsing.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise ValueError(
            f"This is not a .tflite file: expected the identifier {IDENTIFIER.decode()!r} at byte 4. "
            f"Received {len(content)} bytes that begin with {content[:8]!r}."
        )
    try:
        model = schema.ModelT.InitFromPackedBuf(content)
    except _PARSE_ERRORS as error:
        raise ValueError(
            f"The .tflite file is truncated or corrupt ({len(content)} bytes; {error}). "
            "Copy or export it again."
        ) from error
    if model.version != SCHEMA_VERSION:
        raise ValueError(f"Expected .tflite schema version {SCHEMA_VERSION}. Received: {model.version}.")
    return model


def pack(model: schema.ModelT) -> bytes:
    """Serialises an object tree, with constants aligned to 16 bytes as the schema demands."""
    builder = _AlignedBuilder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def add_metadata(model: schema.ModelT, name: str, data: bytes) -> None:
    """Stores `data` in the file's metadata under `name`, in place of an entry of that name."""
    buffer = schema.BufferT(data=np.frombuffer(data, np.uint8))
    model.metadata = model.metadata or []
    for entry in model.metadata:
        if text(entry.name) == name:
            model.buffers[entry.buffer] = buffer
            return
    model.buffers.append(buffer)
    model.metadata.append(schema.MetadataT(name=name, buffer=len(model.buffers) - 1))


def metadata(model: schema.ModelT) -> dict[str, np.ndarray]:
    """The file's metadata: bytes (as uint8 arrays) by name."""
    entries = {}
    for entry in model.metadata or []:
        if 0 <= entry.buffer < len(model.buffers or []) and model.buffers[entry.buffer].data is not None:
            entries[text(entry.name)] = model.buffers[entry.buffer].data
    return entries


def has_external_buffers(model: schema.ModelT) -> bool:
    """Whether constants lie behind the flatbuffer (files beyond 2 GB), where `pack` would lose them."""
    return any(buffer.offset > 1 for buffer in model.buffers or [])


def operator_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """An operator's name, such as "CONV_2D"; "" for one this package does not know."""
    code = model.operatorCodes[operator.opcodeIndex]
    return OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "")


def text(value) -> str:
    """Names are bytes when read and str when set."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


class _AlignedBuilder(flatbuffers.Builder):
    """The generated Python code ignores the schema's `force_align: 16` of constant data."""

    def StartVector(self, elemSize, numElems, alignment):
        return super().StartVector(elemSize, numElems, _BUFFER_ALIGNMENT if elemSize == 1 else alignment)
