"""Choosing the ranks of all layers together."""

import heapq
import math

from tfsqueeze.architecture.form import Choice

Ladders = dict[str, list[Choice]]


def cheapest_within(ladder: list[Choice], energy: float, measure: str) -> Choice:
    """The cheapest choice that keeps a fraction of the energy.

    Args:
        ladder: a layer's choices; its first keeps all.
        energy: in (0, 1].
        measure: the cost that counts, "macs" or "params".
    """
    enough = [choice for choice in ladder if choice.lost <= 1 - energy + 1e-12]
    return min(enough, key=lambda choice: getattr(choice, measure))


def allocate(ladders: Ladders, goal: int, measure: str) -> dict[str, Choice] | None:
    """The choice for each layer that keeps most energy within a total cost.

    What is maximised is the product of the fractions of energy that the layers keep. Ranks go, layer by
    layer, where the logarithm falls least for each unit of cost saved; what is left over in the end is
    given back, so that not one rank more would fit anywhere.

    Args:
        ladders: for each layer its choices by descending cost, each losing more than the one before; the
            first is the layer as it is.
        goal: the most that the layers may cost together.
        measure: "macs" or "params".

    Returns:
        A choice per layer; None if the cheapest of all cost more.

    Source: Zhang et al., Accelerating Very Deep Convolutional Networks, arXiv:1505.06798, section 2.4.
    """

    def cost(choice):
        return getattr(choice, measure)

    hulls = {name: _hull(ladder, cost) for name, ladder in ladders.items()}
    at = dict.fromkeys(ladders, 0)
    total = sum(cost(ladder[0]) for ladder in ladders.values())
    queue = [(_slope(hull, 0, cost), name) for name, hull in hulls.items() if len(hull) > 1]
    heapq.heapify(queue)
    while total > goal:
        if not queue:
            return None
        _, name = heapq.heappop(queue)
        hull, step = hulls[name], at[name]
        total -= cost(hull[step]) - cost(hull[step + 1])
        at[name] = step + 1
        if step + 2 < len(hull):
            heapq.heappush(queue, (_slope(hull, step + 1, cost), name))
    chosen = {name: hulls[name][step] for name, step in at.items()}
    return _given_back(chosen, ladders, goal - total, cost)


def _given_back(chosen, ladders, slack, cost) -> dict[str, Choice]:
    while True:
        better = {
            name: next(choice for choice in ladder if cost(choice) <= cost(chosen[name]) + slack)
            for name, ladder in ladders.items()
        }
        gains = {name: _loss(chosen[name]) - _loss(choice) for name, choice in better.items()}
        name = max(gains, key=gains.get, default=None)
        if name is None or gains[name] <= 0:
            return chosen
        slack -= cost(better[name]) - cost(chosen[name])
        chosen[name] = better[name]


def _loss(choice: Choice) -> float:
    return -math.log(max(1 - choice.lost, 1e-12))


def _hull(ladder, cost) -> list[Choice]:
    """The choices on the lower convex hull of loss over cost, dearest first."""
    hull: list[Choice] = []
    for choice in ladder:
        while len(hull) > 1 and _slope([hull[-2], choice], 0, cost) <= _slope(hull, len(hull) - 2, cost):
            hull.pop()
        hull.append(choice)
    return hull


def _slope(hull, step, cost) -> float:
    """Loss per unit of cost saved by the step."""
    saved = cost(hull[step]) - cost(hull[step + 1])
    return (_loss(hull[step + 1]) - _loss(hull[step])) / max(saved, 1)
