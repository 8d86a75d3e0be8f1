"""LAMP: how many weights each layer loses, once magnitudes of different layers are made comparable.

Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, arXiv:2010.07611, eq. 4.
"""

from dataclasses import dataclass

import numpy as np

from tfsqueeze.pruning.threshold import CELLS, cell_starts, cells_of, ranked

_TINY = np.finfo("float64").tiny
# Sums of squares depend on the order of summation in their last digits.
_ROUNDING = 1e-9


def lamp_scores(scores: np.ndarray, beyond: float = 0.0) -> np.ndarray:
    """The square of each score over the sum of the squares not smaller than it, in ascending order.

    It makes magnitudes of different layers comparable, and the last weight of a layer always scores 1.

    Args:
        scores: numbers >= 0, of any shape; infinite ones stay infinite and count in no sum.
        beyond: sum of the squares of greater scores that were not passed.
    """
    ordered = np.sort(scores, axis=None).astype("float64")
    finite = np.isfinite(ordered)
    squares = np.square(ordered, where=finite, out=np.zeros_like(ordered))
    remaining = np.cumsum(squares[::-1])[::-1] + beyond
    return np.where(finite, squares / np.maximum(remaining, _TINY), np.inf)


def lamp_counts(units: list[np.ndarray], count: int) -> list[int]:
    """How many entries of each array are among the `count` of all with the lowest LAMP scores.

    A histogram of each array bounds the LAMP scores of its cells from both sides, so that only the few
    entries in cells that may hold the threshold need their exact scores.

    Args:
        units: float scores of any shape, one array per kernel; those below 0 count as 0.
        count: entries to drop over all arrays; of equal scores those of the first arrays go.
    """
    if count == 0:
        return [0] * len(units)
    histograms = [_Histogram.of(np.maximum(unit.ravel(), 0)) for unit in units]
    sizes = np.concatenate([histogram.counts for histogram in histograms])
    lowest, highest = (
        _weighted_rank(np.concatenate(bounds), sizes, count - 1)
        for bounds in zip(*(histogram.bounds() for histogram in histograms), strict=True)
    )
    parts = [histogram.between(lowest, highest) for histogram in histograms]
    below = [safe for safe, _ in parts]
    open_scores = [scores for _, scores in parts]
    limit = ranked(open_scores, count - sum(below) - 1)
    counts = [safe + np.count_nonzero(s < limit) for safe, s in zip(below, open_scores, strict=True)]
    return _with_ties(counts, [np.count_nonzero(s == limit) for s in open_scores], count)


@dataclass(frozen=True)
class _Histogram:
    """One array by cells that are not empty: how many numbers each holds, and the sum of their squares."""

    numbers: np.ndarray
    cells: np.ndarray
    filled: np.ndarray
    counts: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray) -> "_Histogram":
        cells = cells_of(numbers)
        counts = np.bincount(cells, minlength=CELLS)
        squares = np.bincount(cells, weights=np.square(numbers, dtype="float64"), minlength=CELLS)
        filled = np.flatnonzero(counts)
        # Infinity has a cell of its own.
        return cls(numbers, cells, filled, counts[filled], np.nan_to_num(squares[filled], posinf=0.0))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest LAMP score that the numbers of each cell can have."""
        dtype = self.numbers.dtype
        with np.errstate(over="ignore", invalid="ignore"):
            starts = np.square(cell_starts(self.filled, dtype), dtype="float64")
            # The cell after infinity is no number.
            ends = np.nan_to_num(np.square(cell_starts(self.filled + 1, dtype), dtype="float64"))
            onward = np.cumsum(self.squares[::-1])[::-1]
            highest = 1 / (1 + np.append(onward[1:], 0.0) / np.maximum(ends, _TINY))
        finite = np.isfinite(starts)
        lowest = np.where(finite, starts / np.maximum(onward, _TINY), np.inf)
        return lowest * (1 - _ROUNDING), np.where(finite, highest, np.inf) * (1 + _ROUNDING)

    def between(self, lowest: float, highest: float) -> tuple[int, np.ndarray]:
        """How many numbers surely score less than `lowest`, and the scores of those that may lie between."""
        from_scores, to_scores = self.bounds()
        first = int(np.searchsorted(to_scores, lowest, side="left"))
        stop = int(np.searchsorted(from_scores, highest, side="right"))
        below = int(self.counts[:first].sum())
        if first >= stop:
            return below, np.empty(0)
        inside = (self.cells >= self.filled[first]) & (self.cells <= self.filled[stop - 1])
        return below, lamp_scores(self.numbers[inside], float(self.squares[stop:].sum()))


def _weighted_rank(values: np.ndarray, sizes: np.ndarray, rank: int) -> float:
    """The value of a rank where each value stands for as many as `sizes` says."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(sizes[order]), rank, side="right")])


def _with_ties(counts: list[int], ties: list[int], total: int) -> list[int]:
    missing = total - sum(counts)
    for index, number in enumerate(ties):
        taken = min(missing, number)
        counts[index] += taken
        missing -= taken
    return [int(count) for count in counts]
