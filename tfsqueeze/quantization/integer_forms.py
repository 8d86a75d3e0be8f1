"""Layers that compute what Keras layers do, in the form that the converter fuses into integer operators.

A bias that is added behind a reshape stands alone, with no range in front of it, and stays float; so does a
convolution that is taken apart for its dilation. These forms hold their weights as constants.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf


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
        kernel = np.broadcast_to(self.scale, (channels,)).reshape(1, 1, channels, 1)
        outputs = tf.nn.depthwise_conv2d(image, tf.constant(kernel), [1, 1, 1, 1], "VALID") + self.shift
        return keras.ops.reshape(outputs, (-1, *sizes, channels)) if missing else outputs

    def compute_output_shape(self, input_shape):
        """The input's."""
        return input_shape


@dataclass(frozen=True)
class Following:
    """What stands behind a kernel and is computed with it: a scale and shift per channel, a function."""

    scale: np.ndarray | float = 1.0
    shift: np.ndarray | float = 0.0
    activation: Callable | None = None


class FlatDense(keras.Layer):
    """A `Dense` or `EinsumDense` as one matrix product: reshape, multiply, add the bias, activate, reshape.

    Args:
        layer: the built layer, for which `is_matrix_product` holds.
        kernel: its kernel.
        following: what else to compute before the last reshape.
    """

    def __init__(self, layer, kernel, following=Following(), **kwargs):
        super().__init__(**kwargs)
        kernel = kernel * following.scale
        self._reduced = _reduced_axes(layer)
        self._out = tuple(kernel.shape[self._reduced :])
        self._matrix = np.reshape(kernel, (-1, math.prod(self._out)))
        self._bias = np.broadcast_to(_bias(layer, following), self._out).reshape(-1)
        self._activation = following.activation or layer.activation

    def call(self, inputs, training=None):
        """Multiplies."""
        flat = keras.ops.reshape(inputs, (-1, self._matrix.shape[0]))
        outputs = tf.matmul(flat, tf.constant(self._matrix)) + self._bias
        if self._activation is not None:
            outputs = self._activation(outputs)
        kept = len(inputs.shape) - self._reduced
        sizes = [-1 if size is None else size for size in inputs.shape[:kept]]
        if sizes.count(-1) > 1:
            return tf.reshape(outputs, tf.concat([tf.shape(inputs)[:kept], self._out], 0))
        return tf.reshape(outputs, (*sizes, *self._out))

    def compute_output_shape(self, input_shape):
        """The untouched axes and the kernel's output axes."""
        return (*input_shape[: len(input_shape) - self._reduced], *self._out)


class RowConvolution(keras.Layer):
    """A `Conv1D` as a two-dimensional convolution of height 1.

    Args:
        layer: the built layer, channels last.
        kernel: its kernel.
        following: what else to compute before the height is taken off again.
    """

    def __init__(self, layer, kernel, following=Following(), **kwargs):
        super().__init__(**kwargs)
        self._kernel = (kernel * following.scale)[None]
        self._bias = _bias(layer, following)
        self._strides = [1, 1, layer.strides[0], 1]
        self._dilations = [1, 1, layer.dilation_rate[0], 1]
        self._padding = layer.padding
        self._activation = following.activation or layer.activation
        self._output_shape = layer.compute_output_shape

    def call(self, inputs, training=None):
        """Convolves."""
        padding = self._padding
        if padding == "causal":
            left = self._dilations[2] * (self._kernel.shape[1] - 1)
            inputs, padding = tf.pad(inputs, [[0, 0], [left, 0], [0, 0]]), "valid"
        outputs = tf.nn.conv2d(
            tf.expand_dims(inputs, 1),
            tf.constant(self._kernel),
            strides=self._strides,
            padding=padding.upper(),
            dilations=self._dilations,
        )
        outputs = outputs + self._bias
        if self._activation is not None:
            outputs = self._activation(outputs)
        return tf.squeeze(outputs, 1)

    def compute_output_shape(self, input_shape):
        """The convolution's."""
        return self._output_shape(input_shape)


def is_matrix_product(layer) -> bool:
    """Whether `FlatDense` can stand in for a built layer that the converter would not fuse.

    That is a `Dense` or `EinsumDense` that sums over the last axes of an input with more than two axes, with
    a bias on the output axes alone.
    """
    if not isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense)):
        return False
    reduced = _reduced_axes(layer)
    spec = _input_shape(layer)
    if reduced is None or spec is None or len(spec) <= 2:
        return False
    out = layer.kernel.shape[reduced:]
    return layer.bias is None or len(layer.bias.shape) <= len(out)


def is_row_convolution(layer) -> bool:
    """Whether `RowConvolution` can stand in for a layer."""
    return isinstance(layer, keras.layers.Conv1D) and layer.data_format == "channels_last"


def _bias(layer, following: Following) -> np.ndarray:
    bias = 0.0 if layer.bias is None else layer.bias.numpy()
    return np.asarray(bias * following.scale + following.shift, np.float32)


def _input_shape(layer):
    try:
        return tuple(layer._build_shapes_dict["input_shape"])
    except (AttributeError, KeyError, TypeError):
        return None


def _reduced_axes(layer) -> int | None:
    """How many last axes of the input are summed over, in the order of the kernel's first axes."""
    if isinstance(layer, keras.layers.Dense):
        return 1
    inputs, rest = layer.equation.replace(" ", "").split(",")
    kernel, output = rest.split("->")
    summed = [axis for axis in kernel if axis in inputs and axis not in output]
    count = len(summed)
    kept = inputs[: len(inputs) - count]
    fits = inputs.endswith(kernel[:count]) and output == kept + kernel[count:] and "." not in layer.equation
    return count if fits and count else None
