"""Dynamic sparse training: giving pruned weights another chance."""

import math
from dataclasses import dataclass

import numpy as np

from tfsqueeze.core.checks import check_choice, check_fraction, check_positive
from tfsqueeze.pruning.evidence import GRADIENT


@dataclass(frozen=True)
class Regrowth:
    """At every mask update some of the living weights are swapped for pruned ones, which start at zero.

    The number of zeros stays what the schedule says. The swapped fraction falls along a cosine to
    nothing at `end_step`: fraction / 2 * (1 + cos(pi step / end_step)).

    Args:
        by: "gradient": the pruned weights with the largest loss gradient grow (RigL; Evci et al.,
            arXiv:1911.11134), measured on the callback's `data` or, without, taken from the optimizer's
            momentum (Dettmers & Zettlemoyer, arXiv:1907.04840). "random": any (SET; Mocanu et al.,
            arXiv:1707.04780).
        fraction: of the living weights swapped at first, in [0, 1).
        end_step: step from which nothing is swapped any more, > 0; about three quarters of the training.
        seed: for "random".

    Example:
        >>> steady = tfs.schedules.Constant(0.9, frequency=100)
        >>> growing = tfs.Regrowth("gradient", end_step=3000)
        >>> model.fit(x, y, callbacks=[tfs.PruningCallback(steady, regrowth=growing)])
    """

    by: str = "gradient"
    fraction: float = 0.3
    end_step: int = 1000
    seed: int = 0

    def __post_init__(self):
        check_choice("by", self.by, ("gradient", "random"))
        check_fraction("fraction", self.fraction)
        check_positive("end_step", self.end_step)

    @property
    def evidence(self) -> str | None:
        """What `swap` must be given, see `tfsqueeze.pruning.evidence`."""
        return GRADIENT if self.by == "gradient" else None

    def fraction_at(self, step: int) -> float:
        """The fraction of living weights swapped at a step."""
        done = min(step / self.end_step, 1.0)
        return self.fraction / 2 * (1 + math.cos(math.pi * done))

    def swap(
        self, mask: np.ndarray, kernel: np.ndarray, gradient: np.ndarray | None, step: int
    ) -> np.ndarray:
        """A mask with as many living weights: the smallest go, the most promising dead ones come.

        Args:
            mask: True where a weight lives.
            kernel: the weights, of the same shape.
            gradient: the loss' gradient, of the same shape; not used for "random".
            step: the training step.
        """
        alive, dead = np.flatnonzero(mask), np.flatnonzero(~mask)
        count = min(round(self.fraction_at(step) * alive.size), dead.size)
        if count == 0:
            return mask
        if self.by == "random":
            promise = np.random.default_rng((self.seed, step, mask.size)).random(dead.size)
        else:
            promise = np.abs(gradient.ravel()[dead])
        going = alive[np.argpartition(np.abs(kernel.ravel()[alive]), count - 1)[:count]]
        coming = dead[np.argpartition(-promise, count - 1)[:count]]
        swapped = mask.ravel().copy()
        swapped[going], swapped[coming] = False, True
        return swapped.reshape(mask.shape)
