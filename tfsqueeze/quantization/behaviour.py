"""What each layer and operation does to the range of a tensor: the rules of integer inference, once.

A `.tflite` kernel reads and writes integers of a scale. Some only move values about and keep the scale; some
need all their inputs on one scale; some write to a scale that is fixed; most have a scale of their own.
"""

import keras
from keras import activations, layers

from tfsqueeze.core.layer_info import kernels

SIGMOID_RANGE = (0.0, 255.0 / 256.0)
TANH_RANGE = (-1.0, 127.0 / 128.0)

CHANNELWISE_LAYERS = (
    layers.Identity,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
)
"""Layers that move, choose or average values within each channel."""

_MOVING_LAYERS = (
    *CHANNELWISE_LAYERS,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.RepeatVector,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Resizing,
    layers.CenterCrop,
)
_MOVING_OPERATIONS = {
    "Reshape",
    "Transpose",
    "Squeeze",
    "ExpandDims",
    "GetItem",
    "Flip",
    "Moveaxis",
    "Swapaxes",
    "Ravel",
    "Repeat",
    "Tile",
    "BroadcastTo",
    "Take",
    "Pad",
    "Roll",
    "MaxPool",
    "AveragePool",
    "Max",
    "Min",
    "Resize",
    "StopGradient",
    "Slice",
}
_AVERAGING_LAYERS = (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)
_INTERPOLATING_LAYERS = (layers.UpSampling2D, layers.Resizing)
_JOINING_LAYERS = (layers.Concatenate, layers.Maximum, layers.Minimum)
_JOINING_OPERATIONS = {"Concatenate", "Stack", "Hstack", "Vstack", "Maximum", "Minimum", "Append"}
_SUMMING_LAYERS = (layers.Add, layers.Subtract, layers.Multiply)
_SUMMING_OPERATIONS = {"Add", "Subtract", "Multiply"}
_FOLDING = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
)
_FUSED_ACTIVATIONS = (activations.relu, activations.relu6)
_RANGES = {
    activations.sigmoid: SIGMOID_RANGE,
    activations.softmax: SIGMOID_RANGE,
    activations.tanh: TANH_RANGE,
}
_OPERATION_RANGES = {"Sigmoid": SIGMOID_RANGE, "Softmax": SIGMOID_RANGE, "Tanh": TANH_RANGE}


def passes_range_on(operation) -> bool:
    """Whether the output's values are the input's, moved, repeated, chosen or averaged in place."""
    if isinstance(operation, layers.Activation):
        return operation.activation is activations.linear
    if averages_everything(operation):
        return False
    return isinstance(operation, _MOVING_LAYERS) or _is_operation(operation, _MOVING_OPERATIONS)


def averages(operation) -> bool:
    """Whether the output has its input's scale, but values between the levels, which are rounded."""
    if isinstance(operation, _INTERPOLATING_LAYERS):
        return getattr(operation, "interpolation", "") != "nearest"
    return isinstance(operation, _AVERAGING_LAYERS) or _is_operation(operation, {"AveragePool", "Resize"})


def averages_everything(operation) -> bool:
    """Whether it is an average pooling over the whole map: a mean, whose operator has a scale of its own."""
    if not isinstance(operation, layers.AveragePooling2D) or operation.data_format != "channels_last":
        return False
    sizes = {tuple(node.input_tensors[0].shape[1:3]) for node in operation._inbound_nodes}
    return sizes == {tuple(operation.pool_size)} and operation.padding == "valid"


def shares_one_range(operation) -> bool:
    """Whether all inputs and the output must be on one scale."""
    return isinstance(operation, _JOINING_LAYERS) or _is_operation(operation, _JOINING_OPERATIONS)


def is_linear(layer) -> bool:
    """Whether a layer with a kernel ends without an activation function."""
    return getattr(layer, "activation", None) in (None, activations.linear)


def folds_batch_norm(operation) -> bool:
    """Whether a BatchNormalization behind it becomes part of its kernel and bias."""
    return isinstance(operation, _FOLDING) and is_linear(operation)


def takes_in_relu(operation) -> bool:
    """Whether a ReLU behind it becomes part of the same integer operator."""
    if isinstance(operation, (layers.BatchNormalization, *_SUMMING_LAYERS)):
        return True
    if _is_operation(operation, _SUMMING_OPERATIONS):
        return True
    return folds_batch_norm(operation) or (isinstance(operation, layers.EinsumDense) and is_linear(operation))


def is_relu(operation) -> bool:
    """Whether it is a ReLU that integer operators have built in: max(x, 0), or clipped at 6."""
    if isinstance(operation, layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return plain and operation.max_value in (None, 6.0)
    if isinstance(operation, layers.Activation):
        return operation.activation in _FUSED_ACTIVATIONS
    return _is_operation(operation, {"Relu", "Relu6"})


def is_softmax(operation) -> bool:
    """Whether it is a softmax over the last axis."""
    if isinstance(operation, layers.Activation):
        return operation.activation is activations.softmax
    if isinstance(operation, layers.Softmax) or _is_operation(operation, {"Softmax"}):
        return operation.axis == -1
    return False


def is_fused_activation(function) -> bool:
    """Whether an activation function of a layer with a kernel is part of its integer operator."""
    return function is None or function is activations.linear or function in _FUSED_ACTIVATIONS


def fixed_range(operation) -> tuple[float, float] | None:
    """The range that the integer kernel of a bounded function always writes to, or None."""
    if isinstance(operation, layers.Softmax):
        return SIGMOID_RANGE
    function = getattr(operation, "activation", None)
    if callable(function) and (isinstance(operation, layers.Activation) or kernels(operation)):
        return _RANGES.get(function)
    name = type(operation).__name__
    return _OPERATION_RANGES.get(name) if not isinstance(operation, keras.Layer) else None


def _is_operation(operation, names) -> bool:
    return not isinstance(operation, keras.Layer) and type(operation).__name__ in names
