"""Where zeros may fall: anywhere, n of m, in blocks, in whole rows or columns.

A pattern sees a kernel as a matrix (inputs it sums over, outputs) and decides which weights live and die
together (a unit) and which must stay.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tfsqueeze.core.layer_info import Kernel


@dataclass(frozen=True)
class Unstructured:
    """Any weight may become zero."""

    def pool(self, scores: np.ndarray) -> np.ndarray:
        """One score per unit."""
        return scores

    def spread(self, units: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """The units' mask as a mask of the weights, a matrix of `shape`."""
        return units

    def misfit(self, shape: tuple[int, int]) -> str | None:
        """Why a matrix of `shape` cannot take the pattern, or None if it can."""
        return None

    @property
    def max_sparsity(self) -> float:
        """The greatest fraction of zeros the pattern allows."""
        return 1.0


@dataclass(frozen=True)
class NofM(Unstructured):
    """At most `kept` weights of each `group` consecutive inputs are not zero, for every output.

    The pattern that sparse tensor cores read, with 2:4 (Mishra et al., Accelerating Sparse Deep Neural
    Networks, arXiv:2104.08378). A kernel whose inputs do not divide into groups stays dense, as there.

    Args:
        kept: weights that stay in each group, >= 1.
        group: size of a group, > `kept`.
    """

    kept: int
    group: int

    def __post_init__(self):
        if not 1 <= self.kept < self.group:
            raise ValueError(
                f"A pattern 'n:m' keeps n of m weights, 1 <= n < m. Received: '{self.kept}:{self.group}'."
            )

    def pool(self, scores):
        groups = scores.reshape(-1, self.group, scores.shape[1])
        # Comparing all pairs is several times faster than sorting many small groups.
        greater = np.zeros(groups.shape, np.min_scalar_type(self.group))
        for first, second in combinations(range(self.group), 2):
            is_second = groups[:, second] >= groups[:, first]
            greater[:, first] += is_second
            greater[:, second] += ~is_second
        return np.where(greater < self.kept, np.inf, groups).reshape(scores.shape)

    def misfit(self, shape):
        if shape[0] % self.group == 0:
            return None
        return f"its {shape[0]} inputs per output do not divide into groups of {self.group}"

    @property
    def max_sparsity(self):
        return 1 - self.kept / self.group


@dataclass(frozen=True)
class Blocks(Unstructured):
    """Blocks of `rows` inputs by `columns` outputs become zero together (Narang et al., arXiv:1711.02782).

    Args:
        rows, columns: size of a block, >= 1; None is the whole axis. Blocks at the far edges may be smaller.
        pooling: a block's score is the "average" or the "max" of its weights' scores.
    """

    rows: int | None
    columns: int | None
    pooling: str = "average"

    def __post_init__(self):
        sizes = [size for size in (self.rows, self.columns) if size is not None]
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(
                f"A block is (rows, columns), whole numbers >= 1. Received: ({self.rows}, {self.columns})."
            )
        if self.pooling not in ("average", "max"):
            raise ValueError(f"`pooling` must be 'average' or 'max'. Received: pooling={self.pooling!r}.")

    def pool(self, scores):
        rows, columns = self._sizes(scores.shape)
        missing = (-scores.shape[0] % rows, -scores.shape[1] % columns)
        padded = np.pad(scores.astype("float64"), [(0, pad) for pad in missing], constant_values=np.nan)
        blocks = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns)
        return (np.nanmax if self.pooling == "max" else np.nanmean)(blocks, axis=(1, 3))

    def spread(self, units, shape):
        rows, columns = self._sizes(shape)
        return units.repeat(rows, 0).repeat(columns, 1)[: shape[0], : shape[1]]

    def misfit(self, shape):
        if self.pool(np.zeros(shape)).size > 1:
            return None
        return "it is no larger than one block"

    def _sizes(self, shape) -> tuple[int, int]:
        return self.rows or shape[0], self.columns or shape[1]


NAMED = {
    "unstructured": Unstructured(),
    "rows": Blocks(1, None),
    "columns": Blocks(None, 1),
}


def as_pattern(value) -> Unstructured:
    """Reads "unstructured", "rows", "columns", "n:m", (rows, columns), or a pattern object.

    Raises:
        ValueError: if it is none of these, or its numbers make no sense.
    """
    if isinstance(value, Unstructured):
        return value
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    if isinstance(value, str) and all(part.isdigit() for part in value.split(":")) and value.count(":") == 1:
        return NofM(*map(int, value.split(":")))
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return Blocks(*value)
    raise ValueError(
        f"`pattern` must be one of {', '.join(map(repr, NAMED))}, 'n:m' such as '2:4', a block (rows, "
        f"columns), or a pattern object. Received: pattern={value!r}."
    )


def as_matrix(array: np.ndarray, kernel: Kernel) -> np.ndarray:
    """A kernel-shaped array as a matrix: the axes it sums over as rows, its output channels as columns."""
    moved = array.transpose(*kernel.inputs, *kernel.outputs)
    rows = int(np.prod([array.shape[axis] for axis in kernel.inputs]))
    return moved.reshape(rows, -1)


def from_matrix(matrix: np.ndarray, kernel: Kernel, shape) -> np.ndarray:
    """The reverse of `as_matrix` for a kernel of `shape`."""
    order = (*kernel.inputs, *kernel.outputs)
    moved = matrix.reshape([shape[axis] for axis in order])
    return moved.transpose(np.argsort(order))
