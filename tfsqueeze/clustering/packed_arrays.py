"""Arrays as sections of bytes: codes by the entropy coder, all else by byte planes."""

import math
from dataclasses import dataclass

import numpy as np

from tfsqueeze.clustering import entropy_coder, plain_values
from tfsqueeze.clustering.codes import BOOKS, Coding, Layout, find_coding


@dataclass(frozen=True)
class PackedArrays:
    """Arrays in packed form.

    Attributes:
        facts: per array what its parts mean, as JSON can hold it.
        sections: the bytes.
        limit_bytes: their Shannon limit: codes at their entropy, codebooks and plain values as they are.
    """

    facts: list
    sections: list[bytes]
    limit_bytes: float


def pack_arrays(arrays: list[np.ndarray]) -> PackedArrays:
    """Packs arrays without loss."""
    codings = [find_coding(array) for array in arrays]
    coded = [coding for coding in codings if coding is not None]
    tables = [entropy_coder.frequency_table(np.maximum(coding.counts, 1)) for coding in coded]
    sequences = [coding.codes.ravel() for coding in coded]
    plain = [
        array if coding is None else coding.entries for array, coding in zip(arrays, codings, strict=True)
    ]
    sections = [
        plain_values.compress(b"".join(table.tobytes() for table in tables)),
        entropy_coder.encode(sequences, tables) if coded else b"",
    ]
    for size in _item_sizes(plain):
        sections += plain_values.compress_arrays([array for array in plain if array.dtype.itemsize == size])
    limit = sum(coding.entropy_bits for coding in coded) / 8 + sum(array.nbytes for array in plain)
    return PackedArrays(list(map(_facts, arrays, codings)), sections, limit)


def unpack_arrays(facts: list, sections: list[bytes]) -> list[np.ndarray]:
    """Undoes `pack_arrays`.

    Raises:
        ValueError: if the parts do not fit together.
    """
    described = [_Described(*entry) for entry in facts]
    table_bytes = np.frombuffer(plain_values.decompress(sections[0]), np.uint8)
    coded = [entry for entry in described if entry.layout is not None]
    tables = np.split(table_bytes, np.cumsum([max(entry.sizes) for entry in coded])[:-1]) if coded else []
    sizes = [math.prod(entry.layout.shape(entry.shape)) for entry in coded]
    codes = iter(entropy_coder.decode(sections[1], sizes, tables) if coded else [])
    plain, place = {}, 2
    for size in _item_sizes(described):
        group = [index for index, entry in enumerate(described) if entry.itemsize == size]
        parts, place = sections[place : place + size], place + size
        items = plain_values.decompress_arrays(parts, [described[index].count for index in group])
        plain |= dict(zip(group, items, strict=True))
    return [entry.array(plain[index], codes) for index, entry in enumerate(described)]


class _Described:
    """One array's facts: dtype, shape and, where it is coded, split, length, books and their sizes."""

    def __init__(self, dtype, shape, layout=None, sizes=None):
        self.dtype, self.shape, self.sizes = np.dtype(dtype), tuple(shape), sizes
        self.itemsize = self.dtype.itemsize
        self.layout = None if layout is None else Layout(layout[0], layout[1], BOOKS[layout[2]])

    @property
    def count(self) -> int:
        """How many plain values it has: its own, or those of its codebooks."""
        return math.prod(self.shape) if self.layout is None else sum(self.sizes) * self.layout.length

    def array(self, items, codes) -> np.ndarray:
        if self.layout is None:
            return plain_values.from_bytes(items, self.dtype, self.shape)
        entries = plain_values.from_bytes(items, f"u{self.itemsize}", (-1, self.layout.length))
        codes = next(codes).astype(np.int64).reshape(self.layout.shape(self.shape))
        coding = Coding(self.layout, codes, np.array(self.sizes), entries)
        return np.ascontiguousarray(coding.array(self.shape)).view(self.dtype)


def _facts(array, coding) -> list:
    facts = [array.dtype.str.lstrip("<|="), list(array.shape)]
    if coding is None:
        return facts
    layout = coding.layout
    cut = [layout.split, layout.length, BOOKS.index(layout.books)]
    return [*facts, cut, coding.sizes.tolist()]


def _item_sizes(arrays) -> list[int]:
    return sorted({a.dtype.itemsize for a in arrays})
