"""New layers that stand in an old one's place: what they take over, and what they are called."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.select import NamedLayer, walk


@dataclass(frozen=True)
class Positions:
    """At how many positions per example a layer multiplies, summed over its calls.

    Attributes:
        inputs, outputs: positions of its input and output.
        middle: positions after the strides along the first spatial axis alone.
        lookups: none, where weights are looked up and multiply nothing.
    """

    inputs: int
    middle: int
    outputs: int
    lookups: int = 0


def first_settings(layer: keras.Layer, part: str, names: "Names") -> dict[str, Any]:
    """What a layer of the chain takes over that is not the last: no bias, no activation."""
    return {
        "name": names.new(layer, part),
        "dtype": layer.dtype_policy,
        "trainable": layer.trainable,
        "kernel_regularizer": layer.kernel_regularizer,
    }


def last_settings(layer: keras.Layer, part: str, names: "Names") -> dict[str, Any]:
    """What the last layer of the chain takes over: bias, activation, and how they are regularized."""
    return {
        **first_settings(layer, part, names),
        "activation": layer.activation,
        "bias_initializer": layer.bias_initializer,
        "bias_regularizer": layer.bias_regularizer,
        "bias_constraint": layer.bias_constraint,
        "activity_regularizer": layer.activity_regularizer,
    }


class Names:
    """Names of new layers, and which outputs must keep the old ones.

    Args:
        model: the model whose layers are replaced.
    """

    def __init__(self, model: keras.Model):
        self._taken = {named.layer.name for named in walk(model)}
        outputs = [] if isinstance(model, keras.Sequential) else keras.tree.flatten(model.outputs)
        self._outputs = {id(tensor._keras_history.operation) for tensor in outputs}

    def new(self, layer: keras.Layer, part: str) -> str:
        """`<old>_<part>`, or the next free name."""
        name, number = f"{layer.name}_{part}", 1
        while name in self._taken:
            name, number = f"{layer.name}_{part}_{number}", number + 1
        return name

    def closing(self, layer: keras.Layer) -> list[keras.Layer]:
        """Behind an output of the model, a layer of the old name: losses and metrics refer to it."""
        if id(layer) not in self._outputs:
            return []
        return [layers.Activation("linear", name=layer.name, dtype=layer.dtype_policy)]


def cannot_be_replaced(named: NamedLayer) -> str | None:
    """Why a layer cannot be taken out of its place, or None if it can."""
    closed = [
        parent for parent in named.parents if not (isinstance(parent, keras.Model) and has_graph(parent))
    ]
    if closed:
        return f"it is inside {closed[-1].name!r} ({type(closed[-1]).__name__}), which has no graph to change"
    return None


def has_own_call(layer: keras.Layer) -> bool:
    """Whether the layer is of a user's class that computes something of its own."""
    known = next(cls for cls in type(layer).__mro__ if cls.__module__.startswith("keras."))
    return any(
        getattr(type(layer), method, None) is not getattr(known, method, None)
        for method in ("call", "build", "convolution_op")
    )
