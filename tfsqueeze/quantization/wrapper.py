"""The layer around a layer, which lets it compute with rounded weights."""

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.layer_info import Kernel, kernels
from tfsqueeze.quantization.methods import METHODS
from tfsqueeze.quantization.switch import switched


@keras.saving.register_keras_serializable(package="tfsqueeze")
class QuantizedLayer(keras.layers.Wrapper):
    """A layer that computes with its kernels rounded; the float kernels inside it are what is trained.

    Args:
        layer: the layer, with its activation function where it can be fused (linear, ReLU).
        weights: name of the rounding method; see `tfs.QuantizationConfig`.
        bits: of the weights.
        per_channel: whether each output channel has a scale of its own.
        activation: activation function taken off the layer, to be applied to its rounded output; or None.
        quantizer: what rounds the input of `activation`.
        kernel_names: attributes of a layer of the user's that hold its kernels, output channels last; None
            for layers that are known.

    Attributes:
        is_rounding: whether the rounded or the float kernels are used; a `tf.Variable` to switch it in
            compiled functions.
    """

    parts = ("layer", "quantizer")

    def __init__(
        self,
        layer,
        weights="uniform",
        bits=8,
        per_channel=True,
        activation=None,
        quantizer=None,
        kernel_names=None,
        **kwargs,
    ):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, autocast=False, **kwargs)
        self.method = METHODS[weights]
        self.weights_method = weights
        self.bits = bits
        self.per_channel = per_channel
        self.activation = keras.activations.get(activation) if activation is not None else None
        self.quantizer = quantizer
        self.kernel_names = None if kernel_names is None else tuple(kernel_names)
        self.is_rounding = True
        self.supports_masking = layer.supports_masking
        # Losses added inside a stateless scope are dropped, so the wrapper adds the layer's own.
        self.activity_regularizer = getattr(layer, "activity_regularizer", None)

    @property
    def stored_bits(self) -> int:
        """Bits that a weight needs."""
        return self.method.bits or self.bits

    def build(self, input_shape=None):
        """Builds the layer, and the scales that are trained."""
        super().build(input_shape)
        for kernel, variable in self.kernels():
            axes = self.axes(kernel)
            shape = tuple(1 if axis in axes else size for axis, size in enumerate(variable.shape))
            for name in self.method.trained:
                self.add_weight(
                    name=f"{kernel.attribute}_{name}",
                    shape=shape,
                    initializer="ones",
                    dtype="float32",
                    autocast=False,
                )

            if self.method.needs_curvature:
                self.add_weight(
                    name=f"{kernel.attribute}_curvature",
                    shape=variable.shape,
                    initializer="ones",
                    trainable=False,
                    dtype="float32",
                    autocast=False,
                )

    def start_scales(self) -> None:
        """Sets the trained scales to what fits the kernels as they are."""
        for kernel, variable in self.kernels():
            for name, start in self.method.trained.items():
                value = tf.convert_to_tensor(variable.value)
                self._scale(kernel, name).assign(start(value, self.axes(kernel), self.bits))

    def kernels(self) -> list[tuple[Kernel, keras.Variable]]:
        """The kernels that are rounded, with what their axes mean."""
        if self.kernel_names is None:
            return kernels(self.layer)
        variables = [getattr(self.layer, name) for name in self.kernel_names]
        return [
            (Kernel(name, tuple(range(len(variable.shape) - 1)), (len(variable.shape) - 1,)), variable)
            for name, variable in zip(self.kernel_names, variables, strict=True)
        ]

    def axes(self, kernel: Kernel) -> tuple[int, ...]:
        """The axes of a kernel that share one scale; the file looks embeddings up with a single one."""
        if self.per_channel and not isinstance(self.layer, keras.layers.Embedding):
            return kernel.inputs
        return tuple(sorted((*kernel.inputs, *kernel.outputs)))

    def rounded(self, kernel: Kernel, variable, training: bool = False):
        """A kernel on its grid."""
        scales = {name: tf.convert_to_tensor(self._scale(kernel, name)) for name in self.method.trained}
        options = {"training": training} if self.method.is_stochastic else {}
        if self.method.needs_curvature:
            options["curvature"] = tf.convert_to_tensor(self._scale(kernel, "curvature"))
        value = tf.cast(tf.convert_to_tensor(variable), tf.float32)
        return self.method.round(value, self.axes(kernel), self.bits, **scales, **options)

    def baked(self) -> dict[str, np.ndarray]:
        """The kernels on their grids as inference uses them, by attribute."""
        return {
            kernel.attribute: self.rounded(kernel, variable).numpy() for kernel, variable in self.kernels()
        }

    def call(self, inputs, training=False):
        """Calls the layer with rounded kernels."""
        outputs = self._call_layer(inputs, bool(training))
        if self.activation is None:
            return outputs
        return self.activation(self.quantizer(outputs, training=training))

    def _call_layer(self, inputs, training):
        if self.is_rounding is False:
            return self.layer(inputs)
        swapped = [
            (variable, self._in_use(kernel, variable, training)) for kernel, variable in self.kernels()
        ]
        with keras.StatelessScope(swapped):
            return self.layer(inputs)

    def _in_use(self, kernel, variable, training):
        """A kernel as the layer computes with it."""
        plain = tf.convert_to_tensor(variable)
        return switched(self.is_rounding, lambda: self.rounded(kernel, variable, training), plain)

    def _scale(self, kernel, name) -> keras.Variable:
        wanted = f"{kernel.attribute}_{name}"
        own = (*self._trainable_variables, *self._non_trainable_variables)
        return next(variable for variable in own if variable.name == wanted)

    def curvatures(self) -> list[tuple[keras.Variable, keras.Variable]]:
        """Each kernel with the variable that holds its curvature, for methods that need it."""
        if not self.method.needs_curvature:
            return []
        return [(variable, self._scale(kernel, "curvature")) for kernel, variable in self.kernels()]

    def compute_mask(self, inputs, previous_mask=None):
        """The layer's."""
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape):
        """The layer's."""
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, inputs, training=False):
        """The layer's: a single float tensor."""
        return self.layer.compute_output_spec(inputs)

    def get_config(self):
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "weights": self.weights_method,
            "bits": self.bits,
            "per_channel": self.per_channel,
            "activation": None if self.activation is None else keras.activations.serialize(self.activation),
            "quantizer": None if self.quantizer is None else serialize(self.quantizer),
            "kernel_names": self.kernel_names,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the layer again."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in cls.parts
            if config[name] is not None
        }
        return cls(**{**config, **parts})


@keras.saving.register_keras_serializable(package="tfsqueeze")
class QuantizedSeparable(QuantizedLayer):
    """A separable convolution with rounded kernels, and with the tensor between its two steps rounded.

    Args:
        layer: a `SeparableConv1D` or `SeparableConv2D`.
        between: rounds what the depthwise step gives.
        **kwargs: as for `QuantizedLayer`.
    """

    parts = (*QuantizedLayer.parts, "between")

    def __init__(self, layer, between=None, **kwargs):
        super().__init__(layer, **kwargs)
        self.between = between

    def _call_layer(self, inputs, training):
        layer = self.layer
        depthwise, pointwise = (
            self._in_use(kernel, variable, training) for kernel, variable in self.kernels()
        )
        inputs = tf.cast(inputs, layer.compute_dtype)
        outputs = keras.ops.depthwise_conv(
            inputs,
            tf.cast(depthwise, inputs.dtype),
            strides=layer.strides,
            padding=layer.padding,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
        )
        outputs = self.between(outputs, training=training)
        outputs = keras.ops.conv(
            outputs, tf.cast(pointwise, inputs.dtype), padding="valid", data_format=layer.data_format
        )
        if layer.use_bias:
            axis = -1 if layer.data_format == "channels_last" else 1
            shape = [1] * len(outputs.shape)
            shape[axis] = layer.filters
            outputs += tf.cast(tf.reshape(tf.convert_to_tensor(layer.bias), shape), inputs.dtype)
        return layer.activation(outputs) if layer.activation is not None else outputs

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "between": keras.saving.serialize_keras_object(self.between)}


def quantized_layers(model: keras.Model) -> list[QuantizedLayer]:
    """Every layer of a model whose kernels are rounded."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, QuantizedLayer)]
