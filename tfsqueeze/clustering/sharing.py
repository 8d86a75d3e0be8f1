"""The rule by which one kernel's weights come to share values."""

import numbers
from dataclasses import dataclass

import numpy as np

from tfsqueeze.clustering.centroids import INITIALIZATIONS
from tfsqueeze.clustering.kmeans import cluster_values
from tfsqueeze.clustering.targets import SharedKernel
from tfsqueeze.core.checks import check_choice

MAX_CLUSTERS = 4096


@dataclass(frozen=True)
class SharingRule:
    """How many distinct values a kernel keeps, and which.

    Args:
        clusters: most distinct values per kernel, or per output channel, in [2, 4096].
        init: how centroids start, see `tfsqueeze.clustering.centroids`.
        per_channel: whether each output channel has values of its own.
        preserve_zeros: whether weights that are zero stay so, zero being one of the values.
        seed: of what is random.

    Raises:
        ValueError: if an option is unknown or out of range.
    """

    clusters: int
    init: str = "kmeans++"
    per_channel: bool = False
    preserve_zeros: bool = True
    seed: int = 0

    def __post_init__(self):
        check_clusters(self.clusters)
        check_choice("init", self.init, INITIALIZATIONS)

    def share(self, target: SharedKernel, importance: np.ndarray | None = None) -> np.ndarray:
        """The kernel with shared values; unchanged where it has no more distinct ones than allowed.

        Args:
            target: a kernel with finite weights.
            importance: weight of each squared error, of the kernel's shape.
        """

        return self._by_row(self._shared, target, target.weights, importance)

    def nearest(self, target: SharedKernel, weights: np.ndarray, shared: np.ndarray) -> np.ndarray:
        """Weights that have moved on from the values they shared, each at the nearest of these values.

        Args:
            target: the kernel.
            weights: the moved weights, of the kernel's shape; zero where they must stay so.
            shared: the kernel as it is.
        """

        def share(values, present):
            alive = self._alive(values)
            given = np.unique(present[alive])
            found = np.zeros_like(values)
            if given.size:
                found[alive] = given[np.searchsorted((given[1:] + given[:-1]) / 2, values[alive])]
            return found

        return self._by_row(share, target, weights, shared)

    def _by_row(self, share, target, weights, beside) -> np.ndarray:
        if not self.per_channel:
            flat = None if beside is None else beside.ravel()
            return share(weights.ravel(), flat).reshape(weights.shape)
        rows = target.channels(weights)
        others = [None] * len(rows) if beside is None else target.channels(beside)
        return target.from_channels(np.stack([share(*pair) for pair in zip(rows, others, strict=True)]))

    def distinct(self, target: SharedKernel) -> int:
        """Distinct values of a kernel: the most in any channel if they are per channel."""
        weights = target.variable.numpy()
        if not self.per_channel:
            return np.unique(weights).size
        return max(np.unique(row).size for row in target.channels(weights))

    def _shared(self, values, importance) -> np.ndarray:
        alive = self._alive(values)
        clusters = self.clusters if alive.all() else self.clusters - 1
        masses = None if importance is None else importance[alive]
        shared = np.zeros_like(values)
        if alive.any():
            shared[alive] = cluster_values(values[alive], clusters, self.init, self.seed, masses)
        return shared

    def _alive(self, values) -> np.ndarray:
        return values != 0 if self.preserve_zeros else np.ones(values.shape, bool)


def check_clusters(clusters) -> int:
    """Returns `clusters` if it is an integer in [2, 4096]."""
    is_integer = isinstance(clusters, numbers.Integral) and not isinstance(clusters, bool)
    if not is_integer or not 2 <= clusters <= MAX_CLUSTERS:
        raise ValueError(
            f"`clusters` is the number of distinct values and must be an integer in [2, {MAX_CLUSTERS}]. "
            f"Received: clusters={clusters!r}."
        )
    return int(clusters)
