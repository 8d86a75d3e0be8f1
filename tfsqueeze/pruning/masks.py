"""From scores to masks: which weights stay."""

from dataclasses import dataclass

import numpy as np

from tfsqueeze.core.checks import check_choice
from tfsqueeze.pruning.criteria import CRITERIA, Criterion
from tfsqueeze.pruning.targets import Target

PATTERNS = ("unstructured",)
SCOPES = ("layer",)


@dataclass(frozen=True)
class MaskRule:
    """What decides a mask: the criterion that scores weights, the pattern of zeros, the scope of comparison.

    Raises:
        ValueError: if one of them is unknown.
    """

    criterion: Criterion = "magnitude"
    pattern: str = "unstructured"
    scope: str = "layer"

    def __post_init__(self):
        if not callable(self.criterion):
            check_choice("criterion", self.criterion, CRITERIA)
        check_choice("pattern", self.pattern, PATTERNS)
        check_choice("scope", self.scope, SCOPES)

    def masks(self, targets: list[Target], sparsity: float) -> list[np.ndarray]:
        """One boolean mask per target, True where a weight stays.

        Args:
            targets: the kernels, with finite weights.
            sparsity: fraction of zeros, in [0, 1).

        Raises:
            ValueError: if a kernel holds NaN, naming it.
        """
        return [lowest_dropped(self._scores(target), sparsity) for target in targets]

    def _scores(self, target) -> np.ndarray:
        weights = target.variable.numpy()
        if not np.isfinite(weights).all():
            raise ValueError(
                f"{target.path!r} holds NaN or infinity, so its weights cannot be ranked. The training "
                "diverged: lower the learning rate, or prune more gradually."
            )
        score = CRITERIA[self.criterion] if isinstance(self.criterion, str) else self.criterion
        scores = np.asarray(score(weights))
        if scores.shape != weights.shape:
            raise ValueError(
                f"The criterion must return one score per weight, shape {weights.shape} for {target.path!r}. "
                f"Received shape: {scores.shape}."
            )
        return scores


def lowest_dropped(scores: np.ndarray, sparsity: float) -> np.ndarray:
    """A mask that drops exactly `round(sparsity * size)` entries: those with the lowest scores.

    Args:
        scores: array of any shape.
        sparsity: fraction dropped, in [0, 1).

    Example:
        >>> lowest_dropped(np.array([3.0, 1.0, 2.0, 4.0]), 0.5)
        array([ True, False, False,  True])
    """
    drop = round(sparsity * scores.size)
    mask = np.ones(scores.size, bool)
    if drop:
        mask[np.argpartition(scores, drop - 1, axis=None)[:drop]] = False
    return mask.reshape(scores.shape)


def sparsity_of(targets: list[Target]) -> float:
    """Fraction of exact zeros over all targets."""
    kernels = [target.variable.numpy() for target in targets]
    return 1 - sum(map(int, map(np.count_nonzero, kernels))) / sum(kernel.size for kernel in kernels)
