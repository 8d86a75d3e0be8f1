"""What every way to factorize a layer offers, and the ranks it can take."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import keras
import numpy as np

from tfsqueeze.architecture.successors import Names, Positions


@dataclass(frozen=True)
class Choice:
    """One form of a layer at certain ranks.

    Attributes:
        form: how it is factorized; None for the layer as it is.
        ranks: the inner sizes.
        macs: multiply-accumulates per example.
        params: size of the kernels.
        lost: the fraction of the energy (squared outputs or weights) that is lost.
    """

    form: "Form | None"
    ranks: tuple[int, ...]
    macs: int
    params: int
    lost: float


class Form(Protocol):
    """A way to write a layer as a chain of cheaper ones.

    The chain is the matrix product `before(kernels) @ last kernel`, in the rows of the layer's
    `LinearView`: this is what refits and errors are computed with.

    Attributes:
        name: of the method, for the user.
        weights: what is factorized, (groups, inputs, outputs).
        full_ranks: the ranks at which nothing is lost.
    """

    name: str
    weights: np.ndarray
    full_ranks: tuple[int, ...]

    def choices(self, positions: Positions, measure: str) -> list[Choice]:
        """The ranks worth having: no others are cheaper by `measure` and lose less."""

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        """The kernels of the chain, shaped as the layers' are."""

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        """The chain, yet unbuilt."""

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        """All kernels but the last as one matrix, (groups, inputs, inner)."""


def product(form: Form, kernels: list[np.ndarray]) -> np.ndarray:
    """What the chain multiplies with, (groups, inputs, outputs)."""
    groups, _, outputs = form.weights.shape
    return form.before(kernels) @ kernels[-1].reshape(groups, -1, outputs)


def lost_weight(form: Form, kernels: list[np.ndarray]) -> float:
    """Squared error of the chain's weights relative to the layer's squared weights."""
    error = np.square(product(form, kernels) - form.weights).sum()
    return float(error / max(np.square(form.weights).sum(), 1e-30))


def worth_having(form: Form, ranks: np.ndarray, costs: dict[str, np.ndarray], lost, measure) -> list[Choice]:
    """Choices that no other beats, the dearest first.

    Args:
        form: whose choices they are.
        ranks: shape (choices, ranks).
        costs: "macs" and "params" of each choice.
        lost: fraction of the energy that each loses.
        measure: the cost that counts, "macs" or "params".
    """
    rows = (
        Choice(
            form, tuple(map(int, ranks[i])), int(costs["macs"][i]), int(costs["params"][i]), float(lost[i])
        )
        for i in _front(costs[measure], lost)
    )
    return list(rows)


def united(choices: Iterable[Choice], measure: str) -> list[Choice]:
    """Of several forms' choices, those that no other beats, the dearest first."""
    choices = list(choices)
    cost = np.array([getattr(choice, measure) for choice in choices])
    return [choices[i] for i in _front(cost, np.array([choice.lost for choice in choices]))]


def _front(cost, lost) -> np.ndarray:
    """Indices of what nothing beats in both, in descending cost."""
    order = np.lexsort((lost, cost))
    least = np.minimum.accumulate(np.concatenate([[np.inf], lost[order][:-1]]))
    return order[lost[order] < least][::-1]
