"""One TensorFlow call in a Keras 2 graph (`TFOpLambda`) -> `keras.ops`, or a TensorFlowOperation layer."""

import inspect

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfsqueeze.models.legacy_layers import TensorFlowOperation, check_symbol, encode_argument
from tfsqueeze.models.operation_table import keras_operation

_SLICING = ("__operators__.getitem", "slice_with_getitem")


def port_operation(layer, args: tuple, kwargs: dict):
    """Calls on Keras 3 tensors what a `tf_keras` op-lambda layer called on Keras 2 tensors.

    Args:
        layer: a `tf_keras` TFOpLambda or SlicingOpLambda.
        args: its positional arguments, with Keras 3 tensors in the place of Keras 2 tensors.
        kwargs: its keyword arguments, likewise.

    Returns:
        The Keras 3 tensor, or structure of tensors, that the call gives.

    Raises:
        ValueError: if the function is not public, or not one that only computes tensors.
    """
    symbol = layer.symbol or ""
    check_symbol(symbol)
    arguments = _bound_arguments(layer.function, args, kwargs)
    if symbol in _SLICING:
        key = _slice_key(arguments["slice_spec"])
        if not _contains_tensor(key):
            return arguments["tensor"][key]
        arguments["slice_spec"] = list(key) if isinstance(key, tuple) else key
    operation = keras_operation(symbol.removeprefix("compat.v1."), set(arguments))
    if operation is None or _has_computed_sizes(arguments):
        return _tensorflow_operation(layer, symbol, arguments)
    return operation(**{name: _as_constant(value) for name, value in arguments.items()})


def _bound_arguments(function, args, kwargs) -> dict:
    """Arguments by name, without those that say nothing (`name`, and those left at their default)."""
    signature = inspect.signature(function)
    bound = signature.bind(*args, **kwargs).arguments
    return {
        name: value
        for name, value in bound.items()
        if name != "name" and not (value is None and signature.parameters[name].default is None)
    }


def _tensorflow_operation(layer, symbol, arguments):
    tensors = []

    def position_of(value):
        if not isinstance(value, keras.KerasTensor):
            return None
        for position, tensor in enumerate(tensors):
            if tensor is value:
                return position
        tensors.append(value)
        return len(tensors) - 1

    encoded = {name: encode_argument(value, position_of) for name, value in arguments.items()}
    name = layer.name.replace("/", "_")
    return TensorFlowOperation(symbol, encoded, name=name, dtype=keras.DTypePolicy("float32"))(*tensors)


def _slice_key(spec):
    """Index of `tensor[...]`; slices come as dicts from a saved graph."""
    if isinstance(spec, (list, tuple)):
        return tuple(_slice_key(item) for item in spec)
    if isinstance(spec, dict):
        return slice(*(_slice_key(spec[bound]) for bound in ("start", "stop", "step")))
    return int(spec) if isinstance(spec, np.integer) else spec


def _contains_tensor(key) -> bool:
    parts = [key] if not isinstance(key, tuple) else list(key)
    parts += [
        bound for part in parts if isinstance(part, slice) for bound in (part.start, part.stop, part.step)
    ]
    return any(isinstance(part, keras.KerasTensor) or tf.is_tensor(part) for part in parts)


def _has_computed_sizes(arguments) -> bool:
    """Whether a shape or a repeat count is itself computed in the graph, which `keras.ops` cannot take."""
    sizes = keras.tree.flatten([arguments.get("shape"), arguments.get("multiples"), arguments.get("axis")])
    return any(isinstance(size, keras.KerasTensor) for size in sizes)


def _as_constant(value):
    """Constants of the graph as NumPy values, which Keras can save with the model."""
    if isinstance(value, (list, tuple)):
        return type(value)(_as_constant(item) for item in value)
    return ops.convert_to_numpy(value) if tf.is_tensor(value) else value
