"""Distributing zeros over layers so that the predicted loss of score is least."""

import itertools
import math

import numpy as np


def distribute_zeros(sizes: list[int], curves: list[list[tuple[float, float]]], sparsity: float) -> list[int]:
    """How many weights to zero in each layer.

    Each curve is made monotone (the loss at a sparsity is the largest up to it, at least 0) and replaced
    by its lower convex hull. The hulls' segments are then taken in order of their loss per zeroed weight
    until the total is reached; segments of equal cost are taken in equal parts. For convex curves this
    greedy choice is the optimum of the continuous problem (the solution of its Lagrangian); otherwise at
    most the last layers taken in part lie between two hull points, where their curve is above the hull.

    Args:
        sizes: weights per layer.
        curves: per layer, (sparsity, loss of score) by rising sparsity, beginning with (0, 0).
        sparsity: fraction of zeros over all layers, at most where the curves end.

    Returns:
        Zeros per layer, `round(sparsity * sum(sizes))` in total; at least one weight of each layer lives.
    """
    total = round(sparsity * sum(sizes))
    segments = [
        (cost, layer, width)
        for layer, (size, curve) in enumerate(zip(sizes, curves, strict=True))
        for cost, width in hull_segments(curve, size)
    ]
    zeros, left = np.zeros(len(sizes)), float(total)
    for cost in sorted({cost for cost, _, _ in segments}):
        tied = [(layer, width) for other, layer, width in segments if other == cost]
        share = min(1.0, left / sum(width for _, width in tied))
        for layer, width in tied:
            zeros[layer] += share * width
        left -= share * sum(width for _, width in tied)
        if left <= 0:
            break
    return _whole(zeros, sizes, total)


def extended(curve: list[tuple[float, float]], worst: float, end: float) -> list[tuple[float, float]]:
    """The curve with a cautious guess at `end`, beyond what was measured.

    Networks break down somewhere there, so it costs at least the `worst` loss measured in any layer, and
    not less than the curve's last slope foretells.

    Example:
        >>> extended([(0, 0.0), (0.5, 0.1)], worst=0.6, end=0.9)
        [(0, 0.0), (0.5, 0.1), (0.9, 0.6)]
    """
    (before, lower), (last, loss) = curve[-2:]
    if last >= end:
        return curve
    slope = max(loss - lower, 0.0) / (last - before)
    return [*curve, (end, max(worst, loss + slope * (end - last)))]


def hull_segments(curve: list[tuple[float, float]], size: int) -> list[tuple[float, float]]:
    """(loss per zeroed weight, number of weights) of each segment of a curve's lower convex hull.

    Example:
        >>> hull_segments([(0, 0.0), (0.5, 0.0), (1.0, 0.2)], 100)
        [(0.0, 50.0), (0.004, 50.0)]
    """
    sparsities, losses = zip(*curve, strict=True)
    weights = size * np.array(sparsities)
    losses = np.maximum.accumulate(np.maximum(losses, 0.0))
    hull = [0]
    for point in range(1, len(weights)):
        while len(hull) > 1 and _slope(weights, losses, *hull[-2:]) >= _slope(
            weights, losses, hull[-1], point
        ):
            hull.pop()
        hull.append(point)
    return [
        (_slope(weights, losses, start, end), float(weights[end] - weights[start]))
        for start, end in itertools.pairwise(hull)
    ]


def _slope(weights, losses, start: int, end: int) -> float:
    return float((losses[end] - losses[start]) / (weights[end] - weights[start]))


def _whole(zeros: np.ndarray, sizes: list[int], total: int) -> list[int]:
    """Rounds to whole numbers that add up to `total`, the largest remainders up; no layer is emptied."""
    counts = [min(math.floor(value + 1e-9), size - 1) for value, size in zip(zeros, sizes, strict=True)]
    by_remainder = np.argsort(np.array(counts) - zeros, kind="stable")
    while sum(counts) < total:
        open_layers = [layer for layer in by_remainder if counts[layer] + 1 < sizes[layer]]
        if not open_layers:
            break
        for layer in open_layers[: total - sum(counts)]:
            counts[layer] += 1
    return counts
