"""Which layers have their kernels rounded, with which settings, and why the others have not."""

from collections.abc import Mapping
from dataclasses import dataclass

import keras

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.layer_info import kernels as known_kernels
from tfsqueeze.core.select import select_layers, walk
from tfsqueeze.quantization.config import QuantizationConfig, as_config
from tfsqueeze.quantization.ranges import graph_of, levels

FLOAT = "float"
KEPT_FLOAT = "kept in float by `overrides`"
_FLOAT_IN_FILES = {
    keras.layers.Conv3D: "`.tflite` computes 3D convolutions in float",
    keras.layers.Conv3DTranspose: "`.tflite` computes 3D convolutions in float",
    keras.layers.LayerNormalization: "`.tflite` computes it in float, from and to integers",
    keras.layers.GroupNormalization: "`.tflite` computes it in float, from and to integers",
    keras.layers.RNN: "recurrent loops stay float in `.tflite`",
    keras.layers.Bidirectional: "recurrent loops stay float in `.tflite`",
}
# They have weights but no kernel, and compute in integers all the same.
_INTEGER_ANYWAY = (keras.layers.BatchNormalization, keras.layers.Normalization, keras.layers.PReLU)


@dataclass(frozen=True)
class QuantizationTarget:
    """A layer whose kernels are rounded; `kernel_names` for those that only the user knows."""

    path: str
    layer: keras.Layer
    config: QuantizationConfig
    kernel_names: tuple[str, ...] | None = None


def find_targets(model, config, select=None, overrides=None, kernels=None):
    """Finds the layers to round the kernels of.

    Args:
        model: a model with a graph.
        config: the settings.
        select, overrides, kernels: see `quantize_aware`.

    Returns:
        `QuantizationTarget` by id of the layer, the reasons why layers were left out, by path, and the ids of
        the layers that shall compute in float.
    """
    own = _own_kernels(kernels)
    reachable = {id(operation) for level in levels(model) for operation in graph_of(level).operations}

    def unsupported(layer):
        return _reason_against(layer, own, reachable)

    selection = select_layers(model, select, unsupported)
    chosen = [(named, _kernel_names(named.layer, own)) for named in selection.chosen]
    edges = {id(named.layer) for named, _ in (chosen[0], chosen[-1])} if len(chosen) > 2 else set()
    special = _overridden(model, overrides, config, unsupported)
    floats = {key for key, setting in special.items() if setting is None}
    targets = {}
    for named, names in chosen:
        key = id(named.layer)
        if key in floats:
            continue
        setting = special.get(key) or (config.at_the_edges() if key in edges else config)
        targets[key] = QuantizationTarget(named.path, named.layer, setting, names)
    kept = {named.path: KEPT_FLOAT for named, _ in chosen if id(named.layer) in floats}
    return targets, _left_float(model, selection.skipped, targets) | kept, floats


def _left_float(model, skipped, targets) -> dict[str, str]:
    """Of the layers that were skipped, those that are not computed in integers for another reason."""
    inside = tuple(f"{target.path}/" for target in targets.values())
    integer = {named.path for named in walk(model) if isinstance(named.layer, _INTEGER_ANYWAY)}
    return {
        path: reason
        for path, reason in skipped.items()
        if path not in integer and not path.startswith(inside)
    }


def _own_kernels(kernels) -> dict[type, tuple[str, ...]]:
    if kernels is None:
        return {}
    if not isinstance(kernels, Mapping) or not all(isinstance(cls, type) for cls in kernels):
        raise TypeError(
            '`kernels` maps layer classes to the attributes of their kernels: {MyDense: ("kernel",)}. '
            f"Received: {kernels!r}."
        )
    return {cls: (names,) if isinstance(names, str) else tuple(names) for cls, names in kernels.items()}


def _kernel_names(layer, own) -> tuple[str, ...] | None:
    return next((names for cls, names in own.items() if isinstance(layer, cls)), None)


def _reason_against(layer, own, reachable) -> str | None:
    names = _kernel_names(layer, own)
    if id(layer) not in reachable:
        return "it is inside a layer that computes as a whole"
    if isinstance(layer, keras.Model) and has_graph(layer):
        return "it is a model; the layers in it are quantized"
    for cls, reason in _FLOAT_IN_FILES.items():
        if isinstance(layer, cls):
            return reason
    if type(layer) is keras.layers.MultiHeadAttention:
        return None
    if names is None and not known_kernels(layer):
        kind = type(layer).__name__
        if type(layer).__module__.startswith("keras.") or not layer.weights:
            return f"{kind} has no kernel of its own that can be quantized"
        return f"{kind} is not known; name its kernels with kernels={{{kind}: (...)}}"
    missing = [name for name in names or () if not isinstance(getattr(layer, name, None), keras.Variable)]
    if missing:
        raise ValueError(
            f"Layer {layer.name!r} ({type(layer).__name__}) has no variable {missing[0]!r}, which `kernels` "
            "names."
        )
    if _has_state(layer):
        return f"{type(layer).__name__} keeps state, whose updates would be lost"
    return None


def _has_state(layer) -> bool:
    return bool(layer.non_trainable_variables) and bool(layer.trainable)


def _overridden(model, overrides, config, unsupported) -> dict[int, QuantizationConfig | None]:
    """The configuration of layers that have one of their own, None for float, by id."""
    found = {}
    for select, override in (overrides or {}).items():
        setting = None if override == FLOAT else as_config(override, config)
        for named in select_layers(model, select, unsupported).chosen:
            found[id(named.layer)] = setting
    return found
