"""Cross-layer equalization: channels of one tensor brought to one range, which they are rounded in."""

from collections.abc import Iterable

import keras
import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.quantization.scaling_pairs import (
    ScalingPair,
    by_input,
    divide_outputs,
    is_depthwise,
    multiply_inputs,
    scaling_pairs,
)

MOST_ROUNDS = 10
# Rounds end when no channel is scaled by more than this factor any more (its logarithm).
SETTLED = 0.01
# A channel this much smaller than the greatest is as good as zero, and stays as it is.
_DEAD = 1e-7


def equalize(model: keras.Model, batches: Iterable[Examples]) -> dict[str, np.ndarray]:
    """Scales channels between layers, in place, so that activations and weights round well.

    What lies between two kernels passes factors on: BatchNormalization, ReLU, leaky ReLU, pooling, padding.
    So the channels of that tensor are divided by factors and the next kernels multiplied by them. The factors
    balance the range of each channel of the activations, as the data show it, against the range of the
    weights that read it; in front of depthwise kernels, which have a step per channel, the activations alone
    count. Scaling one channel changes what share of an output's steps the others take, so rounds follow until
    nothing moves: the end does not depend on how the channels were scaled before.

    ReLU6 stays: channels that reach 6 on the data keep their scale, the others grow up to 6 at most. So the
    model computes the same on the data; beyond them a channel may be cut off where its range ends, as
    integers do.

    Args:
        model: a model with a graph; it is changed.
        batches: typical examples.

    Returns:
        The factors by name of the layer whose outputs were divided by them.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction,
    arXiv:1906.04721, section 4.1, with activations in the place of the first weights as in Xiao et al.,
    SmoothQuant, arXiv:2211.10438, eq. 4.
    """
    pairs = scaling_pairs(model)
    if not pairs:
        return {}
    reaches = _reaches(model, pairs, batches)
    done: dict[str, np.ndarray] = {}
    for _ in range(MOST_ROUNDS):
        moved = 0.0
        for pair in pairs:
            reach = reaches.get(id(pair.reader))
            if reach is None or len(reach) != pair.channels:
                continue
            factors = _factors(pair, reach)
            divide_outputs(pair, factors)
            for layer, repeats in pair.consumers:
                multiply_inputs(layer, repeats, factors)
            reaches[id(pair.reader)] = reach / factors
            name = pair.producer.name
            done[name] = done.get(name, 1.0) * factors
            moved = max(moved, float(np.abs(np.log(factors)).max(initial=0)))
        if moved < SETTLED:
            break
    return done


def _reaches(model, pairs: list[ScalingPair], batches) -> dict[int, np.ndarray]:
    """The greatest magnitude in each channel of each pair's tensor, by id of the operation that reads it."""
    batches = list(batches)
    inputs = InnerInputs(model, [pair.reader for pair in pairs], batches)
    found: dict[int, np.ndarray] = {}
    for batch in batches:
        for reader, calls in zip(inputs.order, inputs.read_all(inputs.order, batch), strict=True):
            values = np.abs(np.asarray(calls[0].first, "float32"))
            reach = values.reshape(-1, values.shape[-1]).max(0)
            found[id(reader)] = np.maximum(found.get(id(reader), 0.0), reach)
    return found


def _factors(pair: ScalingPair, reach: np.ndarray) -> np.ndarray:
    alive = (reach > _DEAD * reach.max(initial=0)) & np.isfinite(reach)
    weight = _weight_reach(pair)
    alive &= weight > _DEAD * weight.max(initial=0)
    if not alive.any():
        return np.ones_like(reach)
    factors = np.ones_like(reach)
    factors[alive] = np.sqrt(reach[alive] / weight[alive])
    if all(is_depthwise(layer) for layer, _ in pair.consumers):
        factors[alive] = reach[alive]
    factors[alive] /= np.exp(np.log(factors[alive]).mean())
    if pair.clip is not None:
        factors[alive] /= factors[alive].max()
        factors = np.clip(factors, np.maximum(reach / pair.clip, 0), 1.0)
        factors[~alive | (reach >= pair.clip * (1 - 1e-6))] = 1.0
    return factors


def _weight_reach(pair: ScalingPair) -> np.ndarray:
    """How much of its output's step range each channel's weights take up, at most over the outputs."""
    found = np.zeros(pair.channels)
    for layer, repeats in pair.consumers:
        values = np.abs(by_input(layer, repeats)).max(1)
        if is_depthwise(layer):
            found = np.maximum(found, values.max(-1))
            continue
        groups = getattr(layer, "groups", 1)
        split = values.reshape(groups, -1, values.shape[-1])
        greatest = np.maximum(split.max(1, keepdims=True), 1e-12)
        found = np.maximum(found, (split / greatest).max(-1).ravel())
    return found
