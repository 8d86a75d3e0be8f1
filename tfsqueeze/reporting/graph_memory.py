"""Peak activation memory of a Keras model, from its graph."""

import keras
import numpy as np

from tfsqueeze.core.checks import has_graph
from tfsqueeze.reporting.memory import Step, peak_bytes


def graph_activation_bytes(model: keras.Model) -> int | None:
    """Bytes of the tensors alive at the same time at worst, for one example.

    Every operation of the graph counts as a step in the order Keras runs them; what happens inside a
    layer is not known. Fused kernels need less.

    Args:
        model: a built Keras model.

    Returns:
        Bytes, or None for a subclassed model and for one with free axes besides the batch.
    """
    if not has_graph(model):
        return None
    graph = getattr(model, "_functional", None) or model
    nodes = [node for node in _nodes_in_order(graph) if node.operation and not node.is_input]
    tensors = {id(t): t for node in nodes for t in (*node.input_tensors, *node.outputs)}
    tensors.update((id(tensor), tensor) for tensor in graph.inputs)
    if any(None in tensor.shape[1:] for tensor in tensors.values()):
        return None
    sizes = {key: _bytes(tensor) for key, tensor in tensors.items()}
    steps = [Step(_ids(node.input_tensors), _ids(node.outputs), _scratch(node)) for node in nodes]
    return peak_bytes(steps, sizes, _ids(graph.inputs), _ids(graph.outputs))


def _nodes_in_order(graph):
    return [
        node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in graph._nodes_by_depth[depth]
    ]


def _scratch(node) -> int:
    """What a nested model needs beyond its inputs and outputs, which the outer graph counts already."""
    inner = node.operation
    if not isinstance(inner, keras.Model):
        return 0
    outside = sum(_bytes(tensor) for tensor in (*node.input_tensors, *node.outputs))
    return max((graph_activation_bytes(inner) or 0) - outside, 0)


def _ids(tensors) -> tuple[int, ...]:
    return tuple(map(id, tensors))


def _bytes(tensor) -> int:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    size = 4 if dtype == "string" else 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    return int(np.prod(tensor.shape[1:], dtype=np.int64)) * size
