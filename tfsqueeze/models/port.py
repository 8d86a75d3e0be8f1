"""Ports a `tf_keras` model to Keras 3: its graph node by node, each layer once, then its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.models.port_layers import layer_name, make_twin
from tfsqueeze.models.port_operations import port_operation
from tfsqueeze.models.port_weights import copy_weights
from tfsqueeze.models.stand_in import is_stand_in
from tfsqueeze.models.strip_tfmot import is_wrapped, strip

_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")
_UNKNOWN_OPERATIONS = ("ClassMethod", "InstanceProperty", "InstanceMethod", "TensorFlowOpLayer")


@dataclass
class Port:
    """What became of a Keras 2 model.

    Attributes:
        custom_objects: Keras 3 classes by the names of the Keras 2 classes they replace.
        twins: Keras 3 layer (None if it was stripped away) by the id of its Keras 2 layer.
        pairs: Keras 2 layers with their twins, in the order of the graph.
        tensors: (layer, Keras 2 tensor, Keras 3 tensor) along the outermost graph.
        stripped: the tfmot wrappers that were taken off.
    """

    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    twins: dict[int, Any] = field(default_factory=dict)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    tensors: list[tuple[Any, Any, Any]] = field(default_factory=list)
    stripped: list[Any] = field(default_factory=list)
    kept_alive: list[Any] = field(default_factory=list)


def port_model(old, port: Port) -> keras.Model:
    """Builds the Keras 3 model that computes what a `tf_keras` model computes.

    Args:
        old: a `tf_keras` Sequential or Functional model that was built. It is not changed.
        port: takes the record of what became of each layer.

    Returns:
        A new, uncompiled `keras.Model` with the same layer names, sharing, nesting and weights.

    Raises:
        UnsupportedModelError: names the first layer that cannot be ported, or says that the model has
            no graph of layers.
    """
    model = _port_graph(old, port, outermost=True)
    for layer, twin in port.pairs:
        copy_weights(layer, twin)
    return model


def _port_graph(old, port, outermost=False):
    check_legacy_graph(old)
    if _is_plain_sequential(old):
        model = _port_sequential(old, port, outermost)
    else:
        model = _port_functional(old, port, outermost)
    if not old.trainable:
        model.trainable = False
    return model


def check_legacy_graph(old) -> None:
    """Raises UnsupportedModelError unless a `tf_keras` model is built and made of a graph of layers."""
    if hasattr(old, "_nodes_by_depth") or (_is_sequential(old) and old.built):
        return
    if _is_sequential(old):
        raise UnsupportedModelError(
            f"The tf_keras model {old.name!r} was never built, so that it has no weights yet. Call it once "
            "on data, or call `model.build(input_shape)`."
        )
    raise UnsupportedModelError(
        f"The tf_keras model {old.name!r} is a subclassed {type(old).__name__}: it has no graph of layers "
        "that could be ported to Keras 3. Save it with `model.export(folder)`; "
        "`tfs.export_tflite(folder, ...)` converts such a folder directly."
    )


def _is_sequential(old) -> bool:
    return any(kind.__name__ == "Sequential" for kind in type(old).__mro__)


def _is_plain_sequential(old) -> bool:
    kinds = {type(layer).__name__ for layer in old.layers}
    return _is_sequential(old) and not kinds & {*_OPERATIONS, *_UNKNOWN_OPERATIONS}


def _port_sequential(old, port, outermost):
    layers = [twin for twin in (_port_layer(layer, port) for layer in old.layers) if twin is not None]
    model = keras.Sequential([_sequential_input(old), *layers], name=layer_name(old.name))
    if outermost and old.inputs:
        for layer in old.layers:
            twin = port.twins[id(layer)]
            if twin is not None:
                port.tensors.append((layer, layer.get_output_at(-1), twin.output))
    return model


def _sequential_input(old):
    if old.inputs:
        return _input(old.inputs[0], old.input_names[0])
    return keras.Input(batch_shape=tuple(old._build_input_shape))


def _input(tensor, name):
    if isinstance(getattr(tensor, "type_spec", None), tf.RaggedTensorSpec):
        raise UnsupportedModelError(
            f"Input {name!r} is ragged, which Keras 3 models cannot take. Pad it to a dense tensor."
        )
    sparse = isinstance(getattr(tensor, "type_spec", None), tf.SparseTensorSpec)
    shape, dtype = tuple(tensor.shape), tf.dtypes.as_dtype(tensor.dtype).name
    return keras.Input(batch_shape=shape, dtype=dtype, sparse=sparse, name=layer_name(name))


def _port_functional(old, port, outermost):
    tensors: dict[int, Any] = {}
    for depth in sorted(old._nodes_by_depth, reverse=True):
        for node in old._nodes_by_depth[depth]:
            outputs = _port_node(node, tensors, port)
            for before, after in zip(tf.nest.flatten(node.outputs), keras.tree.flatten(outputs), strict=True):
                tensors[id(before)] = after
                if outermost:
                    port.tensors.append((node.layer, before, after))

    def ported(structure):
        found = tf.nest.map_structure(lambda tensor: tensors[id(tensor)], structure)
        return found[0] if isinstance(found, (list, tuple)) and len(found) == 1 else _plain_containers(found)

    return keras.Model(ported(old._nested_inputs), ported(old._nested_outputs), name=layer_name(old.name))


def _plain_containers(structure):
    """TensorFlow tracks lists and dicts in classes of its own."""
    if isinstance(structure, Mapping):
        return {key: _plain_containers(value) for key, value in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_plain_containers(value) for value in structure]
    return structure


def _port_node(node, tensors, port):
    """Calls the twin of one layer on the ported tensors."""
    layer = node.layer
    if node.is_input:
        return _input(node.outputs if not isinstance(node.outputs, list) else node.outputs[0], layer.name)

    def ported(value):
        return tensors.get(id(value), value)

    args = tf.nest.map_structure(ported, node.call_args)
    kwargs = tf.nest.map_structure(ported, node.call_kwargs)
    if type(layer).__name__ in _OPERATIONS:
        return _port_operation(layer, args, kwargs)
    twin = _port_layer(layer, port)
    if twin is None:
        return args[0]
    try:
        return _call(twin, args, kwargs)
    except Exception as error:
        raise UnsupportedModelError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be called in Keras 3 as it was: {error}"
        ) from error


def _port_operation(layer, args, kwargs):
    try:
        return port_operation(layer, args, kwargs)
    except Exception as error:
        raise UnsupportedModelError(
            f"The TensorFlow call {layer.name!r} cannot be ported to Keras 3: {error}"
        ) from error


def _call(twin, args, kwargs):
    """Keras 2 hands a recurrent layer's states over in one list with its input."""
    args = tuple(_plain_containers(argument) for argument in args)
    kwargs = {name: _plain_containers(value) for name, value in kwargs.items() if value is not None}
    is_recurrent = isinstance(twin, (keras.layers.RNN, keras.layers.Bidirectional))
    if is_recurrent and args and isinstance(args[0], (list, tuple)):
        sequence, *states = args[0]
        return twin(sequence, initial_state=states, **kwargs)
    return twin(*args, **kwargs)


def _port_layer(layer, port):
    """The twin of `layer`: made the first time, found again where the layer is shared."""
    if id(layer) not in port.twins:
        port.twins[id(layer)] = _make_layer(layer, port)
        port.kept_alive.append(layer)
    return port.twins[id(layer)]


def _make_layer(layer, port):
    if is_wrapped(layer):
        port.stripped.append(layer)
        inner = strip(layer)
        return None if inner is None else _port_layer(inner, port)
    if hasattr(layer, "_nodes_by_depth") or _is_sequential(layer):
        return _port_graph(layer, port)
    if type(layer).__name__ in _UNKNOWN_OPERATIONS:
        raise UnsupportedModelError(
            f"Layer {layer.name!r} ({type(layer).__name__}) works on a TensorFlow object that Keras 3 graphs "
            "do not have. Rebuild that part of the model with dense tensors and plain layers."
        )
    if is_stand_in(layer):
        twin = type(layer).make_twin(layer)
    else:
        twin = make_twin(layer, lambda inner: _port_layer(inner, port), port.custom_objects)
    port.pairs.append((layer, twin))
    return twin
