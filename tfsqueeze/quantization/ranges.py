"""Which tensor of a graph gets which range: one owner per tensor, one range where integers demand it."""

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import keras

from tfsqueeze.core.checks import has_graph
from tfsqueeze.quantization import behaviour
from tfsqueeze.quantization.activation import ActivationQuantizer

BEFORE_RANGE = "_unrounded"


@dataclass(frozen=True)
class Node:
    """One call of an operation, its tensors by number."""

    operation: keras.Operation
    inputs: list[int]
    outputs: list[int]
    is_float: bool


@dataclass
class Placement:
    """A quantizer behind an operation.

    Attributes:
        quantizer: the layer that rounds.
        slot: which of its tensors it is.
        rescale: whether the tensor was rounded before.
        measure: whether the tensor counts for the range.
    """

    quantizer: ActivationQuantizer
    slot: int = 0
    rescale: bool = False
    measure: bool = True

    def layers(self) -> list:
        """What to apply to the operation's output."""
        options = {"slot": self.slot} if self.slot else {}
        options |= {"rescale": True} if self.rescale else {}
        options |= {} if self.measure else {"measure": False}
        if options:
            return [functools.partial(self.quantizer, **options)]
        return [self.quantizer]


def place_ranges(
    model: keras.Model,
    make: Callable[..., ActivationQuantizer],
    is_left_float: Callable[[keras.Operation], bool],
    floats: Collection[int] = (),
) -> dict[int, "Placement"]:
    """Decides where quantizers stand in a model and the models nested in it.

    Args:
        model: a Sequential or Functional model.
        make: makes a quantizer from `name`, `slots`, `fixed` and `several` (whether it stands behind an
            operation that is called more than once).
        is_left_float: tells of an operation at the model's end whether its output shall not be rounded.
        floats: ids of the layers that compute in float: nothing is rounded between two of them, and what
            they give is rounded apart from them.

    Returns:
        `Placement` by id of the operation it stands behind.
    """
    placements: dict[int, Placement] = {}
    for level in levels(model):
        placements |= _Level(level, level is model, make, is_left_float, floats).placements()
    return placements


def levels(model: keras.Model) -> Iterator[keras.Model]:
    """The model and every model with a graph nested in it, each once."""
    seen: set[int] = set()
    stack = [model]
    while stack:
        level = stack.pop()
        if id(level) in seen:
            continue
        seen.add(id(level))
        yield level
        stack += [o for o in graph_of(level).operations if isinstance(o, keras.Model) and has_graph(o)]


def graph_of(model: keras.Model):
    """The Functional behind a model with a graph."""
    return getattr(model, "_functional", None) or model


def nodes_of(model: keras.Model) -> list[Node]:
    """The calls in a model's own graph, producers before consumers."""
    by_depth = graph_of(model)._nodes_by_depth
    return [
        Node(
            node.operation,
            [id(tensor) for tensor in node.input_tensors],
            [id(tensor) for tensor in keras.tree.flatten(node.output_tensors)],
            all(t.dtype.startswith(("float", "bfloat")) for t in keras.tree.flatten(node.output_tensors)),
        )
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
    ]


class _Level:
    """The graph of one model, not of those nested in it."""

    def __init__(self, model, is_root, make, is_left_float, floats):
        self._nodes = nodes_of(model)
        self._is_sequential = isinstance(model, keras.Sequential)
        self._outputs = {id(tensor) for tensor in graph_of(model).outputs}
        self._is_root, self._make = is_root, make
        self._is_left_float, self._floats = is_left_float, floats
        self._consumers = defaultdict(list)
        self._calls = defaultdict(list)
        for node in self._nodes:
            self._calls[id(node.operation)].append(node)
            for tensor in node.inputs:
                self._consumers[tensor].append(node)
        self._group: dict[int, int] = {}

    def placements(self) -> dict[int, Placement]:
        owners = {key: calls[0].operation for key, calls in self._calls.items() if self._is_owner(calls)}
        self._pass_on(owners)
        rescaled = self._join(owners) | {key for key in owners if self._comes_from_float(key)}
        groups = defaultdict(list)
        for key in owners:
            groups[self._find(self._calls[key][0].outputs[0])].append(key)
        quantizers = {
            group: self._quantizer([owners[key] for key in keys], keys[0] in rescaled)
            for group, keys in groups.items()
        }
        averages = self._averages(owners, quantizers)
        placements = {
            key: Placement(quantizers[group], slot, key in rescaled and not self._is_sequential)
            for group, keys in groups.items()
            for slot, key in enumerate(keys)
        }
        self._name_outputs(placements | averages)
        return placements | averages

    def _averages(self, owners, quantizers) -> dict[int, Placement]:
        """Rounds means to the range they have from their inputs; a Sequential cannot apply a layer twice."""
        if self._is_sequential:
            return {}
        return {
            id(node.operation): Placement(quantizers[group], measure=False)
            for node in self._nodes
            for group in [self._find(node.outputs[0])]
            if behaviour.averages(node.operation) and id(node.operation) not in owners and group in quantizers
        }

    def _quantizer(self, owners, rescale: bool) -> ActivationQuantizer:
        first = owners[0]
        fixed = behaviour.fixed_range(first) if len(owners) == 1 else None
        calls = self._calls[id(first)]
        made = self._make(name=f"{first.name}_range", slots=len(owners), fixed=fixed, several=len(calls) > 1)
        made.rescale = rescale and self._is_sequential
        return made

    def _name_outputs(self, placements: dict[int, Placement]) -> None:
        """Losses and metrics find an output by the name of the layer that gives it."""
        if not self._is_root:
            return
        for key, placement in placements.items():
            node = self._calls[key][0]
            if node.outputs[0] in self._outputs and isinstance(node.operation, keras.Layer):
                placement.quantizer.name = node.operation.name

    def _is_owner(self, calls) -> bool:
        operation = calls[0].operation
        if not all(node.is_float and len(node.outputs) == 1 for node in calls):
            return False
        if isinstance(operation, keras.layers.InputLayer) and not self._is_root:
            return False
        if isinstance(operation, keras.Model) and has_graph(operation):
            return False
        if behaviour.passes_range_on(operation) or behaviour.shares_one_range(operation):
            return False
        if self._is_left_float(operation) and any(node.outputs[0] in self._outputs for node in calls):
            return False
        is_float = isinstance(operation, keras.layers.InputLayer) or self._comes_from_float(id(operation))
        if is_float and self._floats and all(self._goes_to_float(node.outputs[0]) for node in calls):
            return False
        return not self._is_absorbed(calls)

    def _goes_to_float(self, tensor) -> bool:
        """Whether float layers alone read a tensor."""
        readers = self._consumers[tensor]
        if tensor in self._outputs or not readers:
            return False
        return all(
            id(node.operation) in self._floats
            or (behaviour.passes_range_on(node.operation) and self._goes_to_float(node.outputs[0]))
            for node in readers
        )

    def _comes_from_float(self, key) -> bool:
        """Whether an operation is a float layer, or what would become one operator with it."""
        if key in self._floats:
            return True
        operation = self._calls[key][0].operation
        if not (behaviour.is_relu(operation) or isinstance(operation, keras.layers.BatchNormalization)):
            return False
        sources = [node for node in self._nodes if node.outputs[0] == self._calls[key][0].inputs[0]]
        return bool(sources) and self._comes_from_float(id(sources[0].operation))

    def _is_absorbed(self, calls) -> bool:
        """Whether what follows becomes one integer operator with it, so that no tensor lies between."""
        followers = [self._only_consumer(node.outputs[0]) for node in calls]
        if not all(followers):
            return False
        operation = calls[0].operation
        if all(isinstance(node.operation, keras.layers.BatchNormalization) for node in followers):
            return behaviour.folds_batch_norm(operation)
        return behaviour.takes_in_relu(operation) and all(behaviour.is_relu(n.operation) for n in followers)

    def _only_consumer(self, tensor) -> Node | None:
        consumers = self._consumers[tensor]
        return consumers[0] if len(consumers) == 1 and tensor not in self._outputs else None

    def _pass_on(self, owners) -> None:
        for node in self._nodes:
            if node.inputs and behaviour.passes_range_on(node.operation):
                self._unite(node.inputs[0], node.outputs[0])
        for key in owners:
            for node in self._calls[key]:
                self._unite(node.outputs[0], self._calls[key][0].outputs[0])

    def _join(self, owners) -> set[int]:
        """Unites what operators need on one scale; returns the foreign owners that must be rescaled to it."""
        producer = {tensor: node for node in self._nodes for tensor in node.outputs}
        rescaled: set[int] = set()
        for node in self._nodes:
            if not behaviour.shares_one_range(node.operation):
                continue
            for tensor in node.inputs:
                source = producer[self._source(tensor, producer)]
                key = id(source.operation)
                if behaviour.fixed_range(source.operation) is not None and key in owners:
                    # The converter rescales what bounded functions give by itself.
                    owners[id(node.operation)] = node.operation
                    continue
                if key not in owners and not behaviour.shares_one_range(source.operation):
                    owners[key] = source.operation
                    rescaled.add(key)
                self._unite(tensor, node.outputs[0])
        return rescaled

    def _source(self, tensor, producer):
        """The tensor that `tensor` has its range from."""
        node = producer[tensor]
        while node.inputs and behaviour.passes_range_on(node.operation):
            tensor = node.inputs[0]
            node = producer[tensor]
        return tensor

    def _find(self, tensor):
        while tensor in self._group:
            tensor = self._group[tensor]
        return tensor

    def _unite(self, first, second) -> None:
        first, second = self._find(first), self._find(second)
        if first != second:
            self._group[first] = second
