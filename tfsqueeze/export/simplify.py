"""Takes out of a `.tflite` graph what only computes a shape that is known."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfsqueeze.tflite import flatbuffer


def fold_batch_reshapes(content: bytes) -> bytes:
    """Turns reshapes to (batch, 3, 4), the batch read from some tensor, into reshapes to (-1, 3, 4).

    Flatten and Reshape with a free batch axis become SHAPE, STRIDED_SLICE, PACK and RESHAPE; the first
    three cost bytes, and SHAPE of a float input keeps a file from being all integer.

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
        packed = producers.get(int(operator.inputs[1]))
        shape = packed and _packed_shape(model, subgraph, packed, producers)
        if shape:
            operator.inputs = np.array([operator.inputs[0], _add_constant(model, subgraph, shape)], np.int32)
            folded = True
    if folded:
        subgraph.operators = _without_unused(model, subgraph)
    return folded


def _packed_shape(model, subgraph, packed, producers) -> list[int] | None:
    """[-1, known sizes] if `packed` packs a batch size and constants; None otherwise."""
    if flatbuffer.operator_name(model, packed) != "PACK" or len(packed.inputs) < 2:
        return None
    if not _is_batch_size(model, subgraph, producers.get(int(packed.inputs[0])), producers):
        return None
    sizes = [_constant(model, subgraph, index) for index in packed.inputs[1:]]
    if any(size is None or size.size != 1 or size.item() < 0 for size in sizes):
        return None
    return [-1, *(int(size.item()) for size in sizes)]


def _is_batch_size(model, subgraph, operator, producers) -> bool:
    """Whether `operator` is STRIDED_SLICE(SHAPE(x), 0, 1)."""
    if operator is None or flatbuffer.operator_name(model, operator) != "STRIDED_SLICE":
        return False
    source = producers.get(int(operator.inputs[0]))
    begin, end = (_constant(model, subgraph, index) for index in operator.inputs[1:3])
    first = begin is not None and end is not None and begin.tolist() == [0] and end.tolist() == [1]
    return first and source is not None and flatbuffer.operator_name(model, source) == "SHAPE"


def _constant(model, subgraph, index) -> np.ndarray | None:
    tensor = subgraph.tensors[int(index)]
    data = model.buffers[tensor.buffer].data
    return None if data is None or tensor.type != schema.TensorType.INT32 else np.asarray(data).view(np.int32)


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
        droppable = flatbuffer.operator_name(model, operator) in ("SHAPE", "STRIDED_SLICE", "PACK")
        if droppable and not needed & {int(index) for index in operator.outputs}:
            continue
        needed |= {int(index) for index in operator.inputs}
        kept.append(operator)
    return kept[::-1]
