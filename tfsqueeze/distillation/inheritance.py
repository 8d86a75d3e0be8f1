"""Weights of a layer taken over by a narrower or wider one."""

import math

import keras
import numpy as np


def inherit_corner(old: keras.Layer, new_layers: list[keras.Layer]) -> None:
    """Copies the channels that both layers have; what is beyond stays as it is.

    Args:
        old: a built layer.
        new_layers: a list of the one built layer that takes its place, of the same class.
    """
    (new,) = new_layers
    blocks = _blocks(old)
    for source, target in zip(old.weights, new.weights, strict=True):
        values = target.numpy().copy()
        _copy_corner(source.numpy(), values, blocks.get(id(source), {}))
        target.assign(values)


def _copy_corner(source: np.ndarray, target: np.ndarray, blocks: dict[int, int]) -> None:
    """Along an axis of several blocks, such as the gates of a cell, each block is cut by itself."""
    counts = [blocks.get(axis, 1) for axis in range(source.ndim)]
    pairs = list(zip(counts, source.shape, target.shape, strict=True))
    if any(old % count or new % count for count, old, new in pairs):
        counts = [1] * source.ndim
    old, new = (
        array.reshape(
            [n for count, size in zip(counts, array.shape, strict=True) for n in (count, size // count)]
        )
        for array in (source, target)
    )
    corner = tuple(slice(min(sizes)) for sizes in zip(old.shape, new.shape, strict=True))
    new[corner] = old[corner]


def _blocks(layer) -> dict[int, dict[int, int]]:
    """By the id of a variable, how many blocks an axis consists of."""
    found: dict[int, dict[int, int]] = {}
    for part in layer._flatten_layers():
        recurrent = getattr(part, "recurrent_kernel", None)
        if recurrent is not None and len(recurrent.shape) >= 2:
            gates = recurrent.shape[-1] // recurrent.shape[-2]
            found |= {id(weight): {len(weight.shape) - 1: gates} for weight in part.weights}
    if isinstance(layer, keras.layers.Dense):
        found[id(layer.kernel)] = {0: _positions(layer)}
    return found


def _positions(layer) -> int:
    """How many positions a `Flatten` before the layer has put side by side; 1 without one."""
    node = layer._inbound_nodes[0]
    while node.input_tensors and len(node.input_tensors) == 1:
        (tensor,) = node.input_tensors
        history = tensor._keras_history
        if isinstance(history.operation, keras.layers.InputLayer):
            return 1
        node = history.operation._inbound_nodes[history.node_index]
        shapes = [tuple(source.shape) for source in node.input_tensors]
        if isinstance(history.operation, keras.layers.Flatten):
            return math.prod(shapes[0][1:-1]) if None not in shapes[0][1:] else 1
        if shapes != [tuple(tensor.shape)]:
            return 1
    return 1
