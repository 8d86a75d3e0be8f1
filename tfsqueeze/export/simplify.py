"""Takes out of a `.tflite` graph what only computes a shape that is known."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfsqueeze.tflite import flatbuffer

_JOINING = ("PACK", "CONCATENATION")


def fold_batch_reshapes(content: bytes) -> bytes:
    """Turns reshapes to (batch, 3, 4), sizes read from some tensor, into reshapes to (-1, 3, 4).

    Flatten and Reshape with a free batch axis become SHAPE, STRIDED_SLICE, PACK and RESHAPE, and nearest
    up-sampling the same with CONCATENATION; all but RESHAPE cost bytes, SHAPE of a float input keeps a file
    from being all integer, and axes that need not be free stay so.

    Args:
        content: a `.tflite` file.

    Returns:
        The file with such reshapes folded; unchanged where there is none.
    """
    model = flatbuffer.unpack(content)
    if flatbuffer.has_external_buffers(model) or not model.operatorCodes:
        return content
    folded = [_fold(model, subgraph) for subgraph in model.subgraphs]
    return flatbuffer.pack(model) if any(folded) else content


def _fold(model: schema.ModelT, subgraph: schema.SubGraphT) -> bool:
    operators = list(subgraph.operators or [])
    producers = {int(output): operator for operator in operators for output in operator.outputs}
    folded = False
    for operator in operators:
        if flatbuffer.operator_name(model, operator) != "RESHAPE" or len(operator.inputs) != 2:
            continue
        computed = producers.get(int(operator.inputs[1]))
        shape = computed and _known_shape(model, subgraph, computed, producers)
        if shape:
            operator.inputs = np.array([operator.inputs[0], _add_constant(model, subgraph, shape)], np.int32)
            _set_shape(subgraph.tensors[int(operator.outputs[0])], shape)
            folded = True
    if folded:
        subgraph.operators = _without_unused(model, subgraph)
    return folded


def _known_shape(model, subgraph, producer, producers) -> list[int] | None:
    """The shape that an operator puts together, -1 for the batch; None if more than that is unknown."""
    if flatbuffer.operator_name(model, producer) not in _JOINING:
        return None
    parts = [_sizes(model, subgraph, index, producers) for index in producer.inputs]
    if None in parts or not parts:
        return None
    sizes = [size for part in parts for size in part]
    return sizes if -1 not in sizes[1:] else None


def _sizes(model, subgraph, index, producers) -> list[int] | None:
    """What a tensor of sizes holds: a constant, or some axes of another tensor's shape."""
    constant = _constant(model, subgraph, index)
    if constant is not None:
        return constant.ravel().tolist() if (constant >= 0).all() else None
    operator = producers.get(int(index))
    if operator is None or flatbuffer.operator_name(model, operator) != "STRIDED_SLICE":
        return None
    source = producers.get(int(operator.inputs[0]))
    limits = [_constant(model, subgraph, place) for place in operator.inputs[1:]]
    if source is None or flatbuffer.operator_name(model, source) != "SHAPE":
        return None
    if any(limit is None or limit.size != 1 for limit in limits) or limits[2].item() != 1:
        return None
    shape, options = _shape(subgraph.tensors[int(source.inputs[0])]), operator.builtinOptions
    begin = 0 if options.beginMask else limits[0].item()
    return shape[begin : len(shape) if options.endMask else limits[1].item()]


def _shape(tensor) -> list[int]:
    """A tensor's shape, -1 for free axes."""
    signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return np.asarray(signature).tolist()


def _constant(model, subgraph, index) -> np.ndarray | None:
    tensor = subgraph.tensors[int(index)]
    data = model.buffers[tensor.buffer].data
    return None if data is None or tensor.type != schema.TensorType.INT32 else np.asarray(data).view(np.int32)


def _set_shape(tensor, shape: list[int]) -> None:
    tensor.shape = np.array([1 if size == -1 else size for size in shape], np.int32)
    tensor.shapeSignature = np.array(shape, np.int32)


def _add_constant(model, subgraph, values: list[int]) -> int:
    data = np.array(values, np.int32)
    model.buffers.append(schema.BufferT(data=data.view(np.uint8)))
    name = f"reshape_{len(subgraph.tensors)}"
    tensor = schema.TensorT(
        shape=np.array([len(values)], np.int32),
        type=schema.TensorType.INT32,
        buffer=len(model.buffers) - 1,
        name=name,
        hasRank=True,
    )
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1


def _without_unused(model, subgraph) -> list:
    """The operators, from the back, without shape computations that nothing reads any more."""
    needed = {int(index) for index in subgraph.outputs}
    kept = []
    for operator in reversed(subgraph.operators):
        droppable = flatbuffer.operator_name(model, operator) in ("SHAPE", "STRIDED_SLICE", *_JOINING)
        if droppable and not needed & {int(index) for index in operator.outputs}:
            continue
        needed |= {int(index) for index in operator.inputs}
        kept.append(operator)
    return kept[::-1]
