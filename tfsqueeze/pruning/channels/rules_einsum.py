"""Rules of what multiplies along named indices: einsum and matrix products."""

import itertools
import math
import string

from tfsqueeze.core import layer_info
from tfsqueeze.pruning.channels.flow import Axes, Call, Flow
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


def _indices(equation: str, shapes) -> tuple[list[str], str]:
    """One letter per axis of each term and of the result; an ellipsis is spelled out in unused letters."""
    terms, leaving = equation.replace(" ", "").split("->")
    terms = terms.split(",")
    hidden = max((len(s) - len(t) + 3 for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0)
    spare = "".join(itertools.islice((c for c in string.ascii_letters if c not in equation), hidden))
    return [term.replace("...", spare) for term in terms], leaving.replace("...", spare)


def _labelled(sizes, labels) -> tuple:
    return tuple(size if axis is None else axis for size, axis in zip(sizes, labels, strict=True))
