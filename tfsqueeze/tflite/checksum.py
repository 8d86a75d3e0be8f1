"""A SHA-256 inside the `.tflite` file, so that a damaged file is noticed before it gives wrong answers.

A `.tflite` file with some flipped bits usually still loads and runs. The digest lies in the file's own
metadata, which interpreters ignore, and covers every byte of the file but its own 32.
"""

import hashlib

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfsqueeze.tflite import flatbuffer

METADATA_NAME = "tfsqueeze_checksum"
_DIGEST_BYTES = 32


def add_checksum(content: bytes) -> bytes:
    """Returns the file with a checksum in its metadata (a new one if it had one).

    Files whose constants lie outside the flatbuffer (beyond 2 GB) are returned as they are.
    """
    model = flatbuffer.unpack(content)
    return content if flatbuffer.has_external_buffers(model) else sign(model)


def sign(model: schema.ModelT) -> bytes:
    """Serialises an object tree of `flatbuffer.unpack` with its checksum."""
    flatbuffer.add_metadata(model, METADATA_NAME, bytes(_DIGEST_BYTES))
    packed = flatbuffer.pack(model)
    start = _digest_start(packed, flatbuffer.metadata(flatbuffer.unpack(packed))[METADATA_NAME])
    return packed[:start] + _digest(packed, start) + packed[start + _DIGEST_BYTES :]


def has_checksum(content: bytes) -> bool:
    """Whether the file carries a checksum."""
    return METADATA_NAME in flatbuffer.metadata(flatbuffer.unpack(content))


def verify_checksum(content: bytes, model=None) -> bool:
    """Checks the file against its checksum.

    Args:
        content: the whole file.
        model: what `flatbuffer.unpack(content)` gave, to spare reading twice.

    Returns:
        True if there is a checksum and it fits, False if the file has none.

    Raises:
        ValueError: if the content is not what was written.
    """
    stored = flatbuffer.metadata(model or flatbuffer.unpack(content)).get(METADATA_NAME)
    if stored is None:
        return False
    start = _digest_start(content, stored)
    if stored.size != _DIGEST_BYTES or _digest(content, start) != stored.tobytes():
        raise ValueError(
            "The .tflite file was damaged after it was written: its content does not match its checksum. "
            "Copy or export it again."
        )
    return True


def _digest_start(content: bytes, digest: np.ndarray) -> int:
    return digest.ctypes.data - np.frombuffer(content, np.uint8).ctypes.data


def _digest(content: bytes, start: int) -> bytes:
    view = memoryview(content)
    digest = hashlib.sha256(view[:start])
    digest.update(bytes(_DIGEST_BYTES))
    digest.update(view[start + _DIGEST_BYTES :])
    return digest.digest()
