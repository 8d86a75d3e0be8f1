"""Removing channels in several rounds, with training in between."""

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.checks import check_count, check_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.resuming import setting_text, weights_digest
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.pruning.channels.gradual_storage import RoundFolder
from tfsqueeze.pruning.channels.graph import find_groups
from tfsqueeze.pruning.channels.one_shot import channel_counts, prune_channels
from tfsqueeze.pruning.channels.targets import Target


def prune_channels_gradually(
    model: keras.Model,
    train: Callable[[keras.Model], Any],
    *,
    ratio: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    rounds: int = 3,
    storage=None,
    **options,
) -> keras.Model:
    """Removes channels in rounds, training the smaller model after each, until a target is met.

    The size falls by the same factor in each round. What a network loses at once it often keeps when it
    may recover on the way; the cost is `rounds` trainings.

    Args:
        model: a trained Sequential or Functional model; it is not changed.
        train: `train(model)` compiles (copies of a compiled model are compiled already) and fits the model
            it is given. What it returns, a `History`, a number or a dict, is noted in `storage`.
        ratio, macs, params: exactly one target, as in `tfs.prune_channels`.
        rounds: how often to prune and train, >= 1.
        storage: a folder that keeps the model after every round, or None. Called again with it, the
            function goes on after the last finished round. Custom layers must be registered with Keras.
        **options: further arguments of `tfs.prune_channels`: criterion, scope, data, select, ...

    Returns:
        The smaller, trained model. `tfs.explain` on it lists the channels of each layer before and after.

    Raises:
        TypeError: if `train` cannot be called as `train(model)`.
        ValueError: if an argument is out of range, the target cannot be reached, or `storage` belongs to
            other work.

    Example:
        >>> def train(model):
        ...     model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        ...     return model.fit(x, y, epochs=3)
        >>> small = tfs.prune_channels_gradually(model, train, macs=0.3, rounds=3, data=x[:512])

    Source: Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference,
    arXiv:1611.06440.
    """
    target = Target.of(ratio, macs, params)
    check_graph(model, "prune_channels_gradually()")
    _check(rounds, train, options)
    settings = {
        "target": f"{target.name}={target.value}",
        "rounds": str(rounds),
        **{name: setting_text(value) for name, value in options.items() if name != "data"},
        "model": weights_digest(model),
    }
    folder = RoundFolder(storage, settings)
    finished, current, history = folder.read()
    current = rewrite(model) if current is None else current
    whole = _size(model, target, options)
    for number in range(finished + 1, rounds + 1):
        kept = target.kept ** (number / rounds) * whole / _size(current, target, options)
        current = _pruned(current, target.name, min(kept, 1.0), options)
        history.append({"round": number, "metrics": _metrics(train(current))})
        folder.write(number, current, history)
    return record(current, "prune_channels_gradually", _rows(model, current), find_groups(model).pinned)


def _pruned(model, name, kept, options) -> keras.Model:
    return prune_channels(model, **{name: 1 - kept if name == "ratio" else kept}, **options)


def _size(model, target, options) -> float:
    graph = find_groups(model, options.get("select"))
    return target.measure(graph)(np.ones(graph.size + 1, bool))


def _rows(model, pruned) -> dict[str, dict]:
    before, after = (channel_counts(find_groups(m), {}) for m in (model, pruned))
    return {
        path: {"channels": row["channels"], "kept": after[path]["channels"]}
        for path, row in before.items()
        if path in after
    }


def _metrics(outcome) -> dict[str, float]:
    """What `train` returned, as numbers by name: the last epoch of a `History`."""
    if isinstance(outcome, keras.callbacks.History):
        outcome = {name: values[-1] for name, values in outcome.history.items()}
    if isinstance(outcome, numbers.Real):
        outcome = {"score": outcome}
    return {name: float(v) for name, v in outcome.items()} if isinstance(outcome, dict) else {}


def _check(rounds, train, options) -> None:
    check_count("rounds", rounds)
    try:
        inspect.signature(train).bind(None)
    except TypeError as error:
        raise TypeError(
            f"`train` must be a function that can be called as train(model). Received: {train!r} ({error})."
        ) from error
    known = inspect.signature(prune_channels).parameters
    if unknown := [name for name in options if name not in known or name == "model"]:
        raise TypeError(f"prune_channels_gradually() takes the options of prune_channels(), not {unknown}.")
