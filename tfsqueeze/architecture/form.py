"""What every way to factorize a layer offers, and the ranks it can take."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np

from tfsqueeze.architecture.successors import Names, Positions


class Form(Protocol):
    """A way to write a layer as a chain of cheaper ones.

    The chain is the matrix product `before(kernels) @ last kernel`, on the rows of the layer's
    `LinearView`: this is what fits and errors are computed with.

    Attributes:
        name: of the method, for the user.
        weights: what is factorized, (groups, inputs, outputs).
        full_ranks: the ranks at which nothing is lost.
        options: the ranks to choose from, shape (options, ranks).
    """

    name: str
    weights: np.ndarray
    full_ranks: tuple[int, ...]
    options: np.ndarray

    def lost(self, ranks: np.ndarray) -> np.ndarray:
        """The fraction of the energy (squared weights, or outputs) that is lost, for rows of ranks."""

    def sizes(self, ranks: np.ndarray) -> list[tuple[np.ndarray, str]]:
        """Weights of each kernel, for rows of ranks, and which of `Positions` it multiplies at."""

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        """The kernels of the chain, shaped as those of its layers."""

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        """The chain, yet unbuilt."""

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        """All kernels but the last as one matrix, (groups, inputs, inner)."""


@dataclass(frozen=True)
class Choice:
    """One form of a layer at certain ranks.

    Attributes:
        form: how it is factorized; None for the layer as it is.
        ranks: the inner sizes.
        macs: multiply-accumulates per example.
        params: size of the kernels.
        lost: the fraction of the energy that is lost.
    """

    form: Form | None
    ranks: tuple[int, ...]
    macs: int
    params: int
    lost: float


def product(form: Form, kernels: list[np.ndarray]) -> np.ndarray:
    """What the chain multiplies with, (groups, inputs, outputs)."""
    groups, _, outputs = form.weights.shape
    return form.before(kernels) @ kernels[-1].reshape(groups, -1, outputs)


def lost_weight(form: Form, kernels: list[np.ndarray]) -> float:
    """Squared error of the chain's weights relative to the layer's squared weights."""
    error = np.square(product(form, kernels) - form.weights).sum()
    return float(error / max(np.square(form.weights).sum(), 1e-30))


def choices(form: Form, positions: Positions, measure: str, ranks: np.ndarray | None = None) -> list[Choice]:
    """The ranks worth having: no others cost less and lose less; the dearest first.

    Args:
        form: the form.
        positions: where the layer multiplies.
        measure: the cost that counts, "macs" or "params".
        ranks: rows of ranks to choose from; None for all options.
    """
    ranks = form.options if ranks is None else ranks
    sizes, lost = form.sizes(ranks), form.lost(ranks)
    costs = {
        "macs": sum(size * getattr(positions, place) for size, place in sizes),
        "params": sum(size for size, _ in sizes),
    }
    return [
        Choice(
            form, tuple(map(int, ranks[i])), int(costs["macs"][i]), int(costs["params"][i]), float(lost[i])
        )
        for i in _front(costs[measure], lost)
    ]


def united(every: Iterable[Choice], measure: str) -> list[Choice]:
    """Of several forms' choices, those that no other beats, the dearest first."""
    every = list(every)
    cost = np.array([getattr(choice, measure) for choice in every])
    return [every[i] for i in _front(cost, np.array([choice.lost for choice in every]))]


def _front(cost, lost) -> np.ndarray:
    """Indices of what nothing beats in both, in descending cost."""
    order = np.lexsort((lost, cost))
    least = np.minimum.accumulate(np.concatenate([[np.inf], lost[order][:-1]]))
    return order[lost[order] < least][::-1]
