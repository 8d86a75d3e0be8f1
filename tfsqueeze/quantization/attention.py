"""Multi-head attention with rounded projections, scores, probabilities and context."""

import math

import keras
import numpy as np

from tfsqueeze.core import copying
from tfsqueeze.quantization.behaviour import SIGMOID_RANGE
from tfsqueeze.quantization.integer_forms import FlatDense, integer_form
from tfsqueeze.quantization.wrapper import QuantizedLayer

PROJECTIONS = ("_query_dense", "_key_dense", "_value_dense", "_output_dense", "_gate_dense")
MASKED_MARGIN = 8.0
RANGES = ("query", "key", "value", "scores", "context")


@keras.saving.register_keras_serializable(package="tfsqueeze")
class QuantizedAttention(keras.layers.Wrapper):
    """A `MultiHeadAttention` whose projections have rounded kernels and whose inner tensors are rounded.

    The query is scaled before it is rounded, as the exported file has the scale in the projection's kernel.

    Args:
        layer: the attention layer.
        quantizers: what rounds the scaled query, the key, the value, the scores, and the context (the
            weighted values), in this order; then the probabilities.
        weights, bits, per_channel: how the kernels are rounded; see `QuantizedLayer`.
        is_baked: whether the kernels are on their grids already, and the query's holds the scale.
    """

    def __init__(
        self, layer, quantizers, weights="uniform", bits=8, per_channel=True, is_baked=False, **kwargs
    ):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(layer, autocast=False, **kwargs)
        self.weights_method = weights
        self.bits = bits
        self.per_channel = per_channel
        self.is_baked = is_baked
        self.quantizers = list(quantizers)
        self.supports_masking = True
        # Set on the instance: `call` of Keras goes on as it is and comes back for the inner part.
        layer._compute_attention = self._attend

    def build(self, query_shape, value_shape, key_shape=None):
        """Builds the attention layer and wraps its projections."""
        if not self.layer.built:
            self.layer.build(query_shape, value_shape, key_shape)
            self.layer.built = True
        if self.is_baked:
            return
        self.layer._tracker.unlock()
        for name, dense in projections(self.layer).items():
            if not isinstance(dense, QuantizedLayer):
                wrapper = QuantizedLayer(
                    dense, self.weights_method, self.bits, self.per_channel, name=dense.name
                )
                wrapper.build(None)
                wrapper.built = True
                self.layer._layers.remove(dense)
                setattr(self.layer, name, wrapper)
        self.layer._tracker.lock()

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        """Attends, with the arguments of `MultiHeadAttention.call`."""
        return self.layer(
            query,
            value,
            key,
            query_mask=query_mask,
            value_mask=value_mask,
            key_mask=key_mask,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            training=training,
            use_causal_mask=use_causal_mask,
        )

    def _attend(
        self,
        query,
        key,
        value,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
        use_causal_mask=False,
    ):
        layer = self.layer
        rounded = dict(zip((*RANGES, "probabilities"), self.quantizers, strict=True))
        if use_causal_mask:
            causal = layer._compute_causal_mask(query, value)
            attention_mask = causal if attention_mask is None else attention_mask & causal
        if not self.is_baked:
            query = query * keras.ops.cast(layer._inverse_sqrt_key_dim, query.dtype)
        query = rounded["query"](query, training=training)
        key = rounded["key"](key, training=training)
        value = rounded["value"](value, training=training)
        scores = keras.ops.einsum(layer._dot_product_equation, key, query)
        if attention_mask is not None:
            scores = self._masked(scores, attention_mask, rounded["scores"])
        scores = rounded["scores"](scores, training=training)
        probabilities = layer._masked_softmax(scores)
        probabilities = rounded["probabilities"](probabilities, training=training)
        dropped = probabilities
        if layer._dropout > 0.0:
            dropped = layer._dropout_layer(probabilities, training=training)
        context = keras.ops.einsum(layer._combine_equation, dropped, value)
        return rounded["context"](context, training=training), probabilities

    def _masked(self, scores, mask, quantizer):
        """Puts masked scores below all others by a margin that integers can hold, e^-8 in probability."""
        axis = -2 * len(self.layer._attention_axes) - 1
        for _ in range(len(scores.shape) - len(mask.shape)):
            mask = keras.ops.expand_dims(mask, axis)
        if self.is_baked:
            lowest = quantizer.bounds()[0]
        else:
            lowest = keras.ops.stop_gradient(keras.ops.min(scores)) - MASKED_MARGIN
        return keras.ops.where(keras.ops.cast(mask, "bool"), scores, keras.ops.cast(lowest, scores.dtype))

    def compute_mask(self, query, value=None, *args, **kwargs):
        """The query's mask, as Keras sets it."""
        return getattr(query, "_keras_mask", None) if not isinstance(query, (list, tuple)) else None

    def compute_output_spec(self, query, value, key=None, *args, **kwargs):
        """The attention layer's."""
        return self.layer.compute_output_spec(query, value, key, **kwargs)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "quantizers": [keras.saving.serialize_keras_object(q) for q in self.quantizers],
            "weights": self.weights_method,
            "bits": self.bits,
            "per_channel": self.per_channel,
            "is_baked": self.is_baked,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the layer again."""
        make = keras.saving.deserialize_keras_object
        layer = make(config["layer"], custom_objects=custom_objects)
        quantizers = [make(q, custom_objects=custom_objects) for q in config["quantizers"]]
        return cls(**{**config, "layer": layer, "quantizers": quantizers})


def projections(layer) -> dict[str, keras.Layer]:
    """The projections of a built attention layer, by attribute."""
    found = {name: getattr(layer, name, None) for name in PROJECTIONS}
    return {name: dense for name, dense in found.items() if dense is not None}


def inner_quantizers(make, name: str) -> list:
    """The quantizers of an attention layer; `make` takes their `name` and `fixed` range."""
    found = [make(name=f"{name}_{part}", fixed=None) for part in RANGES]
    return [*found, make(name=f"{name}_probabilities", fixed=SIGMOID_RANGE)]


def copy_attention(source, target, baked: bool) -> None:
    """Copies projections from one attention layer to another, either of them wrapped or not.

    Args:
        source, target: built `MultiHeadAttention` layers.
        baked: whether kernels that are rounded in `source` are rounded for good.
    """
    others = projections(target)
    for name, dense in projections(source).items():
        inner = dense.layer if isinstance(dense, QuantizedLayer) else dense
        other = others[name].layer if isinstance(others[name], QuantizedLayer) else others[name]
        copying.copy_state(inner, other)
        if baked and isinstance(dense, QuantizedLayer):
            other.kernel.assign(dense.baked()["kernel"])
    for old, new in zip(seeds(source), seeds(target), strict=True):
        new.state.assign(old.state)


def seeds(layer) -> list:
    """Random states of an attention layer: those of its dropout."""
    return [seed for part in layer._flatten_layers() for seed in part._seed_generators]


def flatten_projections(layer) -> None:
    """Moves the scale of the scores, 1 / sqrt(key size), into the query's projection; flattens all."""
    factor = np.float32(1.0 / math.sqrt(layer._key_dim))
    dense = layer._query_dense
    dense.kernel.assign(dense.kernel * factor)
    if dense.bias is not None:
        dense.bias.assign(dense.bias * factor)
    layer._tracker.unlock()
    for name, dense in projections(layer).items():
        if integer_form(dense) is FlatDense:
            setattr(layer, name, FlatDense(dense, dense.kernel.numpy(), name=dense.name))
    layer._tracker.lock()
