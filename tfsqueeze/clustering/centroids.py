"""Where centroids start."""

import numpy as np

INITIALIZATIONS = ("kmeans++", "linear", "density", "random", "optimal")
_COARSE = 512


def initial_centroids(
    values: np.ndarray, mass: np.ndarray, clusters: int, init: str | np.ndarray, seed: int
) -> np.ndarray:
    """Starting centroids for weighted k-means on a line.

    Args:
        values: distinct places in rising order, more than `clusters`.
        mass: their weights, > 0.
        clusters: how many centroids.
        init: "kmeans++": drawn far apart (Arthur & Vassilvitskii, 2007). "linear": evenly between the
            least and the greatest, which serves the few large weights (Han et al., arXiv:1510.00149, 3.2).
            "density": at even quantiles. "random": drawn from the values. "optimal": the least squared
            error there is, by dynamic programming over a histogram (Wang & Song, Ckmeans.1d.dp, 2011).
            An array: rising centroids to start from.
        seed: of "kmeans++" and "random".

    Returns:
        Rising float64 centroids, shape (clusters,), or `init` itself.
    """
    if isinstance(init, np.ndarray):
        return init
    if init == "linear":
        return np.linspace(values[0], values[-1], clusters)
    if init == "density":
        reached = np.cumsum(mass) / mass.sum()
        places = np.searchsorted(reached, (np.arange(clusters) + 0.5) / clusters)
        return values[places.clip(0, values.size - 1)].astype("float64")
    rng = np.random.default_rng(seed)
    if init == "random":
        return np.sort(rng.choice(values, clusters, replace=False, p=mass / mass.sum()))
    return _optimal(values, mass, clusters) if init == "optimal" else _far_apart(values, mass, clusters, rng)


def _far_apart(values, mass, clusters, rng) -> np.ndarray:
    """Greedy k-means++: of a few candidates drawn by squared distance, the one that lowers the error most."""
    chosen = [rng.choice(values, p=mass / mass.sum())]
    distance = np.square(values - chosen[0])
    tries = 2 + int(np.log(clusters))
    for _ in range(clusters - 1):
        reached = np.cumsum(mass * distance)
        places = np.searchsorted(reached, rng.random(tries) * reached[-1]).clip(0, values.size - 1)
        options = np.minimum(distance, np.square(values - values[places, None]))
        best = int(np.argmin(options @ mass))
        chosen.append(values[places[best]])
        distance = options[best]
    return np.sort(np.asarray(chosen, "float64"))


def _optimal(values, mass, clusters) -> np.ndarray:
    """The best split of a line into intervals, each at its mean."""
    values, mass = _coarser(values, mass, max(_COARSE, 4 * clusters))
    size = values.size
    weight, moment, square = (np.concatenate([[0.0], np.cumsum(mass * values**p)]) for p in range(3))
    start, end = np.ogrid[: size + 1, : size + 1]
    within = np.where(end > start, weight[end] - weight[start], 1.0)
    cost = square[end] - square[start] - np.square(moment[end] - moment[start]) / within
    cost = np.where(end >= start, np.maximum(cost, 0), np.inf)
    best, splits = cost[0], []
    for _ in range(clusters - 1):
        total = best[:, None] + cost
        splits.append(total.argmin(0))
        best = total.min(0)
    edges = [size]
    for split in reversed(splits):
        edges.append(int(split[edges[-1]]))
    edges = np.array([*reversed(edges)])
    edges = np.concatenate([[0], edges])
    masses = np.diff(weight[edges])
    means = np.diff(moment[edges]) / np.where(masses > 0, masses, 1)
    return np.sort(np.where(masses > 0, means, values[-1]))


def _coarser(values, mass, bins):
    if values.size <= bins:
        return values.astype("float64"), mass
    scaled = (values - values[0]) * (bins / (values[-1] - values[0]))
    index = scaled.astype(np.int64).clip(0, bins - 1)
    weight, moment = np.bincount(index, mass, bins), np.bincount(index, mass * values, bins)
    kept = weight > 0
    return moment[kept] / weight[kept], weight[kept]
