"""Weighted k-means on numbers, over a fine histogram: an iteration costs the same for any number of them."""

from dataclasses import dataclass

import numpy as np

from tfsqueeze.clustering.centroids import initial_centroids

BINS = 2**16
# With fewer bins in use, outliers have stretched the histogram until it is too coarse.
_LEAST_USED = 2**12
ITERATIONS = 500


@dataclass(frozen=True)
class Points:
    """Places on a line in rising order that stand for many numbers.

    Attributes:
        values: the places, rising, float64 of shape (n,).
        mass: their weights, > 0, shape (n,).
        index: for each number its place, integers.
    """

    values: np.ndarray
    mass: np.ndarray
    index: np.ndarray


def cluster_values(
    values: np.ndarray, clusters: int, init: str | np.ndarray, seed: int, importance: np.ndarray | None = None
) -> np.ndarray:
    """Replaces numbers by at most `clusters` distinct ones, at a locally least squared error.

    Args:
        values: finite float32 numbers, shape (n,).
        clusters: most distinct values, >= 1.
        init: how centroids start, see `tfsqueeze.clustering.centroids`.
        seed: of what is random in that.
        importance: weight of each number's squared error, >= 0, shape (n,); None for 1 each.

    Returns:
        Array of the same shape: each number's centroid. Unchanged if there are no more distinct numbers.

    Source: Lloyd, Least squares quantization in PCM, 1982.
    """
    # A trace of weight for what has none keeps it near its centroid too.
    if importance is not None:
        importance = importance + (importance.mean(dtype="float64") * 1e-6 + 1e-30)
    points = _histogram(values, importance) or _distinct(values, importance)
    if points.values.size <= clusters:
        return values
    start = initial_centroids(points.values, points.mass, clusters, init, seed)
    centroids = lloyd(points.values, points.mass, start)
    label = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, points.values)
    return centroids.astype(values.dtype)[label][points.index]


def lloyd(values: np.ndarray, mass: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Moves centroids to the means of what is nearest to them until nothing changes.

    Args:
        values: places, rising, shape (n,).
        mass: their weights.
        centroids: where to start, rising, float64 of shape (k,).

    Returns:
        Rising centroids; those without points stay where they are.
    """
    mass, moment = (np.concatenate([[0.0], np.cumsum(mass * values**p)]) for p in (0, 1))
    before = None
    for _ in range(ITERATIONS):
        ends = np.searchsorted(values, (centroids[1:] + centroids[:-1]) / 2)
        if before is not None and np.array_equal(ends, before):
            break
        before = ends
        edges = np.concatenate([[0], ends, [values.size]])
        masses = np.diff(mass[edges])
        means = np.diff(moment[edges]) / np.where(masses > 0, masses, 1)
        centroids = np.sort(np.where(masses > 0, means, centroids))
    return centroids


def _histogram(values, importance) -> Points | None:
    """Means of the numbers in each of many bins; None where the numbers themselves serve better."""
    if values.size <= BINS:
        return None
    low, high = float(values.min()), float(values.max())
    scale = np.float32(BINS / max(high - low, 1e-30))
    index = ((values - np.float32(low)) * scale).astype(np.int32)
    np.minimum(index, BINS - 1, out=index)
    mass = np.bincount(index, importance, BINS).astype("float64")
    used = mass > 0
    if np.count_nonzero(used) < _LEAST_USED:
        return None
    moment = np.bincount(index, values if importance is None else importance * values, BINS)
    place = np.cumsum(used, dtype=np.int32) - 1
    return Points(moment[used] / mass[used], mass[used], place[index])


def _distinct(values, importance) -> Points:
    distinct = np.unique(values)
    index = np.searchsorted(distinct, values)
    mass = np.bincount(index, importance, distinct.size).astype("float64")
    return Points(distinct.astype("float64"), mass, index)
