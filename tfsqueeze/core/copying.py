"""Exact copies of layers and operations: configuration, weights, random state, flags, held functions."""

import contextlib
import copy
import tempfile
import types
from collections.abc import Iterator

import keras

from tfsqueeze.core.checks import UnsupportedModelError


def copy_layer(layer: keras.Layer, config: dict | None = None) -> keras.Layer:
    """An unbuilt layer of the same class and configuration; weights follow once it is built.

    Functions the layer holds (custom activations, Lambda bodies) are shared with the original rather
    than serialized, so that closures and unregistered functions work.

    Args:
        layer: the original.
        config: settings to change, as they stand in the layer's `get_config()`.

    Raises:
        UnsupportedModelError: if the layer cannot be made again from its own `get_config()`.
    """
    try:
        with _custom_objects(layer) as objects, keras.saving.custom_object_scope(objects):
            twin = type(layer).from_config({**layer.get_config(), **(config or {})})
    except Exception as error:
        raise UnsupportedModelError(
            f"Layer {layer.name!r} ({type(layer).__name__}) cannot be copied: its `get_config()` and "
            f"`from_config()` do not make it again. Implement `get_config()` so that "
            f"`{type(layer).__name__}.from_config(layer.get_config())` works. It failed with: {error}"
        ) from error
    _copy_names(layer, twin)
    return twin


def copy_operation(operation):
    """A copy of a graph operation that is no layer, such as `keras.ops.add`, without its graph nodes."""
    twin = copy.copy(operation)
    twin._inbound_nodes, twin._outbound_nodes = [], []
    return twin


def copy_state(source: keras.Layer, target: keras.Layer) -> None:
    """Copies all state of a built layer, its sublayers included, to a built layer of the same structure.

    Raises:
        UnsupportedModelError: if the two do not have the same sublayers or weights.
    """
    sources, targets = _tree(source), _tree(target)
    if len(sources) != len(targets):
        raise UnsupportedModelError(
            f"The copy of layer {source.name!r} has {len(targets)} sublayers, the original {len(sources)}. "
            "Create all sublayers from the constructor's arguments, so that `from_config()` makes them too."
        )
    for old, new in zip(sources, targets, strict=True):
        _copy_own_state(old, new)
    copy_trainable(source, target)


def _tree(layer) -> list[keras.Layer]:
    return list(layer._flatten_layers(include_self=True, recursive=True))


def _copy_names(source, target) -> None:
    """Sublayers that were named automatically get another name in a copy, which selections would miss."""
    pairs = list(zip(_tree(source), _tree(target), strict=False))
    if all(type(old) is type(new) for old, new in pairs):
        for old, new in pairs:
            new.name = old.name


def _copy_own_state(old, new) -> None:
    with contextlib.ExitStack() as stack:
        if hasattr(old, "save_assets"):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            old.save_assets(folder)
            new.load_assets(folder)
    store = {}
    old.save_own_variables(store)
    try:
        new.load_own_variables(store)
    except (ValueError, KeyError) as error:
        raise UnsupportedModelError(
            f"The weights of layer {old.name!r} ({type(old).__name__}) do not fit its copy: {error}"
        ) from error
    for old_seed, new_seed in zip(old._seed_generators, new._seed_generators, strict=False):
        new_seed.state.assign(old_seed.state)


def copy_trainable(source, target) -> None:
    """Copies which weights train. Parents first: setting a layer's flag overwrites those of its sublayers."""
    for old, new in zip(_tree(source), _tree(target), strict=True):
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    for old, new in zip(source.weights, target.weights, strict=True):
        if new.trainable != old.trainable:
            new.trainable = old.trainable


@contextlib.contextmanager
def _custom_objects(layer) -> Iterator[dict[str, type | types.FunctionType]]:
    """Classes and functions of the user's that `layer` and its sublayers are or hold, by name.

    Meanwhile each function has a name of its own: Keras serializes a named function by its name, but a
    lambda as bytecode that loses its globals.
    """
    held = [value for part in _tree(layer) for value in (part, *vars(part).values())]
    classes = {type(value).__name__: type(value) for value in held if _is_users(type(value))}
    functions = {id(f): f for f in held if isinstance(f, types.FunctionType) and _is_users(f)}
    names = {key: function.__name__ for key, function in functions.items()}
    try:
        for key, function in functions.items():
            function.__name__ = f"{names[key].strip('<>')}_{key}"
        yield {**classes, **{function.__name__: function for function in functions.values()}}
    finally:
        for key, function in functions.items():
            function.__name__ = names[key]


def _is_users(thing) -> bool:
    return (thing.__module__ or "").split(".")[0] not in ("keras", "builtins", "numpy", "tensorflow")
