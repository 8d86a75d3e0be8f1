"""What a layer's output goes to."""

import keras
from keras import layers


def only_follower(layer: keras.Layer) -> keras.Operation | None:
    """What alone the output of a layer's only call goes to, before any activation; None otherwise.

    Args:
        layer: a layer of a Sequential or Functional model.
    """
    if getattr(layer, "activation", None) not in (None, keras.activations.linear):
        return None
    if len(layer._inbound_nodes) != 1 or len(layer._outbound_nodes) != 1:
        return None
    return layer._outbound_nodes[0].operation


def next_normalization(layer: keras.Layer) -> layers.BatchNormalization | None:
    """The BatchNormalization that the output of `layer` goes to, and nowhere else; None without one."""
    follower = only_follower(layer)
    is_own = isinstance(follower, layers.BatchNormalization) and len(follower._inbound_nodes) == 1
    return follower if is_own else None
