"""What a `.tflite` file runs for a model, operator by operator, told from its layers."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.data import FREE_SIZE
from tfsqueeze.core.linear_view import linear_view
from tfsqueeze.core.trace import LayerCall, layer_calls
from tfsqueeze.export.quiet import quiet

# What a layer's cost does not depend on.
IRRELEVANT = ("name", "trainable", "seed", "build_config")
IRRELEVANT_ENDINGS = ("initializer", "regularizer", "constraint")
# Functions that the kernels of other operators apply in passing.
FUSED = ("relu", "relu6")
SUMS = (layers.Add, layers.Subtract, layers.Multiply, keras.src.ops.numpy.Add)
NOTHING_AT_INFERENCE = (
    layers.InputLayer,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
)


@dataclass(frozen=True)
class Operator:
    """One call of a layer or graph operation, as a computation of its own.

    Attributes:
        key: text that is the same for operators of the same cost: kind, settings, shapes of inputs and of
            weights.
        operation: the layer or operation.
        arguments: positional and named arguments, with `tf.TensorSpec` for tensors, of one example.
    """

    key: str
    operation: keras.Operation
    arguments: tuple[tuple, dict]

    def convert(self) -> bytes:
        """The float32 `.tflite` file that holds this operator alone.

        Raises:
            Exception: whatever the converter raises for what it does not know.
        """
        specs = [leaf for leaf in keras.tree.flatten(self.arguments) if _is_spec(leaf)]
        function = tf.function(self._call, autograph=False).get_concrete_function(*specs)
        with quiet():
            # With an owner that has the variables, the file would look them up rather than hold them.
            converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
            converter.target_spec.supported_ops = {
                tf.lite.OpsSet.TFLITE_BUILTINS,
                tf.lite.OpsSet.SELECT_TF_OPS,
            }
            return bytes(converter.convert())

    def _call(self, *tensors):
        left = iter(tensors)
        args, kwargs = keras.tree.map_structure(
            lambda leaf: next(left) if _is_spec(leaf) else leaf, self.arguments
        )
        return self.operation(*args, **kwargs)


def operators(model: keras.Model) -> list[Operator]:
    """The operators that cost time, in the order they run; a layer called twice is there twice.

    Nested models count with the layers inside them, other composite layers, such as attention, as a whole.
    The converter folds batch normalisation into the product before it, and lets the operator before a ReLU
    compute it: both cost nothing there.

    Args:
        model: a built Sequential or Functional model; free axes get 32 entries.
    """
    calls = list(_whole_calls(model))
    uses = Counter(id(tensor) for call in calls for tensor in _tensors(call.arguments))
    takes_more: dict[int, keras.Operation] = {}
    found = []
    for call in calls:
        before = [tensor for tensor in _tensors(call.arguments) if uses[id(tensor)] == 1]
        host = takes_more.get(id(before[0])) if len(before) == 1 else None
        is_folded = host is not None and _folds(call.layer, host)
        heir = host if is_folded and isinstance(call.layer, layers.BatchNormalization) else call.layer
        if _takes_more(heir):
            takes_more |= {id(tensor): heir for tensor in _tensors(call.outputs)}
        if not is_folded and not isinstance(call.layer, NOTHING_AT_INFERENCE):
            found.append(_operator(call))
    return found


def _whole_calls(model) -> Iterator[LayerCall]:
    """The calls of a model's layers, without the models among them and what composite layers call."""
    every = model._flatten_layers()
    models = {id(layer) for layer in every if isinstance(layer, keras.Model) and has_graph(layer)}
    wholes = [layer for layer in model._flatten_layers() if id(layer) not in models]
    parts = {id(part) for layer in wholes for part in layer._flatten_layers(include_self=False)}
    for call in layer_calls(model):
        if id(call.layer) not in models | parts:
            yield call


def _takes_more(operation) -> bool:
    """Whether the operator of a layer can still take over what follows it."""
    has_product = isinstance(operation, keras.Layer) and linear_view(operation) is not None
    is_linear = getattr(operation, "activation", None) in (None, keras.activations.linear)
    return is_linear and (has_product or isinstance(operation, SUMS))


def _folds(layer, host) -> bool:
    if isinstance(layer, layers.BatchNormalization):
        return not isinstance(host, SUMS)
    if type(layer) is layers.ReLU:
        return (layer.max_value, layer.threshold, layer.negative_slope) in ((None, 0, 0), (6, 0, 0))
    return isinstance(layer, layers.Activation) and layer.activation.__name__ in FUSED


def _operator(call: LayerCall) -> Operator:
    arguments = keras.tree.map_structure(
        lambda leaf: _spec(leaf) if tf.is_tensor(leaf) else leaf, call.arguments
    )
    kind = f"{type(call.layer).__module__}.{type(call.layer).__qualname__}"
    weights = [list(weight.shape) for weight in getattr(call.layer, "weights", [])]
    shown = [str(leaf) for leaf in keras.tree.flatten(arguments)]
    key = json.dumps([kind, _settings(call.layer), shown, weights], default=repr, sort_keys=True)
    return Operator(key, call.layer, arguments)


def _settings(operation) -> Any:
    try:
        return _relevant(operation.get_config())
    except NotImplementedError:
        return operation.name


def _relevant(config) -> Any:
    if isinstance(config, dict):
        return {
            name: _relevant(value)
            for name, value in config.items()
            if name not in IRRELEVANT and not str(name).endswith(IRRELEVANT_ENDINGS)
        }
    return config


def _spec(tensor) -> tf.TensorSpec:
    """Of one example; an axis that is free in a whole-model run gets as many entries as there."""
    sizes = [1 if axis == 0 else FREE_SIZE for axis in range(len(tensor.shape))]
    shape = [free if size is None else size for size, free in zip(tensor.shape, sizes, strict=True)]
    return tf.TensorSpec(shape, tensor.dtype)


def _is_spec(leaf) -> bool:
    return isinstance(leaf, tf.TensorSpec)


def _tensors(structure) -> list:
    return [leaf for leaf in keras.tree.flatten(structure) if tf.is_tensor(leaf)]
