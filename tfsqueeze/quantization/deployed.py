"""The model that is converted: plain layers with baked weights, and ranges as constants."""

from collections import defaultdict
from collections.abc import Iterator

import keras
import numpy as np

from tfsqueeze.core import copying
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.quantization import behaviour
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.attention import QuantizedAttention, copy_attention, flatten_projections
from tfsqueeze.quantization.integer_forms import (
    Following,
    ScaleAndShift,
    integer_form,
)
from tfsqueeze.quantization.ranges import levels, nodes_of
from tfsqueeze.quantization.strip import bake
from tfsqueeze.quantization.wrapper import QuantizedLayer, QuantizedSeparable


def deployed(model: keras.Model) -> keras.Model:
    """The inference twin of a quantization-aware model, in the form the converter turns into integers.

    Kernel rounding is baked in, since the converter finds the same scales again but breaks on rounding in the
    graph; activation ranges become constants; normalisation that follows no kernel becomes a 1x1 depthwise
    convolution, which has an integer operator; a product and a sum with no range between them have none.
    """
    alone, following, taken_in = _standing_alone(model), {}, set()
    for wrapper, layers in _followers(model):
        following[id(wrapper)] = _following(layers)
        taken_in |= {id(layer) for layer in layers}

    def replace(layer):
        if id(layer) in taken_in:
            return []
        if isinstance(layer, ActivationQuantizer):
            return _constant(layer)
        if isinstance(layer, QuantizedSeparable):
            return _separable(layer)
        if isinstance(layer, QuantizedLayer):
            return [_integer_form(layer, following.get(id(layer), Following())), *_activation(layer)]
        if isinstance(layer, QuantizedAttention):
            quantizers = [_constant(quantizer) for quantizer in layer.quantizers]
            twin = copying.copy_layer(layer.layer)
            return QuantizedAttention(twin, quantizers, is_baked=True, name=layer.name)
        if behaviour.averages_everything(layer):
            return keras.layers.GlobalAveragePooling2D(keepdims=True, name=layer.name)
        if id(layer) in alone:
            return ScaleAndShift(*affine(layer), name=layer.name)
        return None

    def transfer(old, new_layers):
        if isinstance(old, QuantizedSeparable):
            _fill_separable(old, new_layers)
        elif isinstance(old, QuantizedAttention):
            copy_attention(old.layer, new_layers[0].layer, baked=True)
            flatten_projections(new_layers[0].layer)
        elif isinstance(old, QuantizedLayer) and integer_form(old.layer) is None:
            copying.copy_state(old.layer, new_layers[0])
            bake(old, new_layers[0])

    return rewrite(model, replace, transfer=transfer)


def _integer_form(wrapper: QuantizedLayer, following: Following) -> keras.Layer:
    """The layer in the form whose operators the converter fuses: itself, where it does so anyway."""
    layer = wrapper.layer
    form = integer_form(layer)
    if form is not None:
        return form(layer, wrapper.baked()["kernel"], following, name=wrapper.name)
    plain = copying.copy_layer(layer)
    plain.name = wrapper.name
    return plain


def _followers(model) -> Iterator[tuple[QuantizedLayer, list[keras.Layer]]]:
    """BatchNormalization and ReLU behind a kernel whose form ends in a reshape that would part them."""
    for level in levels(model):
        nodes = nodes_of(level)
        readers = defaultdict(list)
        for node in nodes:
            for tensor in node.inputs:
                readers[tensor].append(node)
        for node in nodes:
            wrapper = node.operation
            if not isinstance(wrapper, QuantizedLayer) or wrapper.activation is not None:
                continue
            if integer_form(wrapper.layer) is not None:
                yield wrapper, list(_taken_in(node, readers))


def _taken_in(node, readers) -> Iterator[keras.Layer]:
    while len(readers[node.outputs[0]]) == 1:
        (node,) = readers[node.outputs[0]]
        layer = node.operation
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        if not isinstance(layer, keras.Layer) or not (is_norm or behaviour.is_relu(layer)):
            return
        yield layer


def _following(layers) -> Following:
    scale, shift, activation = 1.0, 0.0, None
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, shift = affine(layer)
        else:
            activation = layer
    return Following(scale, shift, activation)


def affine(layer) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift per channel of a layer that computes x * scale + shift in inference."""
    if isinstance(layer, keras.layers.BatchNormalization):
        mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
        scale = 1.0 / np.sqrt(variance + layer.epsilon)
        scale = scale * layer.gamma.numpy() if layer.gamma is not None else scale
        shift = -mean * scale
        return scale, shift + layer.beta.numpy() if layer.beta is not None else shift
    if isinstance(layer, keras.layers.Normalization):
        mean = np.ravel(layer.mean)
        deviation = np.maximum(np.sqrt(np.ravel(layer.variance)), keras.backend.epsilon())
        return (deviation, mean) if layer.invert else (1.0 / deviation, -mean / deviation)
    return np.asarray(layer.scale, np.float32), np.asarray(layer.offset, np.float32)


def _standing_alone(model) -> set[int]:
    """Affine layers that no kernel in front of them takes in, and whose channels are the last axis."""
    found = set()
    for level in levels(model):
        nodes = nodes_of(level)
        producer = {tensor: node.operation for node in nodes for tensor in node.outputs}
        for node in nodes:
            layer = node.operation
            if _is_affine(layer) and not _folds(producer[node.inputs[0]]):
                found.add(id(layer))
    return found


def _folds(operation) -> bool:
    return behaviour.folds_batch_norm(getattr(operation, "layer", operation))


def _is_affine(layer) -> bool:
    if isinstance(layer, keras.layers.Normalization):
        rank, channels = len(layer.input.shape), layer.input.shape[-1]
        return rank <= 4 and channels is not None and layer.axis in ((), (-1,), (rank - 1,))
    if isinstance(layer, keras.layers.Rescaling):
        rank, channels = len(layer.input.shape), layer.input.shape[-1]
        return rank <= 4 and channels is not None and np.size(layer.scale) in (1, channels)
    if isinstance(layer, keras.layers.BatchNormalization):
        rank = len(layer.input.shape)
        return rank <= 4 and layer.axis in (-1, rank - 1)
    return False


def _constant(quantizer: ActivationQuantizer) -> ActivationQuantizer:
    return ActivationQuantizer(
        bits=quantizer.bits,
        symmetric=quantizer.symmetric,
        slots=quantizer.slots,
        fixed=quantizer.bounds(),
        rescale=quantizer.rescale,
        name=quantizer.name,
    )


def _activation(layer: QuantizedLayer) -> list[keras.Layer]:
    if layer.activation is None:
        return []
    function = keras.layers.Activation(layer.activation, name=f"{layer.name}_activation")
    return [_constant(layer.quantizer), function]


def _separable(wrapper: QuantizedSeparable) -> list[keras.Layer]:
    layer = wrapper.layer
    one = isinstance(layer, keras.layers.SeparableConv1D)
    depthwise = (keras.layers.DepthwiseConv1D if one else keras.layers.DepthwiseConv2D)(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
        use_bias=False,
        name=f"{wrapper.name}_depthwise",
    )
    pointwise = (keras.layers.Conv1D if one else keras.layers.Conv2D)(
        layer.filters,
        1,
        data_format=layer.data_format,
        use_bias=layer.use_bias,
        activation=layer.activation,
        name=f"{wrapper.name}_pointwise",
    )
    return [depthwise, _constant(wrapper.between), pointwise, *_activation(wrapper)]


def _fill_separable(wrapper: QuantizedSeparable, new_layers) -> None:
    depthwise, _, pointwise = new_layers[:3]
    kernels = wrapper.baked()
    depthwise.kernel.assign(kernels["depthwise_kernel"])
    pointwise.kernel.assign(kernels["pointwise_kernel"])
    if wrapper.layer.use_bias:
        pointwise.bias.assign(wrapper.layer.bias)
