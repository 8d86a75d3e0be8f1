"""The cut itself: a physically smaller model with the kept weights, bit by bit."""

from collections.abc import Mapping

import keras
import numpy as np

from tfsqueeze.core import copying
from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.pruning.channels.graph import ChannelGraph


def cut(model: keras.Model, graph: ChannelGraph, keep: Mapping[str, np.ndarray]) -> keras.Model:
    """Removes channels from a model.

    Args:
        model: the model that `graph` was found in; it is not changed.
        graph: its channel groups, from `find_groups`.
        keep: by name of a group which of its units stay, as booleans; groups not named stay whole.

    Returns:
        A new model with the same inputs, outputs, layer names and compile settings, and narrower layers.

    Raises:
        ValueError: if `graph` is another model's, or `keep` does not fit it.

    Example:
        >>> graph = find_groups(model)
        >>> keep = {name: np.arange(group.size) % 2 == 0 for name, group in graph.groups.items()}
        >>> half = cut(model, graph, keep)
    """
    if graph.model is not model:
        raise ValueError(f"The channel groups are those of another model. Call find_groups({model.name!r}).")
    surgeon = _Surgeon(graph, keep)
    return rewrite(model, surgeon.replace, transfer=surgeon.transfer, adapt=surgeon.adapt)


_WRAPPED = {"layer": ("layer", "forward_layer"), "backward_layer": ("backward_layer",), "cell": ("cell",)}


class KeptParts:
    """Takes from arrays shaped like the variables of a model what a cut leaves of them.

    Args:
        graph: the model's channel groups.
        keep: by name of a group which of its units stay, as in `cut`.
    """

    def __init__(self, graph: ChannelGraph, keep: Mapping[str, np.ndarray]):
        kept = graph.kept(keep)
        self._flags: dict[int, dict[int, np.ndarray]] = {}
        for axis in graph.axes():
            flags = kept[graph.units(axis.labels)]
            if not flags.all():
                self._flags.setdefault(id(axis.variable), {})[axis.axis] = flags

    def __call__(self, variable: keras.Variable, array: np.ndarray) -> np.ndarray:
        """What is left of an array of the variable's shape."""
        for axis, flags in self._flags.get(id(variable), {}).items():
            array = np.compress(flags, array, axis)
        return array

    def shrinks(self, variable: keras.Variable) -> bool:
        """Whether the variable loses anything."""
        return id(variable) in self._flags


class _Surgeon:
    """Makes the narrower layers and operations and fills them."""

    def __init__(self, graph: ChannelGraph, keep: Mapping[str, np.ndarray]):
        kept = graph.kept(keep)
        self._sizes = graph.flow.sizes
        self._left = lambda labels: kept[graph.units(labels)]
        self._part = KeptParts(graph, keep)

    def replace(self, layer):
        """A narrower layer, or None for a layer that stays as it is."""
        settings = self._settings(layer)
        if not settings and not any(map(self._part.shrinks, layer.weights)):
            return None
        return copying.copy_layer(layer, {**settings, **self._wrapped_settings(layer)})

    def adapt(self, operation):
        """A narrower input layer, or an operation with smaller sizes among its settings."""
        settings = self._settings(operation)
        if not settings:
            return None
        if isinstance(operation, keras.layers.InputLayer):
            return type(operation).from_config({**operation.get_config(), **settings})
        if "key" in settings:
            return lambda tensor, key: tensor[settings["key"]]
        twin = copying.copy_operation(operation)
        vars(twin).update(settings)
        return twin

    def transfer(self, old, new_layers):
        """Fills a narrower layer with the weights that are kept."""
        (new,) = new_layers
        if len(old.variables) != len(new.variables):
            raise UnsupportedModelError(
                f"Layer {old.name!r} ({type(old).__name__}) has {len(old.variables)} variables, a narrower "
                f"one made from its configuration {len(new.variables)}. Leave it out with "
                f"select=tfs.Select(skip={old.name!r})."
            )
        for source, target in zip(old.variables, new.variables, strict=True):
            target.assign(self._part(source, keras.ops.convert_to_numpy(source)))
        copying.copy_trainable(old, new)

    def _settings(self, operation) -> dict:
        """Settings of a layer or operation that must change; empty if none must."""
        settings = self._sizes.get(id(operation), (operation, {}))[1]
        return self._resolved(settings) if self._shrinks(list(settings.values())) else {}

    def _wrapped_settings(self, layer) -> dict:
        """Configurations of the layers inside a wrapper, changed where they must."""
        config, changes = layer.get_config(), {}
        for name, attributes in _WRAPPED.items():
            inner = next((vars(layer)[a] for a in attributes if a in vars(layer)), None)
            if inner is not None and isinstance(config.get(name), dict):
                # A build configuration would build it on the old shapes.
                serialized = {key: value for key, value in config[name].items() if key != "build_config"}
                serialized["config"] = {**serialized["config"], **self._settings(inner)}
                changes[name] = serialized
        return changes

    def _shrinks(self, structure) -> bool:
        if isinstance(structure, slice):
            structure = (structure.start, structure.stop)
        if isinstance(structure, (list, tuple)):
            return any(map(self._shrinks, structure))
        return isinstance(structure, np.ndarray) and not self._left(structure).all()

    def _resolved(self, structure):
        """The structure with every axis of labels replaced by the number of its positions that stay."""
        if isinstance(structure, dict):
            return {name: self._resolved(value) for name, value in structure.items()}
        if isinstance(structure, slice):
            return slice(self._resolved(structure.start), self._resolved(structure.stop), structure.step)
        if isinstance(structure, (list, tuple)):
            return tuple(map(self._resolved, structure))
        return int(self._left(structure).sum()) if isinstance(structure, np.ndarray) else structure
