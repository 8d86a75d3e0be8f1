"""Rules of attention layers: their projections consume and produce, their heads are cut whole."""

import math

from tfsqueeze.pruning.channels.flow import Axes, Call, Flow, Tensor


def attention(flow: Flow, call: Call) -> list[Axes]:
    """`MultiHeadAttention`: heads are cut whole; what comes out has channels of its own."""
    layer, named = call.operation, _named_inputs(call)
    if layer._use_gate or len(layer._output_shape or ()) > 1:
        return flow.pin(call, f"{call.path!r} has a gate or an output of several axes")
    heads = flow.produce(layer, "heads", layer.num_heads)
    for dense, tensor in zip((layer._query_dense, layer._value_dense, layer._key_dense), named, strict=True):
        flow.touch(dense, dense._kernel, 1, "producer", heads)
        flow.touch(dense, dense.bias, 0, "follower", heads)
        _project(flow, dense, tensor)
    size = layer.key_dim + layer.value_dim
    flow.products.append((_steps(named[0]) * _steps(named[1]) * size * flow.repeats, [heads]))
    outputs = flow.produce(layer, "outputs", layer._output_dense._kernel.shape[-1])
    flow.touch(layer._output_dense, layer._output_dense._kernel, 0, "consumer", heads)
    flow.resize(layer, num_heads=heads, output_shape=(outputs,))
    if len(call.output_shapes) > 1:
        flow.sets.pin(heads, f"{call.path!r} returns the scores of its heads")
    return _leaving(flow, call, named, outputs, "producer")


def grouped_query_attention(flow: Flow, call: Call) -> list[Axes]:
    """`GroupQueryAttention`: its heads stay; what comes out has as many channels as the query."""
    layer, named = call.operation, _named_inputs(call)
    if layer.use_gate:
        return flow.pin(call, f"{call.path!r} has a gate")
    for dense, tensor in zip((layer._query_dense, layer._value_dense, layer._key_dense), named, strict=True):
        _project(flow, dense, tensor)
    size = 2 * layer.head_dim * layer.num_query_heads
    flow.products.append((_steps(named[0]) * _steps(named[1]) * size * flow.repeats, []))
    return _leaving(flow, call, named, named[0].axes[-1], "follower")


def _project(flow, dense, tensor) -> None:
    flow.touch(dense, dense._kernel, 0, "consumer", tensor.axes[-1], tensor=tensor)
    flow.products.append((_steps(tensor) * flow.repeats, dense._kernel))


def _leaving(flow, call, named: list[Tensor], outputs, role) -> list[Axes]:
    dense, query = call.operation._output_dense, named[0]
    flow.touch(dense, dense._kernel, len(dense._kernel.shape) - 1, role, outputs)
    flow.touch(dense, dense.bias, 0, "follower", outputs)
    flow.products.append((_steps(query) * flow.repeats, dense._kernel))
    for tensor in named:
        for labels in tensor.axes[:-1]:
            flow.sets.pin(labels, f"{call.path!r} attends over them")
    scores = [(None,) * len(shape) for shape in call.output_shapes[1:]]
    return [(*(None,) * (len(query.shape) - 1), outputs), *scores]


def _named_inputs(call: Call) -> list[Tensor]:
    """Query, value and key, however they were passed."""
    arguments = call.node.arguments
    names = dict(zip(("query", "value", "key"), arguments.args, strict=False)) | arguments.kwargs
    key = names["value"] if names.get("key") is None else names["key"]
    by_id = {id(tensor.symbol): tensor for tensor in call.inputs}
    return [by_id[id(symbol)] for symbol in (names["query"], names["value"], key)]


def _steps(tensor: Tensor) -> int:
    """Positions of one example; free axes count once."""
    return math.prod(size or 1 for size in tensor.shape[1:-1])
