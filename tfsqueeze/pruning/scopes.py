"""How a sparsity is distributed over the kernels of a model.

A scope turns one sparsity for the whole model into the units that each kernel keeps.
"""

import re
from collections.abc import Mapping

import numpy as np

from tfsqueeze.core.checks import check_choice, check_fraction, did_you_mean
from tfsqueeze.core.targets import Target
from tfsqueeze.pruning.lamp import lamp_counts
from tfsqueeze.pruning.threshold import drop_lowest

SCOPES = ("layer", "global", "lamp", "erk")


def check_scope(scope):
    """Returns `scope` if it is a known name or a map of patterns to sparsities."""
    if not isinstance(scope, Mapping):
        return check_choice("scope", scope, SCOPES)
    for pattern, sparsity in scope.items():
        check_fraction(f"scope[{pattern!r}]", sparsity)
    return scope


def keep(
    scope, targets: list[Target], units: list[np.ndarray], sparsity: float, progress: float = 1.0
) -> list[np.ndarray]:
    """Which units of each kernel stay.

    Args:
        scope: "layer": the same sparsity everywhere. "global": the lowest scores of the whole model go.
            "lamp": the same after scores are made comparable between layers (`tfsqueeze.pruning.lamp`).
            "erk": more from kernels with more weights per channel (Erdos-Renyi kernel; Evci et al.,
            Rigging the Lottery, arXiv:1911.11134, section 3). A map of regular expressions on layer paths
            to sparsities: those, and nothing for the others.
        targets: the kernels.
        units: the scores of each kernel's units, floats; infinite where a unit must stay.
        sparsity: fraction of units to drop over all kernels, in [0, 1).
        progress: how much of a map's sparsities applies, in [0, 1].

    Returns:
        A boolean array per kernel, of the shape of its units, True where a unit stays.
    """
    if scope == "global":
        return drop_lowest(units, _total(units, sparsity))
    counts = _counts(scope, targets, units, sparsity, progress)
    return [drop_lowest([unit], count)[0] for unit, count in zip(units, counts, strict=True)]


def _counts(scope, targets, units, sparsity, progress) -> list[int]:
    """How many units of each kernel go."""
    if scope == "lamp":
        if min(unit.min() for unit in units) < 0:
            raise ValueError(
                "scope='lamp' compares magnitudes, and this criterion's scores can be negative: use "
                "scope='global'."
            )
        return lamp_counts(units, _total(units, sparsity))
    if isinstance(scope, Mapping):
        fractions = [progress * fraction for fraction in _explicit(scope, targets)]
    elif scope == "erk":
        fractions = _erk([tuple(target.variable.shape) for target in targets], sparsity)
    else:
        fractions = [sparsity] * len(targets)
    return [round(fraction * unit.size) for fraction, unit in zip(fractions, units, strict=True)]


def _total(units, sparsity) -> int:
    return round(sparsity * sum(unit.size for unit in units))


def _explicit(scope, targets) -> list[float]:
    paths = [target.path.rsplit("/", 1)[0] for target in targets]
    for pattern in scope:
        if not any(_matches(pattern, path) for path in paths):
            hint = did_you_mean(pattern, paths)
            raise ValueError(f"`scope` names no pruned layer: {pattern!r}. {hint} Pruned are: {paths}.")
    return [next((s for pattern, s in scope.items() if _matches(pattern, path)), 0.0) for path in paths]


def _matches(pattern: str, path: str) -> bool:
    return any(pattern == name or re.fullmatch(pattern, name) for name in (path, path.rsplit("/", 1)[-1]))


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
