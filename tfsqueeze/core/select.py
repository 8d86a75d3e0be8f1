"""Choosing layers: by class, name, regular expression, function, or a list of these."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from tfsqueeze.core.checks import did_you_mean


@dataclass(frozen=True)
class NamedLayer:
    """A layer, its path in the model ("backbone/block1/conv"), and the layers around it, outermost first."""

    path: str
    layer: keras.Layer
    parents: tuple[keras.Layer, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Layers chosen, and for each layer with weights that was not chosen, the reason, by path."""

    chosen: list[NamedLayer]
    skipped: dict[str, str] = field(default_factory=dict)


class Select:
    """A selection of layers spelled out; what any one of the criteria matches is selected.

    Args:
        names: layer names or paths, exact.
        patterns: regular expressions that must match a whole name or path.
        types: layer classes, subclasses included.
        skip: anything a `select` argument takes; what it matches is left out. Alone, it means
            "every supported layer but these".

    Example:
        >>> tfs.prune(model, 0.8, select=tfs.Select(types=[keras.layers.Conv2D], skip="stem"))
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        patterns: Iterable[str | re.Pattern] = (),
        types: Iterable[type] = (),
        skip: Any = None,
    ):
        exact = [re.compile(re.escape(name)) for name in _listed(names)]
        self.include = [*exact, *map(re.compile, _listed(patterns)), *_listed(types)] or None
        self.skip = skip


def walk(model: keras.Layer) -> Iterator[NamedLayer]:
    """Every layer inside `model` once, in order; a nested or composite layer comes before what is in it."""
    seen: set[int] = set()

    def visit(layer, prefix, parents):
        for child in layer._flatten_layers(include_self=False, recursive=False):
            if id(child) in seen:
                continue
            seen.add(id(child))
            yield NamedLayer(f"{prefix}{child.name}", child, parents)
            yield from visit(child, f"{prefix}{child.name}/", (*parents, child))

    yield from visit(model, "", ())


def select_layers(
    model: keras.Model,
    select,
    unsupported: Callable[[keras.Layer], str | None],
    *,
    by_default: Callable[[keras.Layer], str | None] = lambda layer: None,
) -> Selection:
    """Finds the layers a technique works on.

    Args:
        model: any model; nested models and composite layers are searched too.
        select: None for every supported layer; a layer class, a name or path, a regular expression
            (matched against the whole name or path), a function on layers, a `Select`, or a list of
            these. Selecting a nested or composite layer selects what is inside it.
        unsupported: returns why the technique cannot work on a layer, or None if it can.
        by_default: returns why a supported layer is left alone unless selected, or None if it is taken.

    Returns:
        The selection; layers without weights of their own are not listed as skipped.

    Raises:
        TypeError: if `select` is of no known kind.
        ValueError: if it matches nothing, or a layer named exactly is not supported.
    """
    layers = list(walk(model))
    include, skip = (select.include, select.skip) if isinstance(select, Select) else (select, None)
    wanted = None if include is None else _ids(_matching(layers, include))
    left_out = set() if skip is None else _ids(_matching(layers, skip))

    def reason_against(layer):
        if wanted is not None and id(layer) not in wanted:
            return "not selected"
        if id(layer) in left_out:
            return "left out by `skip`"
        return unsupported(layer) or (by_default(layer) if wanted is None else None)

    reasons = [(named, reason_against(named.layer)) for named in layers]
    chosen = [named for named, reason in reasons if reason is None]
    skipped = {named.path: reason for named, reason in reasons if reason and _owns_weights(named.layer)}
    _check_named(layers, include, _ids(chosen), unsupported)
    if not chosen:
        raise ValueError(
            f"No layer of model {model.name!r} is left to work on (select={select!r}). "
            f"Of its layers with weights: {skipped or 'there are none'}."
        )
    return Selection(chosen, skipped)


def _matching(layers: list[NamedLayer], select) -> list[NamedLayer]:
    """Layers that a criterion matches, or whose parents it matches; each criterion must match something."""
    found: list[NamedLayer] = []
    for criterion in _listed(select):
        matches = _criterion(criterion)
        tops = _ids([named for named in layers if matches(named)])
        if not tops:
            names = [name for named in layers for name in {named.path, named.layer.name}]
            raise ValueError(
                f"`select` matches no layer: {criterion!r}. {did_you_mean(str(criterion), names)} "
                f"The model's layers are: {', '.join(named.path for named in layers)}."
            )
        found += [n for n in layers if not tops.isdisjoint(map(id, (n.layer, *n.parents)))]
    return found


def _check_named(layers, include, chosen, unsupported) -> None:
    """A layer the user named exactly is never skipped silently."""
    for name in _listed(include):
        named = [found for found in layers if name in (found.path, found.layer.name)]
        if named and _ids(_matching(layers, name)).isdisjoint(chosen):
            layer = named[0].layer
            raise ValueError(
                f"Layer {name!r} ({type(layer).__name__}) was selected by name, but cannot be worked on: "
                f"{unsupported(layer) or 'it was left out by `skip`'}."
            )


def _criterion(criterion) -> Callable[[NamedLayer], bool]:
    if isinstance(criterion, type):
        return lambda named: isinstance(named.layer, criterion)
    if isinstance(criterion, keras.Layer):
        return lambda named: named.layer is criterion
    if isinstance(criterion, str):
        pattern = re.compile(criterion) if _is_pattern(criterion) else None
        return lambda named: any(
            name == criterion or bool(pattern and pattern.fullmatch(name))
            for name in (named.path, named.layer.name)
        )
    if isinstance(criterion, re.Pattern):
        return lambda named: any(criterion.fullmatch(name) for name in (named.path, named.layer.name))
    if callable(criterion):
        return lambda named: bool(criterion(named.layer))
    raise TypeError(
        "`select` takes a layer class, a name, a regular expression, a function on layers, a tfs.Select, "
        f"or a list of these. Received: {criterion!r}."
    )


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _listed(value) -> list:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def _ids(layers: list[NamedLayer]) -> set[int]:
    return {id(named.layer) for named in layers}


def _owns_weights(layer) -> bool:
    return bool(layer._trainable_variables or layer._non_trainable_variables)
