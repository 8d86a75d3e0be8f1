"""The outer form of a packed file: a signature, a checksum, and sections."""

import hashlib
from pathlib import Path

SIGNATURE = b"\x89TFSQ\r\n"
VERSION = 1
_DIGEST_BYTES = 16
_START = len(SIGNATURE) + 1 + _DIGEST_BYTES


def join(sections: list[bytes]) -> bytes:
    """The whole file: signature, version, checksum of what follows, sections with their lengths."""
    body = b"".join(len(section).to_bytes(6, "little") + section for section in sections)
    return SIGNATURE + bytes([VERSION]) + _digest(body) + body


def read(path) -> list[bytes]:
    """The sections of a packed file.

    Raises:
        ValueError: if there is no such file, it is of another kind or a later version, or was damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"No such file: {str(path)!r}. Expected one that `tfs.pack` wrote.")
    content = path.read_bytes()
    if not content.startswith(SIGNATURE):
        raise ValueError(
            f"{str(path)!r} was not written by `tfs.pack`: it begins with {content[:8]!r}. Load .keras, .h5 "
            "and SavedModel files with `tfs.load_model`."
        )
    body = content[_START:]
    if len(content) < _START or content[_START - _DIGEST_BYTES : _START] != _digest(body):
        raise ValueError(
            f"{str(path)!r} is damaged or cut off: its content ({len(content):,} bytes) does not match its "
            "checksum. Copy or pack it again."
        )
    if content[len(SIGNATURE)] > VERSION:
        raise ValueError(
            f"{str(path)!r} has version {content[len(SIGNATURE)]} of the packed format; this tfsqueeze reads "
            f"up to {VERSION}. Update tfsqueeze."
        )
    return _split(body)


def _split(body: bytes) -> list[bytes]:
    sections, place = [], 0
    while place < len(body):
        size = int.from_bytes(body[place : place + 6], "little")
        sections.append(body[place + 6 : place + 6 + size])
        place += 6 + size
    return sections


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_DIGEST_BYTES]
