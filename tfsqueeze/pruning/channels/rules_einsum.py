"""Rules of what multiplies along named indices: einsum, matrix products, attention."""

import itertools
import math
import string

from tfsqueeze.core import layer_info
from tfsqueeze.pruning.channels.flow import Axes, Call, Flow, Tensor
from tfsqueeze.pruning.channels.rules_kernels import activated


def einsum_dense(flow: Flow, call: Call) -> list[Axes]:
    """`EinsumDense`: each index of its equation is an axis that is consumed, carried or produced."""
    layer, tensor = call.operation, call.inputs[0]
    kernel = layer_info.kernels(layer)[0][1]
    (entering, weights), leaving = _indices(layer.equation, (tensor.shape, kernel.shape))
    labels = dict(zip(entering, tensor.axes, strict=True))
    for index in set(entering) - set(weights) - set(leaving):
        flow.sets.pin(labels[index], f"{call.path!r} sums over them without weights")
    for axis, index in enumerate(weights):
        role = _role(index, entering, leaving)
        if role == "producer":
            labels[index] = flow.produce(layer, index, kernel.shape[axis])
        flow.touch(layer, kernel, axis, role, labels[index], tensor=tensor if role == "consumer" else None)
    _touch_bias(flow, layer, leaving, labels)
    sizes = layer.partial_output_shape
    flow.resize(layer, output_shape=_labelled(sizes, [labels[i] for i in leaving[-len(sizes) :]]))
    known = dict(zip(entering + weights, (*tensor.shape, *kernel.shape), strict=True))
    call.output_shapes[0] = tuple(known[index] for index in leaving)
    flow.count(call)
    return [tuple(activated(flow, layer, labels[index]) for index in leaving)]


def _touch_bias(flow, layer, leaving, labels) -> None:
    if layer.bias is None:
        return
    shape = layer.bias.shape
    for axis, index in enumerate(leaving[len(leaving) - len(shape) :]):
        if shape[axis] > 1 or (labels[index] is not None and len(labels[index]) == 1):
            flow.touch(layer, layer.bias, axis, "follower", labels[index])


def _role(index, entering, leaving) -> str:
    if index not in entering:
        return "producer"
    return "follower" if index in leaving else "consumer"


def einsum(flow: Flow, call: Call) -> list[Axes]:
    """`keras.ops.einsum`: an index is the same axis wherever it stands."""
    terms, leaving = _indices(call.operation.subscripts, [tensor.shape for tensor in call.inputs])
    return _multiplied(flow, call, terms, leaving)


def matmul(flow: Flow, call: Call) -> list[Axes]:
    """`keras.ops.matmul` of tensors of rank 2 or more."""
    if len(call.inputs) < 2 or min(len(tensor.shape) for tensor in call.inputs) < 2:
        return flow.pin(call, f"{call.path!r} multiplies with a vector or a constant")
    first, second = (len(tensor.shape) for tensor in call.inputs)
    batch = string.ascii_lowercase[: max(first, second) - 2]
    terms = [batch[len(batch) - first + 2 :] + "XY", batch[len(batch) - second + 2 :] + "YZ"]
    return _multiplied(flow, call, terms, batch + "XZ")


def _multiplied(flow, call: Call, terms: list[str], leaving: str) -> list[Axes]:
    labels, sizes = {}, {}
    for term, tensor in zip(terms, call.inputs, strict=True):
        for index, size, axis in zip(term, tensor.shape, tensor.axes, strict=True):
            if sizes.get(index, 1) == 1:
                labels[index], sizes[index] = axis, size
            elif size != 1:
                reason = f"{call.path!r} multiplies them with what cannot be cut"
                labels[index] = flow.sets.join(labels[index], axis, reason)
    rest = math.prod(
        size or 1 for index, size in sizes.items() if labels[index] is None and index != leaving[0]
    )
    flow.products.append((rest * flow.repeats, [axis for axis in labels.values() if axis is not None]))
    return [tuple(labels[index] for index in leaving)]


def attention(flow: Flow, call: Call) -> list[Axes]:
    """`MultiHeadAttention`: heads are cut whole; what comes out has channels of its own."""
    layer = call.operation
    named = _attention_inputs(call)
    if named is None:
        return flow.pin(call, f"{call.path!r} is called in a way that is not known")
    query, value, key = named
    heads = flow.produce(layer, "heads", layer.num_heads)
    for dense, tensor in ((layer._query_dense, query), (layer._key_dense, key), (layer._value_dense, value)):
        kernel = dense._kernel
        flow.touch(dense, kernel, 0, "consumer", tensor.axes[-1], tensor=tensor)
        flow.touch(dense, kernel, 1, "producer", heads)
        flow.touch(dense, dense.bias, 0, "follower", heads)
        flow.products.append((math.prod(size or 1 for size in tensor.shape[1:-1]) * flow.repeats, kernel))
    steps = (math.prod(size or 1 for size in tensor.shape[1:-1]) for tensor in (query, value))
    flow.products.append((math.prod(steps) * (layer.key_dim + layer.value_dim) * flow.repeats, [heads]))
    outputs = _attention_outputs(flow, layer, query, heads)
    for tensor in named:
        for labels in tensor.axes[:-1]:
            flow.sets.pin(labels, f"{call.path!r} attends over them")
    carried = (None,) * (len(query.shape) - 1)
    scores = [(None,) * len(shape) for shape in call.output_shapes[1:]]
    if scores:
        flow.sets.pin(heads, f"{call.path!r} returns the scores of its heads")
    return [(*carried, outputs), *scores]


def _attention_outputs(flow, layer, query, heads):
    dense = layer._output_dense
    size = dense._kernel.shape[-1]
    outputs = flow.produce(layer, "outputs", size)
    flow.touch(dense, dense._kernel, 0, "consumer", heads)
    flow.touch(dense, dense._kernel, len(dense._kernel.shape) - 1, "producer", outputs)
    flow.touch(dense, dense.bias, 0, "follower", outputs)
    flow.resize(layer, num_heads=heads, output_shape=(outputs,))
    flow.products.append((math.prod(s or 1 for s in query.shape[1:-1]) * flow.repeats, dense._kernel))
    return outputs


def _attention_inputs(call: Call) -> list[Tensor] | None:
    """Query, value and key, however they were passed; None if the layer is none this rule describes."""
    layer, arguments = call.operation, call.node and call.node.arguments
    if arguments is None or layer._use_gate or (layer._output_shape and len(layer._output_shape) > 1):
        return None
    by_id = {id(tensor.symbol): tensor for tensor in call.inputs}
    names = dict(zip(("query", "value", "key"), arguments.args, strict=False)) | arguments.kwargs
    symbols = [names.get("query"), names.get("value"), names.get("key")]
    symbols[2] = symbols[1] if symbols[2] is None else symbols[2]
    return [by_id[id(symbol)] for symbol in symbols]


def _indices(equation: str, shapes) -> tuple[list[str], str]:
    """One letter per axis of each term and of the result; an ellipsis is spelled out in unused letters."""
    terms, leaving = equation.replace(" ", "").split("->")
    terms = terms.split(",")
    hidden = max((len(s) - len(t) + 3 for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0)
    spare = "".join(itertools.islice((c for c in string.ascii_letters if c not in equation), hidden))
    return [term.replace("...", spare) for term in terms], leaving.replace("...", spare)


def _labelled(sizes, labels) -> tuple:
    return tuple(size if axis is None else axis for size, axis in zip(sizes, labels, strict=True))
