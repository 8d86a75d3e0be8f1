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
        layer: the built layer, for which `integer_form` gives this class.
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


class DirectConvolution(keras.Layer):
    """A dilated `Conv2D` as one operator.

    Args:
        layer: the built layer, channels last.
        kernel: its kernel.
        following: what else to compute.
    """

    def __init__(self, layer, kernel, following=Following(), **kwargs):
        super().__init__(**kwargs)
        self._kernel = self._scaled(kernel, following.scale)
        self._bias = _bias(layer, following)
        self._strides, self._dilations = list(layer.strides), list(layer.dilation_rate)
        self._padding = layer.padding
        self._activation = following.activation or layer.activation
        self._output_shape = layer.compute_output_shape

    def call(self, inputs, training=None):
        """Convolves."""
        outputs = tf.nn.conv2d(
            inputs,
            tf.constant(self._kernel),
            strides=self._strides,
            padding=self._padding.upper(),
            dilations=self._dilations,
        )
        outputs = outputs + self._bias
        return outputs if self._activation is None else self._activation(outputs)

    def compute_output_shape(self, input_shape):
        """The convolution's."""
        return self._output_shape(input_shape)

    def _scaled(self, kernel, scale):
        return kernel * scale


class DilatedDepthwise(DirectConvolution):
    """A dilated `DepthwiseConv2D` on small images, with bias and activation before they are joined again."""

    def call(self, inputs, training=None):
        """Convolves small images."""

        def convolve(images, _, padding):
            outputs = tf.nn.depthwise_conv2d(images, tf.constant(self._kernel), [1, 1, 1, 1], padding)
            outputs = outputs + self._bias
            return outputs if self._activation is None else self._activation(outputs)

        return tf.compat.v1.nn.with_space_to_batch(
            inputs, self._dilations, self._padding.upper(), convolve, filter_shape=self._kernel.shape[:2]
        )

    def _scaled(self, kernel, scale):
        shape = kernel.shape[-2:]
        return kernel * np.broadcast_to(scale, (math.prod(shape),)).reshape(shape)


class RowConvolution(DirectConvolution):
    """A `Conv1D` as a two-dimensional convolution of height 1; its arguments are those of the other."""

    def __init__(self, layer, kernel, following=Following(), **kwargs):
        super().__init__(layer, kernel, following, **kwargs)
        self._kernel = self._kernel[None]
        self._strides, self._dilations = [1, *self._strides], [1, *self._dilations]
        self._is_causal = self._padding == "causal"
        if self._is_causal:
            self._padding = "valid"

    def call(self, inputs, training=None):
        """Convolves rows."""
        if self._is_causal:
            left = self._dilations[1] * (self._kernel.shape[1] - 1)
            inputs = tf.pad(inputs, [[0, 0], [left, 0], [0, 0]])
        return tf.squeeze(super().call(tf.expand_dims(inputs, 1)), 1)


def integer_form(layer) -> type[keras.Layer] | None:
    """What can stand in for a built layer that the converter would not fuse, if it is one."""
    if _is_matrix_product(layer):
        return FlatDense
    if getattr(layer, "data_format", None) != "channels_last":
        return None
    if isinstance(layer, keras.layers.Conv1D):
        return RowConvolution
    if max(getattr(layer, "dilation_rate", None) or (1,)) == 1:
        return None
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return DilatedDepthwise
    return DirectConvolution if isinstance(layer, keras.layers.Conv2D) and layer.groups == 1 else None


def _is_matrix_product(layer) -> bool:
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
