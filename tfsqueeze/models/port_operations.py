"""One TensorFlow call in a Keras 2 graph (`TFOpLambda`) -> `keras.ops`, or a TensorFlowOperation layer."""

import inspect
from collections.abc import Iterator

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
        arguments["slice_spec"] = _slice_key(arguments["slice_spec"])
    outputs = _call(layer, symbol, arguments)
    _name_operations(outputs, list(_graph_tensors(arguments)), layer.name.replace("/", "_"))
    return outputs


def _call(layer, symbol, arguments):
    if symbol in _SLICING and len(list(_graph_tensors(arguments))) == 1:
        return arguments["tensor"][arguments["slice_spec"]]
    operation = keras_operation(symbol.removeprefix("compat.v1."), set(arguments))
    if operation is None or _has_computed_sizes(arguments) or _mixes_constants(arguments):
        return _tensorflow_operation(layer, symbol, arguments)
    return operation(**{name: _as_constant(value) for name, value in arguments.items()})


def _name_operations(outputs, inputs, name) -> None:
    """Names the new operations after the old layer, so that names stay and never clash with layers' names."""
    known, waiting, count = {id(tensor) for tensor in inputs}, list(_graph_tensors(outputs)), 0
    while waiting:
        tensor = waiting.pop(0)
        if id(tensor) in known:
            continue
        known.add(id(tensor))
        operation = tensor._keras_history.operation
        if not isinstance(operation, keras.layers.Layer):
            operation.name = name if count == 0 else f"{name}_part{count}"
            count += 1
            waiting += keras.tree.flatten(operation.input)


def _graph_tensors(value) -> Iterator:
    """Every Keras 3 tensor in a nested structure, also those that bound a slice."""
    if isinstance(value, keras.KerasTensor):
        yield value
    elif isinstance(value, dict):
        yield from _graph_tensors(list(value.values()))
    elif isinstance(value, slice):
        yield from _graph_tensors([value.start, value.stop, value.step])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _graph_tensors(item)


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


def _has_computed_sizes(arguments) -> bool:
    """Whether a shape or a repeat count is itself computed in the graph, which `keras.ops` cannot take."""
    sizes = [arguments.get(name) for name in ("shape", "multiples", "axis", "perm", "paddings")]
    return any(True for _ in _graph_tensors(sizes))


def _mixes_constants(arguments) -> bool:
    """Whether a list of values to join holds constants among its tensors."""
    values = arguments.get("values", ())
    kinds = (
        {isinstance(value, keras.KerasTensor) for value in values}
        if isinstance(values, (list, tuple))
        else ()
    )
    return False in kinds


def _as_constant(value):
    """Constants of the graph as NumPy values, which Keras can save with the model."""
    if isinstance(value, (list, tuple)):
        return type(value)(_as_constant(item) for item in value)
    return ops.convert_to_numpy(value) if tf.is_tensor(value) else value
