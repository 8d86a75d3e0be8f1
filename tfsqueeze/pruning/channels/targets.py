"""Targets: how far down the order of removal to go."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfsqueeze.core.checks import check_fraction, check_kept, check_one_target
from tfsqueeze.pruning.channels.graph import ChannelGraph


@dataclass(frozen=True)
class Target:
    """How small the model shall be.

    Attributes:
        name: "ratio" (fraction of channels removed), "macs" or "params" (fraction kept).
        value: the fraction.
    """

    name: str
    value: float

    @classmethod
    def of(cls, ratio=None, macs=None, params=None) -> "Target":
        """The one target that is given.

        Raises:
            ValueError: if none or several are given, or the fraction is out of range.
        """
        choices = "`ratio` (the fraction of channels removed), `macs` or `params` (the fraction kept)"
        name, value = check_one_target(choices, ratio=ratio, macs=macs, params=params)
        if name == "ratio":
            return cls(name, check_fraction(name, value, remedy="It is the fraction of channels removed."))
        return cls(name, check_kept(name, value))

    def measure(self, graph: ChannelGraph) -> Callable[[np.ndarray], float]:
        """A function from kept units to the size that the target is about."""
        if self.name == "ratio":
            return lambda kept: int(kept.sum()) - 1
        return graph.macs if self.name == "macs" else graph.params

    @property
    def kept(self) -> float:
        """The fraction kept."""
        return 1 - self.value if self.name == "ratio" else self.value


def choose_kept(
    graph: ChannelGraph, order: list[tuple[str, int]], target: Target, *, round_to: int = 1
) -> dict[str, np.ndarray]:
    """Goes down the order of removal as far as the target needs, and not one channel further.

    Args:
        graph: the groups.
        order: pairs of group name and unit, those to go first first.
        target: the target.
        round_to: the number of units kept in a group is rounded up to a multiple of it; >= 1.

    Returns:
        By name of the group, which of its units are kept, as booleans.

    Raises:
        ValueError: if the target is out of reach; the message says how far it goes.
    """
    measure = target.measure(graph)
    whole = measure(np.ones(graph.size + 1, bool))
    goal = target.kept * whole * (1 + 1e-9)
    queue = _queues(graph, order)

    def reached(count: int) -> bool:
        return measure(graph.kept(_kept(graph, order[:count], queue, round_to))) <= goal

    low, high = 0, len(order)
    if not reached(high):
        _raise_unreachable(graph, target, measure(graph.kept(_kept(graph, order, queue, round_to))) / whole)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return _kept(graph, order[:low], queue, round_to)


def _queues(graph, order) -> dict[str, list[int]]:
    queues: dict[str, list[int]] = {name: [] for name in graph.groups}
    for name, unit in order:
        queues[name].append(unit)
    return queues


def _kept(graph, removed, queues, round_to) -> dict[str, np.ndarray]:
    counts = dict.fromkeys(graph.groups, 0)
    for name, _ in removed:
        counts[name] += 1
    keep = {}
    for name, group in graph.groups.items():
        left = min(-(-(group.size - counts[name]) // round_to) * round_to, group.size)
        keep[name] = np.ones(group.size, bool)
        keep[name][queues[name][: group.size - left]] = False
    return keep


def _raise_unreachable(graph, target, smallest) -> None:
    reach = 1 - smallest if target.name == "ratio" else smallest
    pinned = "; ".join(f"{path}: {reason}" for path, reason in list(graph.pinned.items())[:5])
    raise ValueError(
        f"`{target.name}`={target.value:g} cannot be reached: it goes as far as {reach:.4f} with the "
        "channels that may be cut. Lower `min_channels` or `round_to`, select more layers, or ask for less. "
        f"Cannot be cut: {pinned or 'nothing'}."
    )
