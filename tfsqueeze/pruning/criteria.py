"""How important each weight is; the lowest scores are pruned first."""

from collections.abc import Callable

import numpy as np

from tfsqueeze.core.targets import Target
from tfsqueeze.pruning.evidence import GRADIENT, RMS_GRADIENT, START

Criterion = str | Callable[[np.ndarray], np.ndarray]


def magnitude(kernel: np.ndarray, gradient=None) -> np.ndarray:
    """|w|: small weights matter least (Han et al., arXiv:1506.02626)."""
    return np.abs(kernel)


def taylor(kernel: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """|w * g|: the first-order change of the loss if w became zero (Molchanov et al., arXiv:1906.10771)."""
    return np.abs(kernel * gradient)


def fisher(kernel: np.ndarray, rms_gradient: np.ndarray) -> np.ndarray:
    """|w| * sqrt(E[g^2]): the second-order change of the loss, with the empirical Fisher information for the
    curvature (LeCun et al., Optimal Brain Damage, 1989; Theis et al., arXiv:1801.05787), as a root.
    """
    return np.abs(kernel * rms_gradient)


def movement(kernel: np.ndarray, start: np.ndarray) -> np.ndarray:
    """How far a weight moved away from zero (Sanh et al., Movement Pruning, arXiv:2005.07683).

    The paper adds up -w * dL/dw over the training. With the updates dw the optimizer makes in place of
    -dL/dw, that sum of w * dw telescopes to (w^2 - start^2) / 2. Weights at zero score lowest.
    """
    return np.where(kernel == 0, -np.inf, (np.square(kernel) - np.square(start)) / 2)


def random(kernel: np.ndarray, gradient=None) -> np.ndarray:
    """The control every criterion must beat: repeatable random scores, 0 where a weight is 0 already."""
    rng = np.random.default_rng(kernel.size)
    return rng.uniform(0.5, 1.0, kernel.shape) * (kernel != 0)


CRITERIA: dict[str, Callable] = {
    "magnitude": magnitude,
    "taylor": taylor,
    # SNIP is the same saliency taken once, at initialisation (Lee et al., arXiv:1810.02340, eq. 4).
    "snip": taylor,
    "fisher": fisher,
    "movement": movement,
    "random": random,
}
EVIDENCE = {"taylor": GRADIENT, "snip": GRADIENT, "fisher": RMS_GRADIENT, "movement": START}


def evidence_for(criterion: Criterion) -> str | None:
    """What a criterion asks for beyond the weights, see `tfsqueeze.pruning.evidence`; None for nothing."""
    return EVIDENCE.get(criterion) if isinstance(criterion, str) else None


def weight_scores(criterion: Criterion, target: Target, evidence: np.ndarray | None) -> np.ndarray:
    """Scores of one kernel, of its shape, in float32 or float64.

    Raises:
        ValueError: if the kernel or the evidence is not finite, or a criterion of the user's returns NaN
            or another shape.
    """
    weights = target.variable.numpy()
    for name, values in (("weights", weights), (evidence_for(criterion), evidence)):
        if values is not None and not np.isfinite(values).all():
            raise ValueError(
                f"{target.path!r} holds NaN or infinity in its {name}, so its weights cannot be ranked. The "
                "training diverged: lower the learning rate, or prune more gradually."
            )
    scores = np.asarray(
        CRITERIA[criterion](weights, evidence) if isinstance(criterion, str) else criterion(weights)
    )
    if scores.shape != weights.shape:
        raise ValueError(
            f"The criterion must return one score per weight, shape {weights.shape} for {target.path!r}. "
            f"Received shape: {scores.shape}."
        )
    if not isinstance(criterion, str) and np.isnan(scores.astype("float64")).any():
        raise ValueError(f"The criterion returned NaN for {target.path!r}, which cannot be ranked.")
    return scores if scores.dtype.name in ("float32", "float64") else scores.astype("float64")
