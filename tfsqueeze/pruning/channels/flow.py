"""How channels flow through a model: each operation passes labels on by its rule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np

from tfsqueeze.core import layer_info
from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.select import walk
from tfsqueeze.pruning.channels.labels import Labels, LabelSets

Axes = tuple[Labels, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph with the labels of each of its axes, batch axis first."""

    shape: tuple[int | None, ...]
    axes: Axes
    symbol: keras.KerasTensor | None = None

    @property
    def is_labelled(self) -> bool:
        """Whether any of its channels may be cut."""
        return any(labels is not None for labels in self.axes)


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation."""

    operation: keras.Operation
    path: str
    inputs: list[Tensor]
    output_shapes: list[tuple]
    node: object = None


@dataclass
class VariableAxis:
    """An axis of a variable whose positions are channels.

    `tensors` are the graph's tensors a consumer axis reduces over, one per call.
    """

    layer: keras.Layer
    path: str
    variable: keras.Variable
    axis: int
    role: str
    labels: Labels
    tensors: list[keras.KerasTensor] = field(default_factory=list)


class Flow:
    """Walks a model and gathers what its channels touch.

    Attributes:
        sets: which labels belong together.
        axes: variable axes by (id of the variable, axis).
        sizes: by id of a layer or operation, its settings that count channels: (operation, {setting:
            structure of integers and labels}).
        products: multiply-accumulates as (coefficient, variable or list of labels): the coefficient times
            the kept size of each.
        inexact: paths of layers whose statistics over channels change with a cut, with their labels.
        trials: outcomes of trials, by what was tried.
        repeats: how often the current call is made (for a layer applied to each step).
    """

    def __init__(self, model: keras.Model, rule: Callable[["Flow", Call], list[Axes]]):
        self.sets = LabelSets()
        self.axes: dict[tuple[int, int], VariableAxis] = {}
        self.sizes: dict[int, tuple[keras.Operation, dict]] = {}
        self.products: list[tuple[float, keras.Variable | list[Labels]]] = []
        self.inexact: list[tuple[str, Labels]] = []
        self.trials: dict = {}
        self.repeats = 1
        self._rule = rule
        self._produced: dict[tuple[int, str], np.ndarray] = {}
        self._paths = {id(named.layer): named.path for named in walk(model)}
        inputs = [(None,) * len(tensor.shape) for tensor in keras.tree.flatten(model.inputs)]
        for axes in self.through(model, inputs):
            for labels in axes:
                self.sets.pin(labels, "an output of the model", override=True)

    def through(self, model: keras.Model, inputs: list[Axes]) -> list[Axes]:
        """Labels of the outputs of a root or nested model, given those of its inputs."""
        graph = getattr(model, "_functional", None) or model
        known = {id(s): Tensor(tuple(s.shape), axes, s) for s, axes in zip(graph.inputs, inputs, strict=True)}
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if not node.is_input and all(id(tensor) in known for tensor in node.input_tensors):
                    self._visit(node, known)
        return [known[id(symbol)].axes for symbol in graph.outputs]

    def path(self, operation: keras.Operation) -> str:
        """Where a layer is in the model; the bare name for an operation that is no layer."""
        return self._paths.get(id(operation), operation.name)

    def produce(self, layer: keras.Layer, what: str, size: int) -> np.ndarray:
        """Labels of an axis that `layer` produces: the same at each call."""
        key = (id(layer), what)
        if key not in self._produced:
            self._produced[key] = self.sets.new(size)
        return self._produced[key]

    def touch(self, layer, variable, axis: int, role: str, labels: Labels, *, path=None, tensor=None) -> None:
        """Notes that the positions along an axis of a variable are the channels `labels`.

        Args:
            layer: the layer that owns the variable.
            variable: the variable; None is let pass, for layers without a bias.
            axis: the axis.
            role: "producer", "follower" or "consumer".
            labels: one per position, or None.
            path: where the layer is, if not found by itself.
            tensor: for consumers, the `Tensor` that is summed over.
        """
        if variable is None:
            return
        key = (id(variable), axis)
        path = path or self.path(layer)
        if key in self.axes:
            self.sets.join(
                self.axes[key].labels, labels, f"{path!r} also works on channels that cannot be cut"
            )
        else:
            self.axes[key] = VariableAxis(layer, path, variable, axis, role, labels)
        if tensor is not None and tensor.symbol is not None:
            self.axes[key].tensors.append(tensor.symbol)

    def resize(self, operation, **settings) -> None:
        """Notes settings of a layer or operation that count channels, as labels or structures of them."""
        if id(operation) not in self.sizes:
            self.sizes[id(operation)] = (operation, settings)
            return
        reason = f"{operation.name!r} also works on channels that cannot be cut"
        for name, value in settings.items():
            before = _flat(self.sizes[id(operation)][1][name])
            for one, other in zip(before, _flat(value), strict=True):
                if _is_labels(one) or _is_labels(other):
                    self.sets.join(_labels_or_none(one), _labels_or_none(other), reason)

    def count(self, call: Call, kernels: Sequence[keras.Variable] = ()) -> None:
        """Notes the multiply-accumulates of a layer's kernels in one call of it."""
        inputs = [tensor.shape for tensor in call.inputs]
        total = layer_info.macs(call.operation, inputs, call.output_shapes) * self.repeats
        kernels = kernels or [variable for _, variable in layer_info.kernels(call.operation)]
        weights = sum(math.prod(kernel.shape) for kernel in kernels)
        self.products += [(total / weights, kernel) for kernel in kernels]

    def pin(self, call: Call, reason: str) -> list[Axes]:
        """Pins all channels that enter a call; nothing that leaves it can be cut."""
        for tensor in call.inputs:
            for labels in tensor.axes:
                self.sets.pin(labels, reason)
        self.leave_whole(call.operation, reason)
        return [(None,) * len(shape) for shape in call.output_shapes]

    def leave_whole(self, operation, reason: str) -> None:
        """Pins what other calls of a layer found its weights to hold, and what they will find."""
        for variable in getattr(operation, "weights", ()):
            for axis in range(len(variable.shape)):
                key = (id(variable), axis)
                if key in self.axes:
                    self.sets.pin(self.axes[key].labels, reason)
                self.axes[key] = VariableAxis(operation, self.path(operation), variable, axis, "", None)

    def _visit(self, node, known) -> None:
        operation = node.operation
        masks = self._masks(node, known)
        inputs = [known[id(tensor)] for tensor in node.input_tensors if id(tensor) not in masks]
        shapes = [_completed(tuple(tensor.shape), inputs) for tensor in node.outputs]
        call = Call(operation, self.path(operation), inputs, shapes, node)
        outputs = self._nested(call) if _is_nested(operation) else self._rule(self, call)
        for symbol, shape, axes in zip(node.outputs, call.output_shapes, outputs, strict=True):
            known[id(symbol)] = Tensor(shape, axes, symbol)

    def _masks(self, node, known) -> set[int]:
        """Tensors that Keras, or the user, hands to a layer as masks: they hold no channels."""
        named = [value for name, value in node.arguments.kwargs.items() if name.endswith("mask")]
        masks = {id(leaf) for leaf in keras.tree.flatten(named)} & set(known)
        for labels in (labels for mask in masks for labels in known[mask].axes):
            self.sets.pin(labels, f"used as a mask by {node.operation.name!r}")
        return masks

    def _nested(self, call: Call) -> list[Axes]:
        """A nested model is built once for all calls of it, so all must bring the same channels."""
        model = call.operation
        graph = getattr(model, "_functional", None) or model
        for symbol, tensor in zip(graph.inputs, call.inputs, strict=True):
            shape = tuple(
                size if labels is None else labels
                for size, labels in zip(symbol.shape, tensor.axes, strict=True)
            )
            self.resize(symbol._keras_history.operation, batch_shape=shape)
        return self.through(model, [tensor.axes for tensor in call.inputs])


def _completed(shape, inputs: list[Tensor]) -> tuple:
    """Fills in free axes that an input of the same rank turned out to have a known size for.

    Keras forgets sizes at layers such as EinsumDense, which would count as 1 in the MACs.
    """
    alike = [t for t in inputs if t.symbol is not None and len(t.shape) == len(shape)]
    known = {a: t.shape[a] for t in alike for a in range(1, len(shape)) if t.symbol.shape[a] is None}
    return tuple(known.get(axis) if size is None else size for axis, size in enumerate(shape))


def _is_nested(operation) -> bool:
    return isinstance(operation, keras.Model) and has_graph(operation)


def _flat(structure) -> list:
    if isinstance(structure, slice):
        return _flat((structure.start, structure.stop))
    if isinstance(structure, (tuple, list)):
        return [leaf for part in structure for leaf in _flat(part)]
    return [structure]


def _is_labels(value) -> bool:
    return isinstance(value, np.ndarray)


def _labels_or_none(value) -> Labels:
    return value if _is_labels(value) else None
