"""How many units each group loses: in which order the units of all groups go."""

import numpy as np

from tfsqueeze.core.checks import check_choice
from tfsqueeze.pruning.channels.graph import ChannelGraph, Group

SCOPES = ("global", "layer")


def removal_order(
    graph: ChannelGraph,
    scores: dict[str, np.ndarray],
    scope: str,
    *,
    min_channels: int = 1,
    costs: dict[str, float] | None = None,
    comparable: bool = False,
) -> list[tuple[str, int]]:
    """The units that may go, in the order in which they go.

    "layer": every group loses the same fraction. "global": the lowest scores of the model go, made
    comparable by four steps: a group's scores are divided by their mean; by the square of the fraction of
    the group that is left when the unit goes, for what is left must do the work of all (so that no group
    collapses, and equal scores give equal fractions); by the square root of what a unit costs, so that dear
    units go before cheap ones; and kept from falling within a group. Scores that compare as they are, such
    as those of "reconstruction", are only divided by what a unit costs.

    Args:
        graph: the groups.
        scores: by name of the group, the scores of its units, the least important lowest.
        scope: "global" or "layer".
        min_channels: fewest channels of any layer; the best of each are left out of the order.
        costs: by name of the group, what one unit costs, > 0; None if all cost the same.
        comparable: whether scores of different groups compare as they are, and grow as units go.

    Returns:
        Pairs of group name and unit.
    """
    check_choice("scope", scope, SCOPES)
    spared = _spared(graph, scores, min_channels)
    ranked = []
    for name, group in graph.groups.items():
        order = np.argsort(scores[name], kind="stable")
        order = order[~spared[group.start + order]]
        cost = 1.0 if costs is None else costs[name]
        if scope == "global" and comparable:
            priorities = scores[name][order] / cost
        else:
            priorities = _priorities(scores[name], order, scope)
            priorities /= np.sqrt(cost) if scope == "global" else 1
        ranked += [
            (priority, group.start + unit, name, unit)
            for priority, unit in zip(priorities, order, strict=True)
        ]
    return [(name, int(unit)) for _, _, name, unit in sorted(ranked)]


def unit_costs(graph: ChannelGraph, measure) -> dict[str, float]:
    """What one unit of each group costs by `measure`, relative to the mean over groups; never 0."""
    whole = np.ones(graph.size + 1, bool)
    total = measure(whole)
    saved = {}
    for name, group in graph.groups.items():
        whole[group.start] = False
        saved[name] = float(total - measure(whole))
        whole[group.start] = True
    mean = max(np.mean(list(saved.values()), dtype=float), 1e-12) if saved else 1.0
    return {name: max(value / mean, 1e-3) for name, value in saved.items()}


def _priorities(scores, order, scope) -> np.ndarray:
    gone = np.arange(len(order)) / len(scores)
    if scope == "layer":
        return gone + 0.5 / len(scores)
    relative = scores[order] / max(scores.mean(), 1e-12)
    return np.maximum.accumulate(relative / (1 - gone) ** 2)


def _spared(graph, scores, min_channels) -> np.ndarray:
    """The units that are among the best `min_channels` of any axis they are on."""
    ranks = np.full(graph.size + 1, np.inf)
    for name, group in graph.groups.items():
        ranks[_span(group)] = scores[name] / max(np.mean(scores[name]), 1e-12)
    spared = np.zeros(graph.size + 1, bool)
    for axis in graph.axes():
        units = np.unique(graph.units(axis.labels))
        if len(units) <= min_channels:
            spared[units] = True
        else:
            spared[units[np.argpartition(-ranks[units], min_channels - 1)[:min_channels]]] = True
    return spared


def _span(group: Group) -> slice:
    return slice(group.start, group.start + group.size)
