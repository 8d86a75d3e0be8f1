"""From scores to masks: which weights stay."""

from dataclasses import dataclass

import numpy as np

from tfsqueeze.core.checks import check_choice
from tfsqueeze.core.targets import Target
from tfsqueeze.pruning.criteria import CRITERIA, Criterion, evidence_for, weight_scores
from tfsqueeze.pruning.patterns import Unstructured, as_matrix, as_pattern, from_matrix
from tfsqueeze.pruning.scopes import check_scope, keep


@dataclass(frozen=True)
class MaskRule:
    """What decides the masks.

    Args:
        criterion: what scores weights, see `tfsqueeze.pruning.criteria`.
        pattern: where zeros may fall, see `tfsqueeze.pruning.patterns`.
        scope: how the sparsity is distributed over kernels, see `tfsqueeze.pruning.scopes`.

    Raises:
        ValueError: if one of them is unknown.
    """

    criterion: Criterion = "magnitude"
    pattern: str | tuple | Unstructured = "unstructured"
    scope: str | dict = "layer"

    def __post_init__(self):
        if not callable(self.criterion):
            check_choice("criterion", self.criterion, CRITERIA)
        object.__setattr__(self, "pattern", as_pattern(self.pattern))
        check_scope(self.scope)

    @property
    def evidence(self) -> str | None:
        """What `masks` must be given beside the weights, see `tfsqueeze.pruning.evidence`."""
        return evidence_for(self.criterion)

    def misfit(self, target: Target) -> str | None:
        """Why a kernel cannot take the pattern, or None if it can."""
        return self.pattern.misfit(_matrix_shape(target))

    def masks(
        self,
        targets: list[Target],
        sparsity: float,
        evidence: list[np.ndarray | None] | None = None,
        progress: float = 1.0,
    ) -> list[np.ndarray]:
        """One boolean mask per target, True where a weight stays.

        Args:
            targets: the kernels that fit the pattern, with finite weights.
            sparsity: fraction of zeros over all of them, in [0, 1).
            evidence: what the criterion asks for, per target.
            progress: how much of a `scope` that lists sparsities itself applies, in [0, 1].

        Raises:
            ValueError: if a kernel holds NaN, naming it, or the pattern cannot reach `sparsity`.
        """
        if sparsity > self.pattern.max_sparsity + 1e-9:
            raise ValueError(
                f"The pattern {self.pattern} leaves at most a sparsity of {self.pattern.max_sparsity:.4g}. "
                f"Received: sparsity={sparsity:.4g}."
            )
        known = evidence or [None] * len(targets)
        scores = [
            as_matrix(weight_scores(self.criterion, target, seen), target.kernel)
            for target, seen in zip(targets, known, strict=True)
        ]
        units = [self.pattern.pool(matrix) for matrix in scores]
        kept = keep(self.scope, targets, units, sparsity, progress)
        return [
            from_matrix(self.pattern.spread(mask, matrix.shape), target.kernel, target.variable.shape)
            for mask, matrix, target in zip(kept, scores, targets, strict=True)
        ]


def sparsity_of(targets: list[Target]) -> float:
    """Fraction of exact zeros over all targets."""
    kernels = [target.variable.numpy() for target in targets]
    return 1 - sum(map(int, map(np.count_nonzero, kernels))) / sum(kernel.size for kernel in kernels)


def _matrix_shape(target) -> tuple[int, int]:
    shape, kernel = target.variable.shape, target.kernel
    inputs, outputs = ([shape[axis] for axis in axes] for axes in (kernel.inputs, kernel.outputs))
    return int(np.prod(inputs)), int(np.prod(outputs))
