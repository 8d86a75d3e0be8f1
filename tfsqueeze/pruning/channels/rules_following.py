"""Rules of layers with one weight per channel: they are cut along with the channels they scale."""

import numpy as np

from tfsqueeze.pruning.channels.flow import Axes, Call, Flow


def batch_normalization(flow: Flow, call: Call) -> list[Axes]:
    """`BatchNormalization`: scale, offset and statistics of each channel."""
    layer, tensor = call.operation, call.inputs[0]
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        flow.touch(layer, variable, 0, "follower", tensor.axes[axis % len(tensor.shape)])
    return [tensor.axes]


def layer_normalization(flow: Flow, call: Call) -> list[Axes]:
    """`LayerNormalization`, `RMSNormalization`: the statistics are those of the channels that are left."""
    layer, tensor = call.operation, call.inputs[0]
    axes = sorted(axis % len(tensor.shape) for axis in _listed(layer.axis))
    for name in ("gamma", "beta", "scale"):
        variable = getattr(layer, name, None)
        for position, axis in enumerate(axes if variable is not None and hasattr(variable, "shape") else ()):
            if len(variable.shape) == len(axes):
                flow.touch(layer, variable, position, "follower", tensor.axes[axis])
    flow.inexact += [(call.path, tensor.axes[axis]) for axis in axes if tensor.axes[axis] is not None]
    return [tensor.axes]


def group_normalization(flow: Flow, call: Call) -> list[Axes]:
    """`GroupNormalization`: each group keeps as many channels as the others."""
    layer, tensor = call.operation, call.inputs[0]
    labels = tensor.axes[layer.axis % len(tensor.shape)]
    if labels is None:
        return [tensor.axes]
    reason = f"the groups of {call.path!r} mix channels that cannot be cut"
    if layer.groups == len(labels):
        flow.resize(layer, groups=labels)
    elif layer.groups > 1:
        flow.sets.tie(labels, np.arange(len(labels)) % (len(labels) // layer.groups), reason)
    for variable in (layer.gamma, layer.beta):
        flow.touch(layer, variable, 0, "follower", labels)
    flow.inexact.append((call.path, labels))
    return [tensor.axes]


def parametric_relu(flow: Flow, call: Call) -> list[Axes]:
    """`PReLU`: slopes along every axis that is not shared."""
    layer, tensor = call.operation, call.inputs[0]
    for axis, labels in enumerate(tensor.axes[1:]):
        if axis + 1 not in (layer.shared_axes or ()):
            flow.touch(layer, layer.alpha, axis, "follower", labels)
    return [tensor.axes]


def _listed(value) -> list:
    return [value] if isinstance(value, int) else list(value)
