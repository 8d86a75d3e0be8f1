"""A model's run on a batch, operation by operation, which can be left and gone on with."""

import itertools
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import Functional, operation_fn

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.data import Examples, pack_inputs


@dataclass
class Step:
    """One call of an operation in a graph.

    Attributes:
        node: the call, with the symbolic tensors it takes and gives.
        takes: the number of each tensor it takes, by id of the symbolic one.
        gives: the numbers of the tensors it gives.
        frees: numbers of the tensors that no later step takes.
    """

    node: Any
    takes: dict[int, int]
    gives: list[int]
    frees: list[int] = field(default_factory=list)

    def run(self, tensors: dict[int, Any]) -> None:
        """Calls the operation in inference mode; adds to `tensors` what it gives, drops what it frees."""
        args, kwargs = self.node.arguments.fill_in({one: tensors[n] for one, n in self.takes.items()})
        given = operation_fn(self.node.operation, training=False)(*args, **kwargs)
        tensors.update(zip(self.gives, keras.tree.flatten(given), strict=False))
        for number in self.frees:
            tensors.pop(number, None)


@dataclass
class WholeModel:
    """The only step of a model without a graph."""

    model: keras.Model

    def run(self, tensors: dict[int, Any]) -> None:
        """Calls the model in inference mode."""
        self.model(tensors[0], training=False)


class Steps:
    """The steps of a model in the order they run, those of nested models in the place of their call.

    Args:
        model: any built model; one without a graph is a single step.
        whole: nested models that stay one step.
    """

    def __init__(self, model: keras.Model, whole: Collection[keras.Layer] = ()):
        self._model = model
        self._whole = {id(layer) for layer in whole}
        self._numbers = itertools.count()
        self._graph = _graph(model)
        self.steps: list[Step | WholeModel] = [WholeModel(model)] if self._graph is None else self._added()

    def __len__(self) -> int:
        return len(self.steps)

    def begin(self, batch: Examples) -> "Run":
        """A run on a batch, before its first step."""
        inputs = pack_inputs(self._model, batch.inputs)
        tensors = [inputs] if self._graph is None else self._graph._standardize_inputs(inputs)
        return Run(self.steps, dict(enumerate(tensors)))

    def _added(self) -> list[Step]:
        found: list[Step] = []
        self._add(self._graph, [next(self._numbers) for _ in self._graph.inputs], found)
        seen: set[int] = set()
        for step in reversed(found):
            step.frees = [n for n in {*step.takes.values(), *step.gives} if n not in seen]
            seen.update(step.frees)
        return found

    def _add(self, graph: Functional, inputs: list[int], found: list[Step]) -> list[int]:
        """Adds the steps of a graph to those found; returns the numbers of its outputs."""
        numbers = dict(zip(map(id, graph.inputs), inputs, strict=True))
        for node in _nodes(graph):
            taken = [id(tensor) for tensor in node.input_tensors]
            if node.is_input or not all(tensor in numbers for tensor in taken):
                continue
            inner = self._inner(node)
            if inner is None:
                given = [next(self._numbers) for _ in node.outputs]
                found.append(Step(node, {tensor: numbers[tensor] for tensor in taken}, given))
            else:
                given = self._add(inner, [numbers[tensor] for tensor in taken], found)
            numbers.update(zip(map(id, node.outputs), given, strict=True))
        return [numbers[id(tensor)] for tensor in graph.outputs]

    def _inner(self, node) -> Functional | None:
        """The graph of a nested model that is called on just the tensors it is made for."""
        args, kwargs = node.arguments.args, node.arguments.kwargs
        # `training=False` is how they run here anyway.
        is_asked = any(value is not None and value is not False for value in kwargs.values())
        is_plain = len(args) == 1 and not isinstance(args[0], dict) and not is_asked
        graph = _graph(node.operation) if is_plain and id(node.operation) not in self._whole else None
        if graph is None:
            return None
        given, wanted = (
            [(len(tensor.shape), tensor.dtype) for tensor in tensors]
            for tensors in (node.input_tensors, graph.inputs)
        )
        return graph if given == wanted else None


@dataclass
class Run:
    """A run on a batch, before one of its steps.

    Attributes:
        steps: all of them.
        tensors: what the steps to come need of what was computed, by number.
        place: of the step that comes next.
    """

    steps: list[Step | WholeModel]
    tensors: dict[int, Any]
    place: int = 0

    def step(self) -> None:
        """Runs the step that comes next."""
        self.steps[self.place].run(self.tensors)
        self.place += 1

    def copy(self) -> "Run":
        """Another run that goes on from here, and leaves this one where it is."""
        return Run(self.steps, dict(self.tensors), self.place)

    @property
    def bytes(self) -> int:
        """Of the tensors that are kept."""
        held = [tensor for tensor in keras.tree.flatten(self.tensors) if isinstance(tensor, tf.Tensor)]
        return sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in held)


def _graph(model) -> Functional | None:
    if not isinstance(model, keras.Model) or not has_graph(model):
        return None
    found = getattr(model, "_functional", None) or model
    return found if isinstance(found, Functional) else None


def _nodes(graph: Functional) -> Iterator[Any]:
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]
