"""Rules of layers with kernels: their inputs are consumed, their outputs are new channels."""

import numpy as np

from tfsqueeze.core import layer_info
from tfsqueeze.pruning.channels.flow import Axes, Call, Flow
from tfsqueeze.pruning.channels.labels import Labels
from tfsqueeze.pruning.channels.trial import passes_channels


def dense(flow: Flow, call: Call) -> list[Axes]:
    """`Dense`: sums over the last axis."""
    layer, tensor = call.operation, call.inputs[0]
    kernel = layer_info.kernels(layer)[0][1]
    outputs = flow.produce(layer, "units", layer.units)
    flow.touch(layer, kernel, 0, "consumer", tensor.axes[-1], tensor=tensor)
    flow.touch(layer, kernel, 1, "producer", outputs)
    flow.touch(layer, layer.bias, 0, "follower", outputs)
    flow.resize(layer, units=outputs)
    flow.count(call)
    return [(*tensor.axes[:-1], activated(flow, layer, outputs))]


def convolution(flow: Flow, call: Call) -> list[Axes]:
    """`Conv1D/2D/3D`, also in groups, of which each keeps as many channels as the others."""
    layer, tensor = call.operation, call.inputs[0]
    kernel = layer_info.kernels(layer)[0][1]
    entering = _entering(flow, call)
    if layer.groups > 1 and kernel.shape[-2] == 1:
        return _convolution_of_single_channels(flow, call, kernel, entering)
    outputs = flow.produce(layer, "filters", layer.filters)
    per_group = entering
    if layer.groups > 1:
        reason = f"the groups of {layer.name!r} mix channels that cannot be cut"
        flow.sets.tie(outputs, np.arange(layer.filters) % (layer.filters // layer.groups), reason)
        if entering is not None:
            flow.sets.tie(entering, np.arange(len(entering)) % kernel.shape[-2], reason)
            per_group = entering[: kernel.shape[-2]]
    flow.touch(layer, kernel, layer.rank, "consumer", per_group, tensor=tensor)
    flow.touch(layer, kernel, layer.rank + 1, "producer", outputs)
    flow.touch(layer, layer.bias, 0, "follower", outputs)
    flow.resize(layer, filters=outputs)
    flow.count(call)
    return _leaving(flow, call, outputs)


def _convolution_of_single_channels(flow, call, kernel, entering):
    """A convolution in as many groups as channels is a depthwise one: its outputs go with its inputs."""
    layer = call.operation
    outputs = _repeated(entering, layer.filters // layer.groups)
    flow.touch(layer, kernel, layer.rank + 1, "follower", outputs)
    flow.touch(layer, layer.bias, 0, "follower", outputs)
    flow.count(call)
    if entering is not None:
        flow.resize(layer, filters=outputs, groups=entering)
    return _leaving(flow, call, outputs)


def transposed_convolution(flow: Flow, call: Call) -> list[Axes]:
    """`Conv1DTranspose` and its like, whose kernels hold outputs before inputs."""
    layer, tensor = call.operation, call.inputs[0]
    kernel = layer_info.kernels(layer)[0][1]
    outputs = flow.produce(layer, "filters", layer.filters)
    entering = _entering(flow, call)
    flow.touch(layer, kernel, layer.rank + 1, "consumer", entering, tensor=tensor)
    flow.touch(layer, kernel, layer.rank, "producer", outputs)
    flow.touch(layer, layer.bias, 0, "follower", outputs)
    flow.resize(layer, filters=outputs)
    flow.count(call)
    return _leaving(flow, call, outputs)


def depthwise_convolution(flow: Flow, call: Call) -> list[Axes]:
    """`DepthwiseConv1D/2D`: each input channel becomes `depth_multiplier` output channels of its own."""
    layer = call.operation
    kernel = layer_info.kernels(layer)[0][1]
    entering = _entering(flow, call)
    outputs = _repeated(entering, layer.depth_multiplier)
    flow.touch(layer, kernel, layer.rank, "follower", entering)
    flow.touch(layer, layer.bias, 0, "follower", outputs)
    flow.count(call)
    return _leaving(flow, call, outputs)


def separable_convolution(flow: Flow, call: Call) -> list[Axes]:
    """`SeparableConv1D/2D`: a depthwise convolution, then one that mixes channels."""
    layer = call.operation
    entering = _entering(flow, call)
    outputs = flow.produce(layer, "filters", layer.filters)
    between = _repeated(entering, layer.depth_multiplier)
    flow.touch(layer, layer.depthwise_kernel, layer.rank, "follower", entering)
    flow.touch(layer, layer.pointwise_kernel, layer.rank, "consumer", between)
    flow.touch(layer, layer.pointwise_kernel, layer.rank + 1, "producer", outputs)
    flow.touch(layer, layer.bias, 0, "follower", outputs)
    flow.resize(layer, filters=outputs)
    flow.count(call)
    return _leaving(flow, call, outputs)


def embedding(flow: Flow, call: Call) -> list[Axes]:
    """`Embedding`: produces the channels of its vectors."""
    layer, tensor = call.operation, call.inputs[0]
    outputs = flow.produce(layer, "output_dim", layer.output_dim)
    flow.touch(layer, layer_info.kernels(layer)[0][1], 1, "producer", outputs)
    flow.resize(layer, output_dim=outputs)
    return [(*tensor.axes, outputs)]


def activated(flow: Flow, layer, labels: Labels) -> Labels:
    """The labels after the layer's own activation, which must treat each channel by itself."""
    activation = getattr(layer, "activation", None)
    if labels is not None and activation is not None and not passes_channels(activation, len(labels)):
        name = getattr(activation, "__name__", type(activation).__name__)
        flow.sets.pin(labels, f"the activation {name!r} of {layer.name!r} mixes channels")
    return labels


def channel_axis(layer, tensor) -> int:
    """The axis that holds the channels of a convolution's input."""
    return 1 if layer.data_format == "channels_first" else len(tensor.shape) - 1


def _entering(flow: Flow, call: Call) -> Labels:
    """Labels of the channels that enter a convolution; the axes it slides over cannot be cut."""
    tensor = call.inputs[0]
    channels = channel_axis(call.operation, tensor)
    for axis, labels in enumerate(tensor.axes):
        if axis != channels:
            flow.sets.pin(labels, f"{call.path!r} slides over them")
    return tensor.axes[channels]


def _leaving(flow: Flow, call: Call, labels: Labels) -> list[Axes]:
    axes = [None] * len(call.output_shapes[0])
    axes[channel_axis(call.operation, call.inputs[0])] = activated(flow, call.operation, labels)
    return [tuple(axes)]


def _repeated(labels: Labels, times: int) -> Labels:
    return None if labels is None else np.repeat(labels, times)
