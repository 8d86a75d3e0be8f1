"""Compression of what is not shared: bytes of equal significance side by side, then a general compressor."""

import lzma
import zlib

import numpy as np

_SLOW = 2**23
_SAMPLE = 2**18
_RAW, _ZLIB, _LZMA = 0, 1, 2
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "pb": 0}]


def compress(content: bytes) -> bytes:
    """The content in the shortest of a few forms, the first byte telling which."""
    sample = content[:_SAMPLE]
    if len(zlib.compress(sample, 1)) > 0.98 * len(sample) and len(content) > _SAMPLE:
        return bytes([_RAW]) + content
    forms = [bytes([_RAW]) + content, bytes([_ZLIB]) + zlib.compress(content, 9)]
    if len(content) <= _SLOW:
        forms.append(bytes([_LZMA]) + lzma.compress(content, lzma.FORMAT_RAW, filters=_FILTERS))
    return min(forms, key=len)


def decompress(content: bytes) -> bytes:
    """Undoes `compress`.

    Raises:
        ValueError: if the content is damaged.
    """
    try:
        form, body = content[0], content[1:]
        if form == _LZMA:
            return lzma.decompress(body, lzma.FORMAT_RAW, filters=_FILTERS)
        return zlib.decompress(body) if form == _ZLIB else body
    except (IndexError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise ValueError(f"The compressed values are damaged: {error}") from error


def compress_arrays(arrays: list[np.ndarray]) -> list[bytes]:
    """Compresses arrays of one item size, one part per byte of significance."""
    planes = np.concatenate([as_bytes(array) for array in arrays])
    return [compress(planes[:, place].tobytes()) for place in range(planes.shape[1])]


def decompress_arrays(parts: list[bytes], counts: list[int]) -> list[np.ndarray]:
    """Undoes `compress_arrays`: for each array its items as rows of bytes.

    Raises:
        ValueError: if the parts do not hold as many items.
    """
    planes = [np.frombuffer(decompress(part), np.uint8) for part in parts]
    if any(plane.size != sum(counts) for plane in planes):
        raise ValueError("The values are not as many as there should be.")
    items = np.stack(planes, 1)
    return np.split(items, np.cumsum(counts)[:-1])


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Items as rows of bytes, the least significant first."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize)


def from_bytes(items: np.ndarray, dtype: str, shape) -> np.ndarray:
    """Undoes `as_bytes`."""
    little = np.dtype(dtype).newbyteorder("<")
    return np.ascontiguousarray(items).reshape(-1).view(little).astype(dtype, copy=False).reshape(shape)
