"""The shapes a `.tflite` graph has when one example goes through it."""

import math
from dataclasses import replace

from tfsqueeze.tflite.structure import Operator, Subgraph, Tensor

RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def for_one_example(graph: Subgraph) -> Subgraph:
    """The graph with its free batch axis set to one example.

    A free axis inside the graph need not be 1 then: a dense layer on a sequence flattens it to
    (batch x steps, features), and a dilated convolution moves blocks of the image into the batch axis. So
    the size of the free axis is followed from operator to operator: it grows where a reshape or
    SPACE_TO_BATCH_ND puts more into it, and else stays as it came.

    Args:
        graph: a subgraph whose inputs have no free axes but the batch.

    Returns:
        The same graph with tensors of known shapes.

    Example:
        >>> [tensor.shape for tensor in for_one_example(file.main).tensors]
    """
    sizes = dict.fromkeys(graph.inputs, 1)
    for operator in graph.operators:
        for index in operator.outputs:
            sizes[index] = _free_size(operator, graph, sizes, graph.tensors[index])
    tensors = tuple(_with_size(tensor, sizes.get(index, 1)) for index, tensor in enumerate(graph.tensors))
    return replace(graph, tensors=tensors)


def keeps_examples_apart(graph: Subgraph) -> bool:
    """Whether the outputs of a graph from `for_one_example` are those of one example.

    If not, an operator did something to the batch axis that could not be followed, and the shapes on the
    way are not to be trusted.
    """
    return all(graph.tensors[index].shape[:1] in ((), (1,)) for index in graph.outputs)


def _free_size(operator: Operator, graph: Subgraph, sizes, output: Tensor) -> int:
    """The size of the free axis of an operator's output."""
    # Also through tensors stored without a free axis: quantizers write those they insert so.
    size = max((sizes[index] for index in operator.inputs if index in sizes), default=1)
    if operator.name in RESHAPES:
        return _filling(graph.tensors[operator.inputs[0]].elements * size, output)
    if operator.name == "FULLY_CONNECTED":
        source, weights = (graph.tensors[index] for index in operator.inputs[:2])
        return _filling(source.elements * size * weights.shape[0] // max(weights.shape[1], 1), output)
    if operator.name == "SPACE_TO_BATCH_ND":
        return size * _block(operator, graph)
    if operator.name == "BATCH_TO_SPACE_ND":
        return max(size // _block(operator, graph), 1)
    return size


def _filling(elements: int, output: Tensor) -> int:
    """The size of the output's free axis that makes it hold `elements` values."""
    return max(elements // max(output.elements, 1), 1)


def _block(operator: Operator, graph: Subgraph) -> int:
    block = graph.tensors[operator.inputs[1]]
    return math.prod(block.values().tolist()) if block.is_constant else 1


def _with_size(tensor: Tensor, size: int) -> Tensor:
    if -1 not in tensor.shape:
        return tensor
    axis = tensor.shape.index(-1)
    shape = tuple(size if i == axis else max(length, 1) for i, length in enumerate(tensor.shape))
    return replace(tensor, shape=shape)
