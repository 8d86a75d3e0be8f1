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
    SPACE_TO_BATCH_ND puts more into it, and else stays as it came. Where the file computes the shape to
    reshape to, as nearest up-sampling does, so do we.

    Args:
        graph: a subgraph whose inputs have no free axes but the batch.

    Returns:
        The same graph with tensors of known shapes.

    Example:
        >>> [tensor.shape for tensor in for_one_example(file.main).tensors]
    """
    sizes, shapes = dict.fromkeys(graph.inputs, (1,)), {}
    for operator in graph.operators:
        for index in operator.outputs:
            sizes[index] = _free_sizes(operator, graph, sizes, shapes, graph.tensors[index])
            shapes[index] = _computed_shape(operator, graph, sizes, shapes)
    tensors = tuple(_with_sizes(tensor, sizes.get(index, (1,))) for index, tensor in enumerate(graph.tensors))
    return replace(graph, tensors=tensors)


def keeps_examples_apart(graph: Subgraph) -> bool:
    """Whether the outputs of a graph from `for_one_example` are those of one example.

    If not, an operator did something to the batch axis that could not be followed, and the shapes on the
    way are not to be trusted.
    """
    return all(graph.tensors[index].shape[:1] in ((), (1,)) for index in graph.outputs)


def _free_sizes(operator: Operator, graph: Subgraph, sizes, shapes, output: Tensor) -> tuple[int, ...]:
    """The sizes of the free axes of an operator's output; a single one where no axis is marked as free."""
    # Also through tensors stored without a free axis: quantizers write those they insert so.
    inputs = [sizes[index] for index in operator.inputs if index in sizes]
    size, count = max((free[0] for free in inputs), default=1), output.shape.count(-1)
    if operator.name in RESHAPES:
        (source, *_) = operator.inputs
        filling = _filling(graph.tensors[source].elements * math.prod(sizes.get(source, (1,))), output)
        shape = shapes.get(operator.inputs[-1]) if count > 1 else None
        if shape is None or len(shape) != len(output.shape):
            return (filling,)
        free = [length for length, stored in zip(shape, output.shape, strict=True) if stored == -1]
        given = max(abs(math.prod(free)), 1)
        return tuple(filling // given if length == -1 else length for length in free)
    if operator.name == "FULLY_CONNECTED":
        source, weights = operator.inputs[0], graph.tensors[operator.inputs[1]]
        elements = graph.tensors[source].elements * math.prod(sizes.get(source, (1,)))
        return (_filling(elements * weights.shape[0] // max(weights.shape[1], 1), output),)
    if operator.name == "SPACE_TO_BATCH_ND":
        return (size * _block(operator, graph),)
    if operator.name == "BATCH_TO_SPACE_ND":
        return (max(size // _block(operator, graph), 1),)
    return next((free for free in inputs if len(free) == count > 1), (size,))


def _computed_shape(operator: Operator, graph: Subgraph, sizes, shapes) -> list[int] | None:
    """The values of an operator's output, where they are a shape or a part of one."""

    def values(index: int) -> list[int] | None:
        tensor = graph.tensors[index]
        is_constant = tensor.is_constant and tensor.dtype in ("INT32", "INT64") and len(tensor.shape) <= 1
        return tensor.values().ravel().tolist() if is_constant else shapes.get(index)

    if operator.name == "SHAPE":
        (source,) = operator.inputs
        return list(_with_sizes(graph.tensors[source], sizes.get(source, (1,))).shape)
    parts = [values(index) for index in operator.inputs] if operator.name in _OF_SHAPES else []
    return _OF_SHAPES[operator.name](*parts) if parts and None not in parts else None


_OF_SHAPES = {
    "PACK": lambda *parts: [size for part in parts for size in part],
    "CONCATENATION": lambda *parts: [size for part in parts for size in part],
    "GATHER": lambda shape, places: [shape[place] for place in places],
    "REDUCE_PROD": lambda shape, axes: [math.prod(shape)],
    # An end of 0 behind the beginning is masked: up to the last.
    "STRIDED_SLICE": lambda shape, begin, end, step: shape[begin[0] : end[0] or None : step[0]],
}


def _filling(elements: int, output: Tensor) -> int:
    """The size of the output's free axis that makes it hold `elements` values."""
    return max(elements // max(output.elements, 1), 1)


def _block(operator: Operator, graph: Subgraph) -> int:
    block = graph.tensors[operator.inputs[1]]
    return math.prod(block.values().tolist()) if block.is_constant else 1


def _with_sizes(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    if -1 not in tensor.shape:
        return tensor
    free = iter(sizes)
    return replace(
        tensor, shape=tuple(next(free, 1) if length == -1 else max(length, 1) for length in tensor.shape)
    )
