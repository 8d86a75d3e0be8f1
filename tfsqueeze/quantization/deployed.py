"""The model that is converted: plain layers with baked weights, and ranges as constants."""

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core import copying
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.ranges import levels, nodes_of
from tfsqueeze.quantization.strip import bake
from tfsqueeze.quantization.wrapper import QuantizedLayer, QuantizedSeparable


def deployed(model: keras.Model) -> keras.Model:
    """The inference twin of a quantization-aware model, in the form the converter turns into integers.

    Kernel rounding is baked in, since the converter finds the same scales again but breaks on rounding in the
    graph; activation ranges become constants; normalisation that follows no kernel becomes a 1x1 depthwise
    convolution, which has an integer operator; a product and a sum with no range between them have none.
    """
    alone = _standing_alone(model)

    def replace(layer):
        if isinstance(layer, ActivationQuantizer):
            return _constant(layer)
        if isinstance(layer, QuantizedSeparable):
            return _separable(layer)
        if isinstance(layer, QuantizedLayer):
            plain = copying.copy_layer(layer.layer)
            plain.name = layer.name
            return [plain, *_activation(layer)]
        if id(layer) in alone:
            return ScaleAndShift(*affine(layer), name=layer.name)
        return None

    def transfer(old, new_layers):
        if isinstance(old, QuantizedSeparable):
            _fill_separable(old, new_layers)
        elif isinstance(old, QuantizedLayer):
            copying.copy_state(old.layer, new_layers[0])
            bake(old, new_layers[0])

    return rewrite(model, replace, transfer=transfer)


@keras.saving.register_keras_serializable(package="tfsqueeze")
class ScaleAndShift(keras.Layer):
    """x * scale + shift per channel (the last axis), as a 1x1 depthwise convolution."""

    def __init__(self, scale, shift, **kwargs):
        super().__init__(**kwargs)
        self.scale = np.asarray(scale, np.float32)
        self.shift = np.asarray(shift, np.float32)

    def call(self, inputs, training=None, mask=None):
        """Scales and shifts; takes what the layer in whose place it stands is called with."""
        channels = inputs.shape[-1]
        missing = 4 - len(inputs.shape)
        sizes = [-1 if size is None else size for size in inputs.shape[1:-1]]
        image = keras.ops.reshape(inputs, (-1, *sizes, *([1] * missing), channels)) if missing else inputs
        kernel = tf.reshape(tf.constant(self.scale), (1, 1, channels, 1))
        outputs = tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "VALID") + self.shift
        return keras.ops.reshape(outputs, (-1, *sizes, channels)) if missing else outputs

    def compute_output_shape(self, input_shape):
        """The input's."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale.tolist(), "shift": self.shift.tolist()}


def affine(layer) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift per channel of a layer that computes x * scale + shift in inference."""
    if isinstance(layer, keras.layers.BatchNormalization):
        mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
        scale = 1.0 / np.sqrt(variance + layer.epsilon)
        scale = scale * layer.gamma.numpy() if layer.gamma is not None else scale
        shift = -mean * scale
        return scale, shift + layer.beta.numpy() if layer.beta is not None else shift
    scale, shift = np.asarray(layer.scale, np.float32), np.asarray(layer.offset, np.float32)
    return scale, shift


def _standing_alone(model) -> set[int]:
    """Affine layers that no kernel in front of them takes in, and whose channels are the last axis."""
    found = set()
    for level in levels(model):
        nodes = nodes_of(level)
        producer = {tensor: node.operation for node in nodes for tensor in node.outputs}
        for node in nodes:
            layer = node.operation
            if _is_affine(layer) and not isinstance(producer[node.inputs[0]], QuantizedLayer):
                found.add(id(layer))
    return found


def _is_affine(layer) -> bool:
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
