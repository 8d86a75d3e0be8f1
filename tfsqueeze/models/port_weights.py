"""Copying weights from a `tf_keras` layer into its Keras 3 twin."""

import keras
import numpy as np

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.models.stand_in import is_stand_in

_STATE_IN_CONFIG = ("StringLookup", "IntegerLookup", "TextVectorization", "Discretization")


def copy_weights(old, twin) -> None:
    """Copies every weight of a built layer, also of the layers it wraps.

    Args:
        old: a built `tf_keras` layer.
        twin: its built Keras 3 counterpart.

    Raises:
        UnsupportedModelError: if the two have weights of different number or shape; names the layer.
    """
    if type(old).__name__ in _STATE_IN_CONFIG:
        return
    if is_stand_in(old):
        return _assign(old, old._hidden["mirrors"], twin.weights, twin)
    inner_old, inner_twins = _wrapped(old), _wrapped(twin)
    for inner, inner_twin in zip(inner_old, inner_twins, strict=True):
        if not isinstance(inner_twin, keras.Model):
            copy_weights(inner, inner_twin)
    _assign(old, _own(old.weights, inner_old), _own(twin.weights, inner_twins), twin)
    if isinstance(twin, keras.layers.Normalization):
        twin.finalize_state()


def _wrapped(layer) -> list:
    """Layers whose weights `layer` passes on; their order differs between the Keras versions."""
    names = ("forward_layer", "backward_layer") if hasattr(layer, "forward_layer") else ("layer",)
    return [getattr(layer, name) for name in names if hasattr(getattr(layer, name, None), "weights")]


def _own(weights, inner_layers) -> list:
    inner = {id(weight) for layer in inner_layers for weight in layer.weights}
    return [weight for weight in weights if id(weight) not in inner]


def _assign(old, sources, targets, twin) -> None:
    sources = _in_order_of(targets, sources)
    found, wanted = ([tuple(weight.shape) for weight in weights] for weights in (sources, targets))
    if found != wanted:
        raise UnsupportedModelError(
            f"Layer {old.name!r} ({type(old).__name__}) cannot be ported to Keras 3: its weights have the "
            f"shapes {found}, those of {type(twin).__name__} are {wanted}."
        )
    for source, target in zip(sources, targets, strict=True):
        target.assign(np.asarray(source))


def _in_order_of(targets, sources) -> list:
    """Sources sorted by name where both sides use the same names, as an attention layer's parts do.

    Freezing a part, or clustering it, changes the order in which Keras 2 lists the weights.
    """
    by_name = {_last_names(weight.name): weight for weight in sources}
    names = [_last_names(weight.path) for weight in targets]
    same = len(by_name) == len(sources) == len(targets) and set(by_name) == set(names)
    return [by_name[name] for name in names] if same else sources


def _last_names(path: str) -> tuple[str, ...]:
    return tuple(path.split(":")[0].split("/")[-2:])
