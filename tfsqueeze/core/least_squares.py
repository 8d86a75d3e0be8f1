"""Least squares from sums over the rows, so that the rows need not be held."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MOST_BYTES = 2**30
# Inputs per output of a layer: the sums of their products take 8 bytes times the square, half a gigabyte.
MOST_INPUTS = 8192
# Where each of many trials solves for all inputs, whose time grows with the cube: 512 channels of 3x3.
MOST_INPUTS_OF_TRIALS = 4608


def portions(items: Iterable[Item], bytes_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items in groups whose sums of products fit into memory together: at most a gigabyte, or one item."""
    portion, size = [], 0
    for item in items:
        needed = bytes_of(item)
        if portion and size + needed > MOST_BYTES:
            yield portion
            portion, size = [], 0
        portion, size = [*portion, item], size + needed
    if portion:
        yield portion


class LeastSquares:
    """Finds weights and bias with rows @ weights + bias closest to targets, for a stack of problems.

    Only the sums of products are kept: memory does not grow with the rows.

    Args:
        groups, inputs, outputs: number of independent problems, and their sizes.

    Example:
        >>> problem = LeastSquares(1, 2, 1)
        >>> problem.add(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), np.array([[[2.0]], [[3.0]]]))
        >>> weights, bias = problem.solve(np.zeros((1, 2, 1)), None, ridge=0)
        >>> weights.ravel()
        array([2., 3.])
    """

    def __init__(self, groups: int, inputs: int, outputs: int):
        self.products = np.zeros((groups, inputs + 1, inputs + 1))
        self.targets = np.zeros((groups, inputs + 1, outputs))
        self.squares = np.zeros((groups, outputs))

    @property
    def count(self) -> float:
        """Number of rows added."""
        return self.products[0, -1, -1]

    def add(self, rows: np.ndarray, targets: np.ndarray) -> None:
        """Counts in rows (rows, groups, inputs) with their targets (rows, groups, outputs)."""
        ones = np.ones((*rows.shape[:2], 1), "float32")
        left = np.concatenate([rows, ones], -1).transpose(1, 2, 0)
        right = np.swapaxes(targets, 0, 1)
        self.products += left @ left.transpose(0, 2, 1)
        self.targets += left @ right
        self.squares += np.square(right, dtype="float64").sum(1)

    def through(self, matrices: np.ndarray) -> "LeastSquares":
        """The problem of what follows when the rows first go through a matrix.

        Args:
            matrices: shape (groups, inputs, inner).
        """
        groups, _, inner = matrices.shape
        full = np.pad(matrices.astype("float64"), ((0, 0), (0, 1), (0, 1)))
        full[:, -1, -1] = 1
        problem = LeastSquares(groups, inner, self.targets.shape[-1])
        problem.products = full.transpose(0, 2, 1) @ self.products @ full
        problem.targets = full.transpose(0, 2, 1) @ self.targets
        problem.squares = self.squares
        return problem

    def error(self, weights: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        """Mean squared error per group and output, shape (groups, outputs)."""
        full = _joined(weights, bias)
        fitted = (full * (self.products @ full)).sum(1)
        return np.maximum(self.squares - 2 * (full * self.targets).sum(1) + fitted, 0) / self.count

    def relative_error(self, weights: np.ndarray, bias: np.ndarray | None) -> float:
        """Squared error relative to the variance of the targets: 0 is exact, 1 as good as a constant."""
        variance = self.squares / self.count - np.square(self.targets[:, -1] / self.count)
        return float(self.error(weights, bias).sum() / max(variance.sum(), 1e-12))

    def solve(
        self, weights: np.ndarray, bias: np.ndarray | None, *, ridge: float = 1e-3
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The best change of given weights and bias; never worse than they are.

        Args:
            weights: what to start from, shape (groups, inputs, outputs).
            bias: what to start from, shape (groups, outputs), or None to fit weights alone.
            ridge: penalty on the squared change, relative to the mean squared input, >= 0.

        Returns:
            New weights and bias; the bias is None if it was.
        """
        start = _joined(weights, bias)
        size = start.shape[1] if bias is not None else start.shape[1] - 1
        products = self.products[:, :size, :size]
        gradient = (self.targets - self.products @ start)[:, :size]
        scale = np.einsum("gkk->g", self.products[:, :-1, :-1]) / max(weights.shape[1], 1)
        penalty = np.eye(size) * (ridge * scale + 1e-9 * self.count)[:, None, None]
        if bias is not None:
            penalty[:, -1, -1] = 0
        change = np.stack([_solved(a, b) for a, b in zip(products + penalty, gradient, strict=True)])
        found = start.copy()
        found[:, :size] += change
        return found[:, :-1], found[:, -1] if bias is not None else None


def best_fit(
    problem: LeastSquares, held_out: LeastSquares, weights: np.ndarray, bias: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Weights and bias fitted with the penalty that serves other rows best.

    Args:
        problem: what to fit.
        held_out: the same problem on other rows, to choose the penalty by.
        weights, bias: what to start from, as in `LeastSquares.solve`.

    Returns:
        New weights and bias; None if no penalty makes them better than the given ones on both.
    """
    best, lowest = None, held_out.relative_error(weights, bias)
    for ridge in RIDGES:
        found = problem.solve(weights, bias, ridge=ridge)
        error = held_out.relative_error(*found)
        if error < lowest:
            best, lowest = found, error
    return best


def _joined(weights, bias) -> np.ndarray:
    last = np.zeros((len(weights), weights.shape[2])) if bias is None else bias
    return np.concatenate([weights, last[:, None]], 1).astype("float64")


def _solved(matrix, right) -> np.ndarray:
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, right, rcond=None)[0]
