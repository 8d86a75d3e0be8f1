"""Whether a network's output is logits or probabilities."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from keras.src.models.functional import Functional

from tfsqueeze.core.data import input_specs, pack_inputs, random_examples

ACTIVATIONS = ("softmax", "sigmoid", "linear")
PASSING = (layers.Reshape, layers.Flatten, layers.Identity, layers.Dropout, layers.Permute)
EXAMPLES = 8
SMALLEST = 1e-30
"""Probabilities below are taken for it: their logarithm must stay finite."""


def activation_of(tensor) -> str | None:
    """ "softmax", "sigmoid" or "linear": what made an output tensor of a graph, behind mere reshaping.

    None where a graph does not show it: subclassed models, layers and functions of the user's, merged
    outputs.

    Args:
        tensor: a KerasTensor of a Functional or Sequential model's outputs.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return None
    operation, index = history.operation, history.tensor_index
    graph = getattr(operation, "_functional", None) or operation
    if isinstance(graph, Functional):
        return activation_of(graph.outputs[index])
    if hasattr(operation, "output_activations"):
        return operation.output_activations[index]
    if isinstance(operation, PASSING) or getattr(operation, "keeps_meaning", False):
        return activation_of(operation._inbound_nodes[history.node_index].input_tensors[0])
    return _own_activation(operation)


def seen_activations(model: keras.Model, count: int) -> list[str]:
    """ "softmax", "sigmoid" or "linear" for each output, by what random inputs give.

    Shares that add up to 1 are those of a softmax; numbers that are all between 0 and 1 those of a sigmoid. A
    model that does not take random inputs counts as linear.

    Args:
        model: a built model.
        count: how many outputs it has.
    """
    specs = input_specs(model)
    try:
        outputs = model(pack_inputs(model, random_examples(specs, EXAMPLES).inputs), training=False)
    except (ValueError, TypeError, tf.errors.OpError):
        return ["linear"] * count
    return [
        _seen(ops.convert_to_numpy(ops.cast(output, "float32"))) for output in keras.tree.flatten(outputs)
    ]


def _seen(values: np.ndarray) -> str:
    if not (values >= 0).all() or not (values <= 1).all():
        return "linear"
    if values.shape[-1] > 1 and np.allclose(values.sum(axis=-1), 1, atol=0.01):
        return "softmax"
    return "sigmoid" if (values > 0).all() and (values < 1).all() else "linear"


def _own_activation(operation) -> str | None:
    if isinstance(operation, layers.TimeDistributed):
        return _own_activation(operation.layer)
    if not isinstance(operation, keras.Layer):
        name = type(operation).__name__.lower()
        return name if name in ACTIVATIONS else None
    if isinstance(operation, layers.Softmax):
        return "softmax"
    function = getattr(operation, "activation", None)
    name = getattr(function, "__name__", None)
    if name in ACTIVATIONS:
        return name
    return "linear" if str(getattr(function, "__module__", "")).startswith("keras.") else None


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
