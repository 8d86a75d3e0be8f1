"""How a sparsity is distributed over the kernels of a model.

A scope turns one sparsity for the whole model into one per kernel.
"""

import re
from collections.abc import Mapping

import numpy as np

from tfsqueeze.core.checks import check_choice, check_fraction, did_you_mean
from tfsqueeze.pruning.targets import Target

SCOPES = ("layer", "global", "lamp", "erk")


def check_scope(scope):
    """Returns `scope` if it is a known name or a map of patterns to sparsities."""
    if not isinstance(scope, Mapping):
        return check_choice("scope", scope, SCOPES)
    for pattern, sparsity in scope.items():
        check_fraction(f"scope[{pattern!r}]", sparsity)
    return scope


def distribute(
    scope, targets: list[Target], units: list[np.ndarray], sparsity: float, progress: float = 1.0
) -> list[float]:
    """The fraction of units to drop in each kernel.

    Args:
        scope: "layer": the same everywhere. "global": the lowest scores of the whole model. "lamp": the same
            after scores are made comparable between layers (Lee et al., Layer-adaptive Sparsity for the
            Magnitude-based Pruning, arXiv:2010.07611, eq. 4). "erk": more from kernels with more weights
            per channel (Erdos-Renyi kernel; Evci et al., Rigging the Lottery, arXiv:1911.11134,
            section 3). A map of regular expressions on layer paths to
            sparsities: those, and nothing for the others.
        targets: the kernels.
        units: the scores of each kernel's units; infinite where a unit must stay.
        sparsity: fraction of units to drop over all kernels, in [0, 1).
        progress: how much of a map's sparsities applies, in [0, 1].
    """
    if isinstance(scope, Mapping):
        return [progress * fraction for fraction in _explicit(scope, targets)]
    if scope == "global":
        return _global(units, sparsity)
    if scope == "lamp":
        return _lamp(units, sparsity)
    if scope == "erk":
        return _erk([tuple(target.variable.shape) for target in targets], sparsity)
    return [sparsity] * len(targets)


def _explicit(scope, targets) -> list[float]:
    paths = [target.path.rsplit("/", 1)[0] for target in targets]
    for pattern in scope:
        if not any(_matches(pattern, path) for path in paths):
            hint = did_you_mean(pattern, paths)
            raise ValueError(f"`scope` names no pruned layer: {pattern!r}. {hint} Pruned are: {paths}.")
    return [next((s for pattern, s in scope.items() if _matches(pattern, path)), 0.0) for path in paths]


def _matches(pattern: str, path: str) -> bool:
    return any(pattern == name or re.fullmatch(pattern, name) for name in (path, path.rsplit("/", 1)[-1]))


def _global(units, sparsity) -> list[float]:
    """Counts, for each kernel, its units among the lowest of all."""
    drop = round(sparsity * sum(score.size for score in units))
    if drop == 0:
        return [0.0] * len(units)
    everything = np.concatenate([score.ravel() for score in units])
    threshold = np.partition(everything, drop - 1)[drop - 1]
    counts = [np.count_nonzero(score < threshold) for score in units]
    ties = drop - sum(counts)
    for index, score in enumerate(units):
        taken = min(ties, np.count_nonzero(score == threshold))
        counts[index] += taken
        ties -= taken
    return [count / score.size for count, score in zip(counts, units, strict=True)]


def _lamp(units, sparsity) -> list[float]:
    return _global([lamp_scores(score) for score in units], sparsity)


def lamp_scores(scores: np.ndarray) -> np.ndarray:
    """The square of each score over the sum of the squares not smaller than it, in ascending order.

    It makes magnitudes of different layers comparable, and the last weight of a layer always scores 1.
    """
    ordered = np.sort(scores, axis=None).astype("float64")
    finite = np.isfinite(ordered)
    squares = np.square(ordered, where=finite, out=np.zeros_like(ordered))
    remaining = np.cumsum(squares[::-1])[::-1]
    return np.where(finite, squares / np.maximum(remaining, np.finfo("float64").tiny), np.inf)


def _erk(shapes, sparsity) -> list[float]:
    """Densities in proportion to sum(shape) / prod(shape); kernels that would exceed 1 stay dense."""
    sizes = np.array([np.prod(shape) for shape in shapes], "float64")
    raw = np.array([np.sum(shape) for shape in shapes]) / sizes
    dense = np.zeros(len(shapes), bool)
    while True:
        budget = (1 - sparsity) * sizes.sum() - sizes[dense].sum()
        factor = budget / (raw * sizes)[~dense].sum() if not dense.all() else 0.0
        over = ~dense & (factor * raw > 1)
        if not over.any():
            return [0.0 if full else 1 - factor * part for full, part in zip(dense, raw, strict=True)]
        dense |= over
