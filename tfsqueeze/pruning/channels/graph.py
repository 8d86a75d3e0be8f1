"""Channel groups: what must be cut together in a model, and what a cut would save."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import keras
import numpy as np

from tfsqueeze.core.checks import check_graph, did_you_mean
from tfsqueeze.core.select import select_layers, walk
from tfsqueeze.pruning.channels.flow import Flow, VariableAxis
from tfsqueeze.pruning.channels.labels import FIXED
from tfsqueeze.pruning.channels.rules import apply_rule


@dataclass(frozen=True)
class Slice:
    """The part of a variable's axis that holds channels of one group.

    Attributes:
        path: path of the layer in the model, as `select` takes it.
        layer: the layer that owns the variable.
        variable: the variable.
        axis: its axis.
        role: "producer" (the channels come from here), "follower" (one entry per channel, such as a bias
            or a normalisation's scale) or "consumer" (they are summed over here).
        units: for each position along the axis the unit of the group it belongs to, or -1 for positions of
            other groups and those that stay.
        tensors: for consumers, the symbolic tensors that are summed over, one per call; empty where the
            channels never leave the layer (recurrent states, heads).
    """

    path: str
    layer: keras.Layer
    variable: keras.Variable
    axis: int
    role: str
    units: np.ndarray
    tensors: tuple[keras.KerasTensor, ...] = ()

    def positions(self, unit: int) -> np.ndarray:
        """Positions along the axis that belong to a unit."""
        return np.flatnonzero(self.units == unit)


@dataclass(frozen=True)
class Group:
    """Channels of several layers that only make sense together, as units that can be cut one by one.

    Attributes:
        name: path of the layer that produces them first, with a number behind if it produces several.
        size: number of units.
        slices: all variable slices they touch, in the order of the graph.
        inexact: layers that take statistics over the channels (LayerNormalization, GroupNormalization),
            whose outputs change for the channels that stay.
    """

    name: str
    size: int
    slices: tuple[Slice, ...]
    inexact: tuple[str, ...] = ()
    start: int = field(default=0, repr=False)

    @property
    def producers(self) -> list[Slice]:
        return [part for part in self.slices if part.role == "producer"]

    @property
    def followers(self) -> list[Slice]:
        return [part for part in self.slices if part.role == "follower"]

    @property
    def consumers(self) -> list[Slice]:
        return [part for part in self.slices if part.role == "consumer"]


class ChannelGraph:
    """What `find_groups` found.

    Attributes:
        model: the model.
        groups: the groups by name, in the order of the graph.
        pinned: why channels of a layer cannot be cut, by the layer's path.
    """

    def __init__(self, model: keras.Model, flow: Flow):
        self.model = model
        self.flow = flow
        self._units, self.groups = _number_units(flow)
        self.pinned = _pinned(model, flow)
        self._macs = [_term(self, coefficient, factors) for coefficient, factors in flow.products]
        self._params = [_term(self, 1, variable) for variable in model.weights]

    @property
    def size(self) -> int:
        """Number of units in all groups."""
        return sum(group.size for group in self.groups.values())

    def kept(self, keep: Mapping[str, np.ndarray]) -> np.ndarray:
        """Checks which units are to be kept and lines them up.

        Args:
            keep: for each group to be cut, by name, a boolean array of its size; groups not named are
                kept whole.

        Returns:
            Booleans, one per unit of all groups, behind one for the channels that cannot be cut.

        Raises:
            ValueError: if a name is unknown, a size does not fit, or a layer would lose all its channels.
        """
        kept = np.ones(self.size + 1, bool)
        for name, flags in keep.items():
            if name not in self.groups:
                raise ValueError(f"There is no channel group {name!r}. {did_you_mean(name, self.groups)}")
            group, flags = self.groups[name], np.asarray(flags)
            if flags.shape != (group.size,) or flags.dtype != bool:
                raise ValueError(
                    f"Group {name!r} needs a boolean array of {group.size} entries. "
                    f"Received: shape={flags.shape}, dtype={flags.dtype}."
                )
            kept[group.start : group.start + group.size] = flags
        for axis in self.axes():
            if not kept[self.units(axis.labels)].any():
                raise ValueError(f"Layer {axis.path!r} would lose all its channels; keep at least one.")
        return kept

    def macs(self, kept: np.ndarray | None = None) -> int:
        """Multiply-accumulates per example once only the units in `kept` are left."""
        return round(_total(self._macs, self._all if kept is None else kept))

    def params(self, kept: np.ndarray | None = None) -> int:
        """Number of weights once only the units in `kept` are left."""
        return round(_total(self._params, self._all if kept is None else kept))

    def units(self, labels: np.ndarray) -> np.ndarray:
        """The number of the unit at each position of an axis, 0 where it cannot be cut."""
        return self._units[labels]

    def axes(self) -> list[VariableAxis]:
        """All variable axes that hold channels."""
        return [axis for axis in self.flow.axes.values() if axis.labels is not None]

    @property
    def _all(self) -> np.ndarray:
        return np.ones(self.size + 1, bool)


def find_groups(model: keras.Model, select=None) -> ChannelGraph:
    """Finds the groups of channels that must be cut together.

    Args:
        model: a built Sequential or Functional model; it is not changed.
        select: layers whose channels may be cut, see `tfs.Select`; None for all.

    Returns:
        The groups, and the reasons why other channels cannot be cut.

    Raises:
        UnsupportedModelError: for a subclassed model, which has no graph.
        ValueError: if the selection matches nothing, or names a layer whose channels cannot be cut.

    Example:
        >>> graph = find_groups(model)
        >>> for group in graph.groups.values():
        ...     print(group.name, group.size, [part.path for part in group.consumers])
    """
    check_graph(model, "find_groups()")
    flow = Flow(model, apply_rule)
    if select is not None:
        _pin_unselected(model, flow, select)
    return ChannelGraph(model, flow)


def _pin_unselected(model, flow, select) -> None:
    producers: dict[int, list] = {}
    for axis in flow.axes.values():
        if axis.role == "producer" and axis.labels is not None:
            producers.setdefault(id(axis.layer), []).append(axis.labels)

    def unsupported(layer):
        labels = producers.get(id(layer))
        if labels is None:
            return "it has no output channels of its own"
        if all((flow.sets.roots(part) == FIXED).all() for part in labels):
            return "; ".join(flow.sets.reasons(np.concatenate(labels)))
        return None

    chosen = {id(named.layer) for named in select_layers(model, select, unsupported).chosen}
    for key, labels in producers.items():
        for part in labels if key not in chosen else ():
            flow.sets.pin(part, "not selected")


def _number_units(flow: Flow) -> tuple[np.ndarray, dict[str, Group]]:
    """Numbers the units so that those of a group follow each other; units are found from label to unit."""
    labels = flow.sets.all()
    roots = flow.sets.roots(labels)
    producers = [a for a in flow.axes.values() if a.role == "producer" and a.labels is not None]
    members = _components([list(dict.fromkeys(roots[axis.labels].tolist())) for axis in producers])
    number = np.zeros(len(labels), np.int64)
    spans, start = [], 1
    for first, units in members:
        number[units] = np.arange(start, start + len(units))
        spans.append((producers[first].path, start, len(units)))
        start += len(units)
    found = number[roots]
    return found, _groups(flow, found, spans)


def _components(axes: list[list[int]]) -> list[tuple[int, list[int]]]:
    """Units connected through common axes: (index of the first axis, its units in order of appearance)."""
    component: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for index, units in enumerate(axes):
        units = [unit for unit in units if unit != FIXED]
        if not units:
            continue
        known = sorted({component[unit] for unit in units if unit in component})
        target = known[0] if known else index
        members.setdefault(target, [])
        for other in known[1:]:
            members[target] += members.pop(other)
        members[target] += [unit for unit in units if unit not in component]
        component.update(dict.fromkeys(members[target], target))
    return sorted(members.items())


def _groups(flow, found, spans) -> dict[str, Group]:
    axes = [axis for axis in flow.axes.values() if axis.labels is not None]
    owner = np.full(found.max(initial=0) + 1, -1)
    for index, (_, start, size) in enumerate(spans):
        owner[start : start + size] = index
    slices: list[list[Slice]] = [[] for _ in spans]
    for axis in axes:
        units = found[axis.labels]
        for index in np.unique(owner[units]):
            if index >= 0:
                own = np.where(owner[units] == index, units - spans[index][1], -1)
                slices[index].append(
                    Slice(
                        axis.path, axis.layer, axis.variable, axis.axis, axis.role, own, tuple(axis.tensors)
                    )
                )
    groups: dict[str, Group] = {}
    for index, (path, start, size) in enumerate(spans):
        name = path if path not in groups else f"{path}#{index}"
        inexact = [p for p, labels in flow.inexact if (owner[found[labels]] == index).any()]
        groups[name] = Group(name, size, tuple(slices[index]), tuple(dict.fromkeys(inexact)), start)
    return groups


def _pinned(model, flow) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for axis in flow.axes.values():
        found = flow.sets.reasons(axis.labels) if axis.role == "producer" else []
        if found:
            reasons[axis.path] = "; ".join(found)
    known = {id(axis.variable) for axis in flow.axes.values() if axis.role}
    for named in walk(model):
        own = [*named.layer._trainable_variables, *named.layer._non_trainable_variables]
        if own and known.isdisjoint(map(id, own)):
            reasons.setdefault(named.path, f"{type(named.layer).__name__} is not known to have channels")
    return reasons


def _term(graph: ChannelGraph, coefficient, factors):
    """A product as its constant part and the units of each axis that may shrink."""
    if not isinstance(factors, list):
        variable, factors = factors, []
        for axis, size in enumerate(variable.shape):
            known = graph.flow.axes.get((id(variable), axis))
            if known is None or known.labels is None:
                coefficient *= size
            else:
                factors.append(known.labels)
    units = [graph.units(labels) for labels in factors]
    coefficient *= math.prod(len(part) for part in units if not part.any())
    return coefficient, [part for part in units if part.any()]


def _total(terms, kept) -> float:
    return sum(
        coefficient * math.prod(int(np.count_nonzero(kept[part])) for part in parts)
        for coefficient, parts in terms
    )
