"""Which layer is called on what shapes, found by running any model once on placeholders."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from tfsqueeze.core.data import input_struct
from tfsqueeze.core.layer_info import counts_sublayers, macs


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer or graph operation, with the shapes of its tensors (batch axis first).

    Attributes:
        layer: what was called.
        input_shapes, output_shapes: of all tensors that went in and came out.
        arguments: positional and named arguments, with placeholders as tensors: what one call gives and
            another takes is the same object.
        outputs: what the call gave, in the same way.
    """

    layer: keras.Operation
    input_shapes: list[tuple]
    output_shapes: list[tuple]
    arguments: tuple[tuple, dict] = field(default=((), {}), repr=False)
    outputs: Any = field(default=None, repr=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the call for one example."""
        return macs(self.layer, self.input_shapes, self.output_shapes)


def layer_calls(model: keras.Model) -> list[LayerCall]:
    """Every call of every layer that `model` makes for one batch, in order of completion.

    Works on any built model, subclassed ones included, because it runs the model rather than reading
    its graph: a shared layer appears once per call, nested models and composite layers (attention)
    appear with the layers inside them. The cells of recurrent layers do not: they run in a loop.

    Example:
        >>> [(call.layer.name, call.output_shapes) for call in layer_calls(model)]
    """
    calls: list[LayerCall] = []
    with contextlib.ExitStack() as stack:
        for operation in _operations(model):
            stack.enter_context(_recording(operation, calls))
        _run_on_placeholders(model)
    return calls


def model_macs(model: keras.Model) -> int:
    """Multiply-accumulates of a model for one example."""
    return sum(call.macs for call in layer_calls(model))


def _run_on_placeholders(model) -> None:
    specs = keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), input_struct(model))
    tf.function(lambda inputs: model(inputs, training=False), autograph=False).get_concrete_function(specs)


def _operations(model) -> Iterator[keras.Operation]:
    """Every layer but those whose loops would count wrongly, and the graph operations that are no layers."""
    seen: set[int] = set()
    stack = list(model._flatten_layers(include_self=False, recursive=False))
    while stack:
        layer = stack.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        if not counts_sublayers(layer):
            stack.extend(layer._flatten_layers(include_self=False, recursive=False))
            stack.extend(_plain_operations(layer))
    yield from _plain_operations(model)


def _plain_operations(layer) -> list[keras.Operation]:
    operations = getattr(layer, "operations", None) or []
    return [operation for operation in operations if not isinstance(operation, keras.Layer)]


@contextlib.contextmanager
def _recording(operation, calls):
    method = "quantized_call" if getattr(operation, "quantization_mode", None) else "call"
    original = getattr(operation, method)

    def record(*args, **kwargs):
        outputs = original(*args, **kwargs)
        calls.append(LayerCall(operation, _shapes((args, kwargs)), _shapes(outputs), (args, kwargs), outputs))
        return outputs

    setattr(operation, method, record)
    try:
        yield
    finally:
        delattr(operation, method)


def _shapes(structure) -> list[tuple]:
    return [tuple(leaf.shape) for leaf in keras.tree.flatten(structure) if hasattr(leaf, "shape")]
