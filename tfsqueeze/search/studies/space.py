"""What a search may choose: ranges of numbers and choices, checked and serializable."""

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included. Whole numbers give whole numbers.

    Args:
        low: the least value.
        high: the greatest value.
        log: whether factors matter rather than differences, as for learning rates; `low` must be > 0.
        step: distance between the values, counted from `low`; None for any number between (whole
            numbers: 1). Not with `log`.

    Raises:
        TypeError: if a bound is no number.
        ValueError: if the bounds or the step make no range.

    Example:
        >>> space = {"learning_rate": tfs.Range(1e-4, 1e-1, log=True), "width": tfs.Range(16, 128, step=16)}
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self):
        for name, value in (("low", self.low), ("high", self.high), ("step", self.step)):
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not (is_number or (name == "step" and value is None)):
                raise TypeError(f"Range: `{name}` must be a number. Received: {name}={value!r}.")
            if value is not None and not math.isfinite(value):
                raise ValueError(f"Range: `{name}` must be finite. Received: {name}={value!r}.")
        if self.low > self.high:
            raise ValueError(f"Range: `low` must not exceed `high`. Received: {self!r}.")
        if self.log and self.low <= 0:
            raise ValueError(
                f"Range: with log=True `low` must be > 0. Received: {self!r}. Begin at a small number > 0."
            )
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError(f"Range: `step` must be > 0, and None with log=True. Received: {self!r}.")

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return all(isinstance(value, numbers.Integral) for value in (self.low, self.high, self.step or 1))

    @property
    def distribution(self) -> BaseDistribution:
        """The range as Optuna knows it."""
        if self.is_whole:
            step = 1 if self.step is None else int(self.step)
            high = self.high - (self.high - self.low) % step
            return IntDistribution(int(self.low), int(high), log=self.log, step=step)
        if self.step is None:
            return FloatDistribution(float(self.low), float(self.high), log=self.log)
        # Sums of steps such as 0.1 are off in the last digits: neither may the upper end be lost by that.
        steps = math.floor((self.high - self.low) / self.step + 1e-9)
        high = float(f"{self.low + steps * self.step:.12g}")
        return FloatDistribution(float(self.low), high, step=float(self.step))

    def decode(self, stored):
        """The value a trial that stores `stored` is given."""
        return stored

    def to_dict(self) -> dict[str, Any]:
        """The range as plain data, for `Space`."""
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


class Choice:
    """One of several values. In a space, a list is a `Choice`.

    Args:
        options: a list of values that JSON can hold; or a dict of names and values of any kind, whose names
            are what is stored and shown.

    Raises:
        TypeError: if an option is neither plain nor named.
        ValueError: if there is no option, or one twice.

    Example:
        >>> tfs.Choice({"cosine": keras.optimizers.schedules.CosineDecay(0.1, 1000), "constant": 0.1})
    """

    def __init__(self, options: Sequence | Mapping[str, Any]):
        self.options: dict[Any, Any] = {}
        self.is_named = isinstance(options, Mapping)
        listed = options.items() if self.is_named else [(_label(option), option) for option in options]
        for label, option in listed:
            if label in self.options:
                raise ValueError(f"Choice: every option must be there once. Received twice: {label!r}.")
            self.options[label] = option
        if not self.options:
            raise ValueError("Choice: expected at least one option. Received: none.")

    @property
    def distribution(self) -> BaseDistribution:
        """The choice as Optuna knows it."""
        return CategoricalDistribution(list(self.options))

    def decode(self, stored):
        """The value a trial that stores `stored` is given."""
        return self.options[stored]

    def to_dict(self) -> dict[str, Any]:
        """The choice as plain data, for `Space`; of named options the names."""
        return {"options": list(self.options if self.is_named else self.options.values())}

    def __repr__(self) -> str:
        return f"Choice({list(self.options)!r})"


class Space:
    """Everything a search chooses, by name.

    Args:
        parameters: for each name a `Range`, a `Choice`, a list (a choice), or what their `to_dict` gives.

    Attributes:
        parameters: the `Range` or `Choice` by name.

    Raises:
        TypeError: if `parameters` is no mapping of names to these.
        ValueError: if there is no parameter.

    Example:
        >>> Space({"learning_rate": Range(1e-4, 1e-1, log=True), "optimizer": ["adam", "sgd"]})
    """

    def __init__(self, parameters: "Mapping[str, Any] | Space"):
        if isinstance(parameters, Space):
            parameters = parameters.parameters
        if not isinstance(parameters, Mapping):
            raise TypeError(
                "`space` must be a dict of parameter names and what they may be, such as "
                f"{{'width': [16, 32]}}. Received: {type(parameters)}."
            )
        if not parameters:
            raise ValueError("`space` must name at least one parameter. Received: an empty dict.")
        self.parameters = {name: _parameter(name, value) for name, value in parameters.items()}

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters as Optuna knows them, by name."""
        return {name: parameter.distribution for name, parameter in self.parameters.items()}

    @property
    def size(self) -> float:
        """How many different settings there are; infinite where a range has no steps."""
        return math.prod(_count(distribution) for distribution in self.distributions.values())

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The values a trial is given, from what the study stores."""
        return {name: parameter.decode(stored[name]) for name, parameter in self.parameters.items()}

    def to_dict(self) -> dict[str, Any]:
        """The space as plain data, from which `Space` makes it again (options with names: the names)."""
        return {name: parameter.to_dict() for name, parameter in self.parameters.items()}

    def to_text(self) -> str:
        """The space as one line, the same for the same space."""
        return json.dumps(self.to_dict(), sort_keys=True)

    def __repr__(self) -> str:
        return f"Space({self.parameters!r})"


def _parameter(name, value) -> Range | Choice:
    if not isinstance(name, str) or not name:
        raise TypeError(f"`space`: names of parameters must be text. Received: {name!r}.")
    try:
        if isinstance(value, Range | Choice):
            return value
        if isinstance(value, list):
            return Choice(value)
        if isinstance(value, Mapping) and set(value) == {"options"}:
            return Choice(value["options"])
        if isinstance(value, Mapping) and {"low", "high"} <= set(value) <= {"low", "high", "log", "step"}:
            return Range(**value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`space`, parameter {name!r}: {error}") from error
    raise TypeError(
        f"`space`, parameter {name!r}: expected tfs.Range(low, high), tfs.Choice(...) or a list of options. "
        f"Received: {value!r}. A tuple could mean a range or two options: write which."
    )


def _label(option):
    """What is stored of an option: itself if plain, else its JSON."""
    if isinstance(option, PLAIN):
        return option
    try:
        return json.dumps(option, sort_keys=True)
    except TypeError as error:
        raise TypeError(
            f"Choice: options in a list must be plain values. Received: {option!r}. Give options of other "
            "kinds names: tfs.Choice({'name': value, ...})."
        ) from error


def _count(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if distribution.step is None:
        return math.inf if distribution.low < distribution.high else 1
    return round((distribution.high - distribution.low) / distribution.step) + 1
