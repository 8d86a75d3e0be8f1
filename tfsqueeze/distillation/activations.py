"""Whether a network's output is logits or probabilities."""

import keras
from keras import layers, ops
from keras.src.models.functional import Functional

ACTIVATIONS = ("softmax", "sigmoid", "linear")
PASSING = (layers.Reshape, layers.Flatten, layers.Identity, layers.Dropout, layers.Permute)
SMALLEST = 1e-30
"""Probabilities below are taken for it: their logarithm must stay finite."""


def activation_of(tensor) -> str:
    """ "softmax", "sigmoid" or "linear": what made an output tensor of a graph, behind mere reshaping.

    Args:
        tensor: a KerasTensor of a Functional or Sequential model's outputs.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return "linear"
    operation, index = history.operation, history.tensor_index
    graph = getattr(operation, "_functional", None) or operation
    if isinstance(graph, Functional):
        return activation_of(graph.outputs[index])
    if hasattr(operation, "output_activations"):
        return operation.output_activations[index]
    if isinstance(operation, PASSING) or getattr(operation, "keeps_meaning", False):
        return activation_of(operation._inbound_nodes[history.node_index].input_tensors[0])
    return _own_activation(operation)


def _own_activation(operation) -> str:
    if isinstance(operation, layers.TimeDistributed):
        return _own_activation(operation.layer)
    if not isinstance(operation, keras.Layer):
        name = type(operation).__name__.lower()
        return name if name in ACTIVATIONS else "linear"
    if isinstance(operation, layers.Softmax):
        return "softmax"
    name = getattr(getattr(operation, "activation", None), "__name__", "linear")
    return name if name in ACTIVATIONS else "linear"


def logits_of(output, activation: str):
    """Float32 logits of an output: its own if Keras still knows them, else those of its probabilities."""
    if activation == "linear":
        return ops.cast(output, "float32")
    known = getattr(output, "_keras_logits", None)
    if known is not None:
        return ops.cast(known, "float32")
    probabilities = ops.maximum(ops.cast(output, "float32"), SMALLEST)
    if activation == "softmax":
        return ops.log(probabilities)
    others = ops.maximum(1 - probabilities, keras.config.epsilon())
    return ops.log(probabilities) - ops.log(others)
