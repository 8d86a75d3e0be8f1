"""The Pareto front: what nothing else equals in cost and loss and beats in one of them."""

from collections.abc import Callable, Iterable
from typing import TypeVar

Candidate = TypeVar("Candidate")


def pareto_front(
    candidates: Iterable[Candidate],
    cost: Callable[[Candidate], float],
    loss: Callable[[Candidate], float],
) -> list[Candidate]:
    """The candidates on the front, the cheapest first; of equal ones the first.

    Args:
        candidates: of any kind.
        cost, loss: two numbers of a candidate; less is better.

    Example:
        >>> pareto_front([(1, 0.5), (2, 0.6), (3, 0.1)], cost=lambda one: one[0], loss=lambda one: one[1])
        [(1, 0.5), (3, 0.1)]
    """
    front: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (cost(one), loss(one))):
        if not front or loss(one) < loss(front[-1]):
            front.append(one)
    return front
