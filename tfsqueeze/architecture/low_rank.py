"""Matrices as products of two thin ones, weighted by what they are applied to."""

import numpy as np

FLOOR = 1e-6


class LowRank:
    """The best approximations of a matrix by products of two, one per rank.

    With the second moment of the rows that the matrix is applied to, the error that counts is that of the
    products, not of the entries: inputs that are small or alike weigh less.

    Args:
        matrix: shape (inputs, outputs).
        moment: second moment or covariance of the input rows, (inputs, inputs); None weighs all alike.

    Attributes:
        energies: squared singular values of the weighted matrix, in descending order.

    Example:
        >>> first, last = LowRank(np.outer([1.0, 2.0], [3.0, 4.0])).factors(1)
        >>> first @ last
        array([[3., 4.],
               [6., 8.]])

    Source: Wang et al., SVD-LLM, arXiv:2403.07378; Zhang et al., Accelerating Very Deep Convolutional
    Networks, arXiv:1505.06798.
    """

    def __init__(self, matrix: np.ndarray, moment: np.ndarray | None = None):
        self._matrix = np.asarray(matrix, "float64")
        inputs, outputs = self._matrix.shape
        # The smaller side is cheaper; without inverses on the side of the outputs.
        self._root = None
        if outputs <= inputs:
            weighted = self._matrix if moment is None else moment @ self._matrix
            gram = self._matrix.T @ weighted
        else:
            self._root = roots(np.eye(inputs) if moment is None else moment)
            weighted = self._root[0] @ self._matrix
            gram = weighted @ weighted.T
        self.energies, self._basis = descending(gram)

    def factors(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Matrices (inputs, rank) and (rank, outputs) whose product is closest, of balanced size."""
        basis = self._basis[:, :rank]
        if self._root is None:
            return balanced(self._matrix @ basis, basis.T)
        root, inverse = self._root
        return balanced(inverse @ basis, basis.T @ root @ self._matrix)


def balanced(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same product with inner columns and rows of equal norms: easier to train and to quantize."""
    before, after = np.linalg.norm(first, axis=0), np.linalg.norm(last, axis=1)
    is_used = (before > 0) & (after > 0)
    scale = np.sqrt(np.where(is_used, after, 1) / np.where(is_used, before, 1))
    return first * scale, last / scale[:, None]


def roots(moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric square root of a second moment, and its inverse; directions without inputs count little."""
    values, vectors = np.linalg.eigh(moment)
    values = np.sqrt(np.maximum(values, max(FLOOR * values.max(), 1e-30)))
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def descending(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest first and none below 0, with their vectors as columns."""
    values, vectors = np.linalg.eigh(gram)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def lost_energy(energies: np.ndarray) -> np.ndarray:
    """The fraction of energy that is lost at each rank, from 1 to all."""
    total = max(energies.sum(), 1e-30)
    lost = np.maximum(1 - np.cumsum(energies) / total, 0)
    lost[-1] = 0
    return lost
