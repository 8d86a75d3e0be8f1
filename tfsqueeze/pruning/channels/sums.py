"""Where a layer's output ends in a sum, as at the end of a residual block."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from tfsqueeze.core.followers import next_normalization, only_follower
from tfsqueeze.core.linear_view import drawn
from tfsqueeze.pruning.channels.twins import Twins


@dataclass(frozen=True)
class Term:
    """A layer's output as a term of a sum.

    Attributes:
        operation: the `Add` layer or `keras.ops` addition.
        place: which of its operands the layer feeds.
        normalization: the BatchNormalization between the two, or None.
    """

    operation: keras.Operation
    place: int
    normalization: layers.BatchNormalization | None


def term_of(layer: keras.Layer) -> Term | None:
    """The sum that the output of `layer` alone goes to, directly or through one BatchNormalization.

    Args:
        layer: a layer of a Functional model that is called once; otherwise there is none.
    """
    normalization = next_normalization(layer)
    source = normalization or layer
    follower = only_follower(source)
    if not isinstance(follower, (layers.Add, keras.src.ops.numpy.Add)) or len(follower._inbound_nodes) != 1:
        return None
    operands = [tensor._keras_history.operation for tensor in follower._inbound_nodes[0].input_tensors]
    return Term(follower, operands.index(source), normalization) if operands.count(source) == 1 else None


def lost_by_others(old, new, twins: Twins, seed, count: int) -> np.ndarray:
    """What the other terms of a sum lack in the pruned model, as seen before the layer's normalisation.

    Args:
        old, new: (term, what the sum receives) in the original and the pruned model.
        twins: the layer that is to make good for it.
        seed, count: draw the rows as those of the layer are drawn.

    Returns:
        float32 (rows, groups, outputs) to add to what the layer should give.
    """
    found = []
    for view, (term, received) in ((twins.old, old), (twins.new, new)):
        operands = received.args[0] if len(received.args) == 1 else received.args
        others = sum(_array(value) for i, value in enumerate(operands) if i != term.place)
        if getattr(view.layer, "data_format", "") == "channels_first":
            others = np.moveaxis(others, 1, -1)
        found.append(drawn(others.reshape(-1, others.shape[-1]), np.random.default_rng(seed), count))
    missing = twins.take(found[0]) - found[1].reshape(-1, *twins.new.output_shape)
    return missing * _slope_before(new[0].normalization, twins.new.output_shape)


def _slope_before(normalization, shape) -> np.ndarray:
    """How much an output must change for one unit behind its normalisation; 0 where that is closed."""
    if normalization is None:
        return np.ones(shape, "float32")
    deviation = np.sqrt(_array(normalization.moving_variance) + normalization.epsilon)
    scale = _array(normalization.gamma) if normalization.scale else np.ones_like(deviation)
    is_open = np.abs(scale) > 1e-3 * np.abs(scale).max()
    return np.where(is_open, deviation / np.where(is_open, scale, 1), 0).reshape(shape)


def _array(values) -> np.ndarray:
    return keras.ops.convert_to_numpy(values).astype("float32", copy=False)
