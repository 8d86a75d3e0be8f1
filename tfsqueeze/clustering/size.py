"""What weights take as codes: of equal length, Huffman-coded, and at the Shannon limit."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np

from tfsqueeze.clustering.codes import Coding, as_bits, find_coding
from tfsqueeze.clustering.huffman import huffman_bits, sparse_bits
from tfsqueeze.core.checks import check_model

_DENSE_INDEX_BITS, _CONVOLUTION_INDEX_BITS = 5, 8


@dataclass(frozen=True)
class WeightSize:
    """Bytes of one weight tensor in each form; the last four contain its codebooks.

    Attributes:
        path: of the variable in the model.
        weights: how many there are.
        zeros: how many are zero.
        words: how many distinct values, or sub-vectors, have codes; 0 where weights are kept as they are.
        length: weights per code.
        raw: as they are in memory.
        fixed: codes of equal length.
        huffman: Huffman-coded, zeros as a code among others.
        sparse: as in Deep Compression: Huffman-coded gaps between non-zeros, and their codes.
        shannon: the least that any code by single words can take.
    """

    path: str
    weights: int
    zeros: int
    words: int
    length: int
    raw: float
    fixed: float
    huffman: float
    sparse: float
    shannon: float


@dataclass(frozen=True)
class HuffmanSize:
    """Sizes of a model's weights, per tensor and in all.

    Attributes:
        rows: one per weight tensor.
        gzipped: bytes of all weights as they are, gzipped.
    """

    rows: list[WeightSize]
    gzipped: int

    @cached_property
    def raw(self) -> int:
        """Bytes of the weights as they are."""
        return self._total(lambda row: row.raw)

    @cached_property
    def fixed(self) -> int:
        """Bytes of codes of equal length and codebooks."""
        return self._total(lambda row: row.fixed)

    @cached_property
    def huffman(self) -> int:
        """Bytes of Huffman-coded codes and codebooks."""
        return self._total(lambda row: row.huffman)

    @cached_property
    def deep_compression(self) -> int:
        """Bytes as Deep Compression counts: per tensor the smaller of the sparse and the dense form."""
        return self._total(lambda row: min(row.sparse, row.huffman))

    @cached_property
    def shannon(self) -> int:
        """The least bytes that any code by single words can take, with codebooks."""
        return self._total(lambda row: row.shannon)

    def _total(self, of: Callable[[WeightSize], float]) -> int:
        return round(sum(map(of, self.rows)))

    def __str__(self) -> str:
        coded = [row for row in self.rows if row.words]
        width = max((len(row.path) for row in coded), default=5)
        lines = [
            f"{'shared':<{width}} {'weights':>11} {'zeros':>6} {'words':>6} {'bytes':>12} {'Shannon':>11}"
        ]
        lines += [
            f"{row.path:<{width}} {row.weights:>11,} {row.zeros / row.weights:>6.0%} {row.words:>6,} "
            f"{row.raw:>12,.0f} {row.shannon:>11,.0f}"
            for row in coded
        ]
        totals = {
            "as they are": self.raw,
            "gzipped": self.gzipped,
            "codes of equal length": self.fixed,
            "Huffman-coded": self.huffman,
            "Deep Compression": self.deep_compression,
            "Shannon limit": self.shannon,
        }
        lines += [f"{name:<22} {size:>12,} bytes  {self.raw / size:5.1f}x" for name, size in totals.items()]
        return "\n".join(lines)


def huffman_size(model: keras.Model) -> HuffmanSize:
    """Counts what the weights of a model take once shared values and zeros are stored as codes.

    The counts hold the codebooks, and all weights that share nothing, as they are. `tfs.pack` writes a file
    close to the Shannon limit.

    Args:
        model: any built model; whether it was clustered, pruned or product-quantized is found from its
            weights.

    Returns:
        Sizes in bytes: `raw`, `gzipped`, `fixed`, `huffman`, `deep_compression`, `shannon`; one row per
        weight tensor in `rows`; printed, a table.

    Raises:
        TypeError, UnsupportedModelError: if it is no built `keras.Model`.

    Example:
        >>> print(tfs.huffman_size(tfs.cluster(tfs.prune(model, 0.9), 16)))

    Source: Han et al., Deep Compression, arXiv:1510.00149, tables 1-5.
    """
    check_model(model, "huffman_size()")
    arrays = {variable.path: keras.ops.convert_to_numpy(variable) for variable in model.weights}
    rows = [_size(path, array) for path, array in arrays.items() if array.size]
    content = b"".join(array.tobytes() for array in arrays.values())
    return HuffmanSize(rows, len(gzip.compress(content, 6)))


def _size(path: str, array: np.ndarray) -> WeightSize:
    coding = find_coding(array)
    facts = {"path": path, "weights": array.size, "zeros": int((array == 0).sum()), "raw": array.nbytes}
    if coding is None:
        same = dict.fromkeys(("fixed", "huffman", "sparse", "shannon"), array.nbytes)
        return WeightSize(**facts, words=0, length=1, **same)
    bits = {
        "fixed": coding.fixed_bits,
        "huffman": (dense := huffman_bits(coding.counts)),
        "sparse": _sparse_bits(coding, array) or dense,
        "shannon": coding.entropy_bits,
    }
    sizes = {name: count / 8 + coding.codebook_bytes for name, count in bits.items()}
    return WeightSize(**facts, words=len(coding.entries), length=coding.layout.length, **sizes)


def _sparse_bits(coding: Coding, array) -> int | None:
    """None where zero has no code of its own in a single codebook of single values."""
    if coding.layout.length > 1 or coding.layout.books != "one" or not (as_bits(array) == 0).any():
        return None
    zero = int(np.flatnonzero(coding.entries[:, 0] == 0)[0])
    index_bits = _DENSE_INDEX_BITS if array.ndim == 2 else _CONVOLUTION_INDEX_BITS
    return sparse_bits(coding.codes.ravel(), zero, index_bits)
