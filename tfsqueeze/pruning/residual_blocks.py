"""Finding the residual blocks of a model: sums of a tensor and of a branch computed from it."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.select import walk


@dataclass(frozen=True)
class ResidualBlock:
    """A sum x + branch(x) whose branch can be left out.

    Attributes:
        name: path of the layer or operation that adds.
        sum: that operation.
        shortcut: which of its two operands is x.
        branch: the layers and operations between x and the sum.
    """

    name: str
    sum: keras.Operation
    shortcut: int
    branch: tuple[keras.Operation, ...]

    @property
    def layers(self) -> list[keras.Layer]:
        """The branch's layers that own weights, those inside others included."""
        outer = [part for part in self.branch if isinstance(part, keras.Layer)]
        inner = {id(part): part for layer in outer for part in layer._flatten_layers()}
        return [p for p in inner.values() if p._trainable_variables or p._non_trainable_variables]


def find_blocks(model: keras.Model) -> tuple[list[ResidualBlock], dict[str, str]]:
    """The residual blocks of a model and of the models nested in it, in the order of the graph.

    The shortcut must be the very tensor the branch begins with (directly, whatever comes before or after
    the sum), the shapes must agree, and no smaller block may lie inside the branch.

    Args:
        model: a built Sequential or Functional model.

    Returns:
        The blocks, and by name why other sums of two tensors are none.
    """
    blocks, others = [], {}
    paths = {id(named.layer): named.path for named in walk(model)}
    for graph in _graphs(model):
        sums: set[int] = set()
        for node in _nodes(graph):
            if not _is_sum(node.operation):
                continue
            name = paths.get(id(node.operation), node.operation.name)
            block, reason = _block(name, node, graph, sums)
            if block is None:
                others[name] = reason
            else:
                blocks.append(block)
                sums.add(id(node.operation))
    return blocks, others


def _graphs(model) -> Iterator[keras.Model]:
    """The model's graph and those of nested models."""
    for part in [model, *(named.layer for named in walk(model))]:
        if isinstance(part, keras.Model) and has_graph(part):
            yield getattr(part, "_functional", None) or part


def _nodes(graph) -> list:
    by_depth = graph._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def _is_sum(operation) -> bool:
    return isinstance(operation, (keras.layers.Add, keras.src.ops.numpy.Add))


def _block(name, node, graph, inner_sums) -> tuple[ResidualBlock | None, str]:
    tensors = list(node.input_tensors)
    if len(tensors) != 2 or len(node.operation._inbound_nodes) != 1:
        return None, "not one sum of two tensors"
    if tensors[0].shape != tensors[1].shape:
        return None, "its terms have different shapes"
    if any(tensor is node.outputs[0] for tensor in graph.outputs):
        return None, "an output of the model"
    for shortcut in (0, 1):
        branch = _branch(tensors[shortcut], tensors[1 - shortcut])
        if branch:
            if any(id(operation) in inner_sums for operation in branch):
                return None, "it encloses other blocks"
            return ResidualBlock(name, node.operation, shortcut, tuple(branch)), ""
    return None, "neither term is computed from the other: the shortcut has layers of its own"


def _branch(start, end) -> list[keras.Operation]:
    """The operations on all ways from tensor `start` to tensor `end`; empty if there is none."""
    on_way: dict[int, bool] = {id(start): True}
    branch: dict[int, keras.Operation] = {}
    stack = [end]
    while stack:
        tensor = stack[-1]
        node = _node_of(tensor)
        pending = [source for source in node.input_tensors if id(source) not in on_way]
        if id(tensor) in on_way or not pending:
            if id(tensor) not in on_way:
                on_way[id(tensor)] = any(on_way[id(source)] for source in node.input_tensors)
                if on_way[id(tensor)]:
                    branch[id(node.operation)] = node.operation
            stack.pop()
        else:
            stack += pending
    return list(branch.values()) if on_way[id(end)] and end is not start else []


def _node_of(tensor):
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]
