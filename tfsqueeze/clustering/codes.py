"""Arrays as codes: which of few distinct words stands where, found from the values alone."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tfsqueeze.clustering.entropy_coder import MAX_SYMBOLS

BOOKS = ("one", "segments", "columns")
LENGTHS = range(2, 33)
_TRIAL = 2**19
_LEAST_SIZE = 32
# Above this share of distinct values nothing is shared; seen on so many entries of a large array.
_MOST_DISTINCT = 0.75
_SAMPLE = 2**17


@dataclass(frozen=True)
class Layout:
    """How an array is cut into words.

    Attributes:
        split: how many leading axes count the rows of a matrix; the others count its columns.
        length: how many consecutive entries of a column make a word; divides the rows.
        books: "one" codebook, one for each of the "segments" that rows fall into, or one for each of the
            "columns".
    """

    split: int
    length: int
    books: str

    def words(self, bits: np.ndarray) -> np.ndarray:
        """The words of an array as (books, words, length)."""
        rows = math.prod(bits.shape[: self.split])
        parts = bits.reshape(rows // self.length, self.length, -1).transpose(0, 2, 1)
        if self.books == "columns":
            return parts.transpose(1, 0, 2)
        return parts if self.books == "segments" else parts.reshape(1, -1, self.length)

    def array(self, words: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Undoes `words`."""
        segments = math.prod(shape[: self.split]) // self.length
        parts = words.transpose(1, 0, 2) if self.books == "columns" else words
        return parts.reshape(segments, -1, self.length).transpose(0, 2, 1).reshape(shape)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Number of codebooks, and of words that each serves, for an array of a shape."""
        segments = math.prod(shape[: self.split]) // self.length
        columns = math.prod(shape[self.split :])
        return {
            "one": (1, segments * columns),
            "segments": (segments, columns),
            "columns": (columns, segments),
        }[self.books]


@dataclass(frozen=True)
class Coding:
    """An array as codes into codebooks.

    Attributes:
        layout: how the array was cut.
        codes: places in the codebooks, (books, words) integers.
        sizes: entries of each codebook, (books,).
        entries: all codebooks one after the other, (entries, length), as unsigned integers of the bits.
    """

    layout: Layout
    codes: np.ndarray
    sizes: np.ndarray
    entries: np.ndarray

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each code occurs in all codebooks together."""
        return np.bincount(self.codes.ravel(), minlength=int(self.sizes.max()))

    @property
    def entropy_bits(self) -> float:
        """The least bits that any code by single words can take (Shannon)."""
        share = self.counts[self.counts > 0] / self.codes.size
        return float(-(share * np.log2(share)).sum() * self.codes.size)

    @property
    def fixed_bits(self) -> int:
        """Bits with codes of equal length."""
        return self.codes.size * max(1, math.ceil(math.log2(self.sizes.max())))

    @property
    def codebook_bytes(self) -> int:
        """Bytes of the codebooks."""
        return self.entries.nbytes

    @property
    def cost(self) -> float:
        """Bits all in all, with a byte per code for its frequency."""
        return self.entropy_bits + 8 * (self.codebook_bytes + self.counts.size)

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """The array of bits that is coded."""
        offsets = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        return self.layout.array(self.entries[self.codes + offsets[:, None]], shape)


def as_bits(array: np.ndarray) -> np.ndarray:
    """The bits of an array as unsigned integers, so that equal means the same, for NaN and -0.0 too."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").reshape(array.shape)


def find_coding(array: np.ndarray) -> Coding | None:
    """The coding that takes the fewest bits; None where the values are best kept as they are.

    Finds values shared in the whole array or per output channel (its last axis), and words shared along the
    leading axes, as product quantization makes them.

    Args:
        array: numbers of any type of at most 8 bytes.
    """
    if array.size < _LEAST_SIZE or array.dtype.itemsize not in (1, 2, 4, 8):
        return None
    bits = as_bits(array)
    sample = bits.reshape(-1)[:: max(1, array.size // _SAMPLE)]
    if np.unique(sample).size > _MOST_DISTINCT * sample.size:
        return None
    values = np.unique(bits)
    labels = np.searchsorted(values, bits).astype(np.int64)
    layout = _best_layout(labels, values.size, bits.dtype.itemsize)
    coding = _coding(layout, labels, values)
    return coding if coding.cost < 7.6 * array.nbytes and coding.counts.size <= MAX_SYMBOLS else None


def _best_layout(labels, count, itemsize) -> Layout:
    """Tries layouts on as many columns as show the difference."""
    plain = Layout(labels.ndim, 1, "one")
    trials = {plain: _trial_cost(plain, labels, count, itemsize)}
    splits = range(1, labels.ndim)
    if count > 16 and labels.ndim > 1:
        trials |= _tried([Layout(labels.ndim - 1, 1, "columns")], labels, count, itemsize)
    for split in splits:
        rows = math.prod(labels.shape[:split])
        if count <= 4 or not _has_words(labels, split, count):
            continue
        lengths = [length for length in LENGTHS if rows % length == 0]
        layouts = [Layout(split, length, books) for length in lengths for books in ("one", "segments")]
        trials |= _tried(layouts, labels, count, itemsize)
    return min(trials, key=trials.get)


def _tried(layouts, labels, count, itemsize) -> dict[Layout, float]:
    return {layout: _trial_cost(layout, labels, count, itemsize) for layout in layouts}


def _trial_cost(layout, labels, count, itemsize) -> float:
    rows = math.prod(labels.shape[: layout.split])
    matrix = labels.reshape(rows, -1)
    # A plain sequence is one column; of a matrix, some whole columns show what rows have in common.
    most_rows = _TRIAL if layout.split == labels.ndim else rows
    part = matrix[:most_rows, : max(8, _TRIAL // rows)]
    words = Layout(1, layout.length, layout.books).words(part)
    codes, sizes, _ = _codes(words, count)
    grown = labels.size / part.size
    share = np.bincount(codes.ravel()) / codes.size
    share = share[share > 0]
    entropy = -(share * np.log2(share)).sum() * codes.size
    books = grown if layout.books == "columns" else 1.0
    return entropy * grown + 8 * (sizes.sum() * layout.length * itemsize * books + share.size)


def _has_words(labels, split, count) -> bool:
    """Whether neighbours say more of each other than chance: then words may be shared."""
    matrix = labels.reshape(math.prod(labels.shape[:split]), -1)
    if len(matrix) < 2:
        return False
    matrix = matrix[: len(matrix) // 2 * 2, : max(8, _TRIAL // len(matrix))]
    single = _entropy(matrix.ravel(), count)
    pairs = _entropy((matrix[0::2] * count + matrix[1::2]).ravel(), count * count)
    return pairs < 0.9 * 2 * single


def _entropy(keys, bound) -> float:
    labels, _ = _dense(keys, bound)
    share = np.bincount(labels) / labels.size
    return float(-(share * np.log2(share)).sum())


def _coding(layout, labels, values) -> Coding:
    words = layout.words(labels)
    codes, sizes, first = _codes(words, values.size)
    return Coding(layout, codes, sizes, values[words.reshape(-1, layout.length)[first]])


def _codes(words, count) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes (books, words), the size of each book, and where each entry is first seen; common ones first."""
    books, number, length = words.shape
    keys, bound = words[..., 0].ravel(), count
    for place in range(1, length):
        keys, bound = _dense(keys * count + words[..., place].ravel(), bound * count)
    keys, bound = _dense(np.repeat(np.arange(books), number) * bound + keys, books * bound)
    occurring = np.bincount(keys, minlength=bound)
    first = np.empty(bound, np.int64)
    first[keys[::-1]] = np.arange(keys.size - 1, -1, -1)
    book = first // number
    order = np.lexsort((-occurring, book))
    sizes = np.bincount(book, minlength=books)
    rank = np.empty(bound, np.int64)
    rank[order] = np.arange(bound) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank[keys].reshape(books, number), sizes, first[order]


def _dense(keys, bound) -> tuple[np.ndarray, int]:
    """Keys renamed 0, 1, ... without gaps, and how many there are."""
    if bound > max(4 * keys.size, 2**16):
        distinct, labels = np.unique(keys, return_inverse=True)
        return labels, distinct.size
    present = np.zeros(bound, bool)
    present[keys] = True
    labels = np.cumsum(present) - 1
    return labels[keys], int(labels[-1]) + 1
