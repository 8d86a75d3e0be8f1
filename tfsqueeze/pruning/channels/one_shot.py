"""Removing channels in one go."""

import math

import keras
import numpy as np

from tfsqueeze.core.checks import check_choice, check_count, check_graph
from tfsqueeze.core.explain import record
from tfsqueeze.pruning.channels import repair as repairing
from tfsqueeze.pruning.channels.allocation import SCOPES, removal_order, unit_costs
from tfsqueeze.pruning.channels.criteria import unit_scores
from tfsqueeze.pruning.channels.cut import cut
from tfsqueeze.pruning.channels.graph import ChannelGraph, find_groups
from tfsqueeze.pruning.channels.targets import Target, choose_kept


def prune_channels(
    model: keras.Model,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    criterion=None,
    scope: str = "global",
    round_to: int = 1,
    min_channels: int = 1,
    select=None,
    data=None,
    repair: bool = True,
    seed: int = 0,
) -> keras.Model:
    """Returns a physically smaller copy of `model`, without its least important channels.

    Filters, neurons, recurrent units and attention heads are removed with everything that depends on them.
    The result is an ordinary model with the same inputs, outputs and layer names, smaller and faster on any
    hardware. Fine-tune it as you trained the original.

    Give exactly one of `ratio`, `macs` and `params`; it is met within one channel.

    Args:
        model: a built Sequential or Functional model; it is not changed.
        ratio: fraction of the channels removed, in [0, 1).
        macs: fraction of multiply-accumulates kept, in (0, 1].
        params: fraction of parameters kept, in (0, 1].
        criterion: what makes a channel important. None: "reconstruction" if `data` is given, else "l1".
            "reconstruction": the error that is left in the layers that receive it, once they are repaired
            (needs `data`). "l1", "l2" (norms of its weights), "bn_scale",
            "geometric_median", "taylor" (effect on the loss; needs labelled `data` and a compiled model),
            "apoz", "mean", "entropy" (its activations; need `data`), "random"; or a function from a channel
            group to one score per unit. The lowest go.
        scope: "global" (the least important channels of the model, scores made comparable) or "layer" (the
            same fraction of each group of layers).
        round_to: channels kept per group are rounded up to a multiple of it, which some hardware likes; >= 1.
        min_channels: fewest channels any layer keeps, >= 1.
        select: layers whose output channels may go, see `tfs.Select`; None for all. Layers that must have
            the same channels only lose them if all of them are selected.
        data: a few hundred typical inputs, labelled or not. With them the weights are repaired after the
            cut, without training: layer by layer they are refitted by least squares to what the original
            computed.
        repair: False to use `data` for the criterion alone and keep the remaining weights bit by bit.
        seed: of random scores and of the positions that the repair looks at.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists the channels of each layer before and
        after, and why others could not be cut.

    Raises:
        ValueError: if not exactly one target is given, it cannot be reached (the message says how far it
            goes), an option is unknown, data is missing or does not fit, weights are not finite, or an
            output layer is selected.
        UnsupportedModelError: for a subclassed model, which has no graph; `tfs.prune` sets single weights
            of any model to zero.

    Example:
        >>> small = tfs.prune_channels(model, macs=0.5, data=x_train[:512])
        >>> small.fit(x_train, y_train)

    Source: Fang et al., DepGraph: Towards Any Structural Pruning, arXiv:2301.12900.
    """
    target = Target.of(ratio, macs, params)
    round_to, min_channels = check_count("round_to", round_to), check_count("min_channels", min_channels)
    check_choice("scope", scope, SCOPES)
    check_graph(model, "prune_channels()")
    graph = find_groups(model, select)
    criterion = criterion or ("l1" if data is None else "reconstruction")
    scores = unit_scores(graph, criterion, data, seed=seed)
    costs = _costs(graph, target)
    comparable = criterion == "reconstruction"
    order = removal_order(graph, scores, scope, min_channels=min_channels, costs=costs, comparable=comparable)
    keep = choose_kept(graph, order, target, round_to=round_to)
    pruned = cut(model, graph, keep)
    rows, skipped = channel_counts(graph, keep), dict(graph.pinned)
    if data is not None and repair:
        result = repairing.repair(graph, pruned, keep, data, seed=seed)
        for path, (before, after) in result.errors.items():
            rows[path] = rows.get(path, {}) | {"error": f"{before:.3g} -> {after:.3g}"}
        skipped |= {path: f"not repaired: {reason}" for path, reason in result.skipped.items()}
    return record(pruned, "prune_channels", rows, skipped)


def _costs(graph, target) -> dict[str, float]:
    if target.name != "ratio":
        return unit_costs(graph, target.measure(graph))
    # A ratio counts channels, yet speed is what they are removed for: of like ones the dear go first.
    return {name: math.sqrt(cost) for name, cost in unit_costs(graph, graph.macs).items()}


def channel_counts(graph: ChannelGraph, keep: dict[str, np.ndarray]) -> dict[str, dict]:
    """Channels of each layer that produces some, before and after a cut, by the layer's path."""
    kept = graph.kept(keep)
    rows = {}
    for axis in graph.axes():
        if axis.role == "producer":
            # A recurrent unit stands once per gate, a head once per projection.
            channels = np.unique(axis.labels)
            after = int(kept[graph.units(channels)].sum())
            row = {"channels": len(channels), "kept": after}
            is_another = rows.setdefault(axis.path, row) != row
            rows[f"{axis.path}#{axis.axis}" if is_another else axis.path] = row
    return rows
