"""Where the channels of a tensor can be scaled without changing what a model computes."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import activations, layers

from tfsqueeze.core.layer_info import kernels
from tfsqueeze.quantization import behaviour
from tfsqueeze.quantization.ranges import Node, graph_of, levels, nodes_of

_PRODUCERS = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_CHANNELWISE = (
    *behaviour.CHANNELWISE_LAYERS,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)


@dataclass(frozen=True)
class ScalingPair:
    """A tensor between layers with kernels: divide its channels there, multiply the kernels here.

    Attributes:
        producer: the layer that gives the tensor, up to activation functions that let factors pass.
        normalization: a BatchNormalization between them, or None.
        clip: the value above which a ReLU in between cuts off (6 for ReLU6); None without.
        reader: an operation that has the tensor as its input.
        consumers: the layers whose kernels read it, each with how often its inputs repeat the channels
            (behind Flatten).
    """

    producer: keras.Layer
    normalization: layers.BatchNormalization | None
    clip: float | None
    reader: keras.Operation
    consumers: list[tuple[keras.Layer, int]]

    @property
    def channels(self) -> int:
        """Channels of the tensor."""
        layer = self.producer
        if isinstance(layer, _DEPTHWISE):
            return int(np.prod(layer.kernel.shape[-2:]))
        return layer.kernel.shape[-2] if isinstance(layer, _TRANSPOSED) else _kernel(layer, -1).shape[-1]


def scaling_pairs(model: keras.Model) -> list[ScalingPair]:
    """The pairs of a model and of the models nested in it, in the order of the graph."""
    calls = defaultdict(int)
    graphs = [(level, nodes_of(level)) for level in levels(model)]
    for _, nodes in graphs:
        for node in nodes:
            calls[id(node.operation)] += 1
    return [pair for level, nodes in graphs for pair in _Graph(level, nodes, calls).pairs()]


class _Graph:
    """One level of a model."""

    def __init__(self, level, nodes: list[Node], calls):
        self._nodes, self._calls = nodes, calls
        self._outputs = {id(tensor) for tensor in graph_of(level).outputs}
        self._readers = defaultdict(list)
        for node in nodes:
            for tensor in node.inputs:
                self._readers[tensor].append(node)

    def pairs(self) -> Iterator[ScalingPair]:
        for node in self._nodes:
            if self._is_kernel(node):
                pair = self._pair(node)
                if pair is not None:
                    yield pair

    def _is_kernel(self, node) -> bool:
        layer = node.operation
        return (
            isinstance(layer, _PRODUCERS)
            and self._calls[id(layer)] == 1
            and bool(kernels(layer))
            and getattr(layer, "data_format", "channels_last") == "channels_last"
        )

    def _pair(self, node) -> ScalingPair | None:
        normalization, tensor, clips = None, node.outputs[0], []
        function = node.operation.activation
        if not _is_homogeneous(function):
            return None
        clips.append(_clip_of(function))
        while (reader := self._only_reader(tensor)) is not None:
            layer = reader.operation
            if _is_last_axis_norm(layer) and normalization is None and behaviour.is_linear(node.operation):
                if clips != [None] or self._calls[id(layer)] > 1:
                    return None
                normalization = layer
            elif _is_activation(layer) and self._calls[id(layer)] == 1:
                clips.append(_clip_of(layer))
            else:
                break
            tensor = reader.outputs[0]
        limits = [clip for clip in clips if clip is not None]
        consumers = self._consumers(tensor)
        if not consumers:
            return None
        reader = self._readers[tensor][0].operation
        return ScalingPair(node.operation, normalization, min(limits, default=None), reader, consumers)

    def _only_reader(self, tensor) -> Node | None:
        readers = self._readers[tensor]
        return readers[0] if len(readers) == 1 and tensor not in self._outputs else None

    def _consumers(self, tensor, repeats: int = 1) -> list[tuple[keras.Layer, int]] | None:
        """The layers whose kernels read a tensor; None if anything else does."""
        if tensor in self._outputs or not self._readers[tensor]:
            return None
        found = []
        for node in self._readers[tensor]:
            layer = node.operation
            if self._is_kernel(node):
                found.append((layer, repeats))
                continue
            if isinstance(layer, layers.Flatten) and layer.data_format == "channels_last":
                sizes = layer.input.shape[1:-1]
                more = None if None in sizes else int(np.prod(sizes))
            else:
                more = 1 if _is_channelwise(layer) else None
            behind = None if more is None else self._consumers(node.outputs[0], repeats * more)
            if behind is None:
                return None
            found += behind
        return found


def _is_channelwise(layer) -> bool:
    last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return (isinstance(layer, _CHANNELWISE) and last) or _is_plain_relu(layer)


def _is_plain_relu(layer) -> bool:
    return behaviour.is_relu(layer) and _clip_of(layer) is None


def _is_homogeneous(function) -> bool:
    return behaviour.is_fused_activation(function) or function is activations.leaky_relu


def _is_activation(layer) -> bool:
    """Whether f(a x) = a f(x) for a > 0, or up to a greatest value."""
    if isinstance(layer, layers.Activation):
        return _is_homogeneous(layer.activation)
    if isinstance(layer, layers.ReLU):
        return not layer.threshold
    return isinstance(layer, (layers.LeakyReLU, layers.PReLU)) or behaviour.is_relu(layer)


def _clip_of(operation) -> float | None:
    function = getattr(operation, "activation", operation)
    if function is activations.relu6 or type(operation).__name__ == "Relu6":
        return 6.0
    return getattr(operation, "max_value", None)


def _is_last_axis_norm(layer) -> bool:
    return isinstance(layer, layers.BatchNormalization) and layer.axis in (-1, len(layer.input.shape) - 1)


def divide_outputs(pair: ScalingPair, factors: np.ndarray) -> None:
    """Divides the channels of a pair's tensor by `factors` > 0, up to what its activation cuts off."""
    norm, layer = pair.normalization, pair.producer
    if norm is not None:
        if norm.gamma is not None:
            norm.gamma.assign(norm.gamma / factors)
        else:
            variance = (norm.moving_variance + norm.epsilon) * np.square(factors)
            norm.moving_variance.assign(variance - norm.epsilon)
        if norm.beta is not None:
            norm.beta.assign(norm.beta / factors)
        return
    kernel = _kernel(layer, -1)
    if isinstance(layer, _DEPTHWISE):
        kernel.assign(kernel / factors.reshape(kernel.shape[-2:]))
    else:
        kernel.assign(kernel / (factors[:, None] if isinstance(layer, _TRANSPOSED) else factors))
    if layer.bias is not None:
        layer.bias.assign(layer.bias / factors)


def by_input(layer: keras.Layer, repeats: int) -> np.ndarray:
    """A consumer's kernel as (channels, inputs per channel, outputs per input)."""
    kernel = _kernel(layer, 0)
    values = np.asarray(kernel)
    if isinstance(layer, layers.Dense):
        return values.reshape(repeats, -1, values.shape[-1]).swapaxes(0, 1)
    if isinstance(layer, _TRANSPOSED):
        return np.moveaxis(values, -1, 0).reshape(values.shape[-1], -1, values.shape[-2])
    moved = np.moveaxis(values, -2, 0)
    moved = moved.reshape(values.shape[-2], -1, values.shape[-1])
    groups = 1 if isinstance(layer, (*_DEPTHWISE, *_SEPARABLE)) else layer.groups
    # Each group reads channels of its own and gives outputs of its own.
    return np.concatenate(np.split(moved, groups, axis=-1)) if groups > 1 else moved


def multiply_inputs(layer: keras.Layer, repeats: int, factors: np.ndarray) -> None:
    """Multiplies what a consumer's kernel reads by `factors`, per channel of the tensor."""
    kernel = _kernel(layer, 0)
    if isinstance(layer, layers.Dense):
        kernel.assign(kernel * np.tile(factors, repeats)[:, None])
    elif isinstance(layer, _TRANSPOSED):
        kernel.assign(kernel * factors)
    elif isinstance(layer, (*_DEPTHWISE, *_SEPARABLE)) or layer.groups == 1:
        kernel.assign(kernel * factors[:, None])
    else:
        inputs, outputs = kernel.shape[-2:]
        spread = factors.reshape(layer.groups, inputs).T
        kernel.assign(kernel * np.repeat(spread, outputs // layer.groups, axis=1))


def is_depthwise(layer: keras.Layer) -> bool:
    """Whether each output channel reads one input channel alone."""
    return isinstance(layer, (*_DEPTHWISE, *_SEPARABLE))


def _kernel(layer, position: int) -> keras.Variable:
    return kernels(layer)[position][1]
