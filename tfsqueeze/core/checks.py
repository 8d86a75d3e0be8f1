"""Checks of what a user passes, with errors that say what was expected, what came, and what to do."""

import difflib
import math
import numbers
from collections.abc import Collection
from typing import Any

import keras
from keras.src.models.functional import Functional

from tfsqueeze.core.trained import students_of


class UnsupportedModelError(ValueError):
    """The model is of a kind the asked technique cannot work on; the message says what can be done."""


def check_fraction(name: str, value, *, remedy: str = "") -> float:
    """Returns `value` as a float in [0, 1).

    Raises:
        ValueError: if it is no number in [0, 1). `remedy` is appended to the message.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be in [0, 1). Received: {name}={value!r}.{_sentence(remedy)}")
    return float(value)


def check_positive(name: str, value, *, remedy: str = "") -> float:
    """Returns `value` if it is a finite number greater than 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not (0 < value < math.inf):
        raise ValueError(f"`{name}` must be a number > 0. Received: {name}={value!r}.{_sentence(remedy)}")
    return value


def check_count(name: str, value, least: int = 1) -> int:
    """Returns `value` as an int if it is a whole number >= `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"`{name}` must be a whole number >= {least}. Received: {name}={value!r}.")
    return int(value)


def check_kept(name: str, value) -> float:
    """Returns `value` if it is a fraction kept, in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value <= 1:
        raise ValueError(f"`{name}` is the fraction kept and must be in (0, 1]. Received: {name}={value!r}.")
    return float(value)


def check_one_target(choices: str, **targets) -> tuple[str, Any]:
    """Returns the name and value of the one target that is not None.

    Args:
        choices: what may be given, in words, for the message.
        targets: all targets by name.
    """
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise ValueError(f"Give exactly one target: {choices}. Received: {given or 'none'}.")
    return next(iter(given.items()))


def check_choice(name: str, value, choices: Collection):
    """Returns `value` if it is one of `choices`; otherwise raises with the closest choice."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        hint = did_you_mean(str(value), [str(choice) for choice in choices])
        raise ValueError(f"`{name}` must be one of {listed}. Received: {name}={value!r}.{_sentence(hint)}")
    return value


def check_model(model, verb: str, *, alone: bool = True) -> keras.Model:
    """Returns `model` if it is a built `keras.Model`.

    Args:
        model: what was passed.
        verb: the caller, for messages.
        alone: whether it must be a network of its own, rather than one that trains another.

    Raises:
        TypeError: if it is something else, with the way to get a `keras.Model` from it.
        UnsupportedModelError: if it was never built, so that it has no weights yet, or if it wraps the
            network that is meant.
    """
    if not isinstance(model, keras.Model):
        remedy = "Load files, SavedModel folders and tf_keras models with `tfs.load_model(...)` first."
        raise TypeError(f"{verb} expects a `keras.Model`. Received: {type(model)}. {remedy}")
    if not model.built:
        raise UnsupportedModelError(
            f"{verb} needs a built model, but {model.name!r} ({type(model).__name__}) has no weights yet. "
            "Call it once on data, or call `model.build(input_shape)`."
        )
    if alone and (inner := students_of(model)):
        raise UnsupportedModelError(
            f"{verb} works on a network of its own. Received: {model.name!r}, a {type(model).__name__}, "
            f"which trains {' and '.join(repr(student.name) for student in inner.values())}. Pass "
            f"{' or '.join(f'`.{place}`' for place in inner)} of it."
        )
    return model


def check_graph(model, verb: str) -> keras.Model:
    """Returns `model` if it is built and has a graph of layers (Sequential or Functional)."""
    check_model(model, verb)
    if not has_graph(model):
        raise UnsupportedModelError(
            f"{verb} needs the graph of a Sequential or Functional model. Received {model.name!r}, a "
            f"subclassed {type(model).__name__}. Wrap its call in `keras.Model(inputs, outputs)`; weight "
            "pruning, distillation and export work on it as it is."
        )
    return model


def has_graph(model) -> bool:
    """Whether `model` is Sequential or Functional and not a subclass with a `call` of its own."""
    return type(model).call in (keras.Sequential.call, Functional.call)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A hint that names up to three of `known` that look like `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""


def _sentence(text: str) -> str:
    return f" {text}" if text else ""
