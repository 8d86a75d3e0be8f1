"""Parameters as places between 0 and 1, so that samplers need not know ranges, steps and logarithms."""

import math

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution


def is_choice(distribution: BaseDistribution) -> bool:
    """Whether the values have no order."""
    return isinstance(distribution, CategoricalDistribution)


def to_place(distribution: BaseDistribution, value) -> float:
    """Where in its range a value lies, in [0, 1]; the centre where the range is a single number."""
    low, high, value = _scaled(distribution, distribution.low, distribution.high, value)
    return 0.5 if high == low else (value - low) / (high - low)


def from_place(distribution: BaseDistribution, place: float):
    """The value of the range nearest to a place in [0, 1].

    Example:
        >>> from_place(FloatDistribution(1e-4, 1.0, log=True), 0.5)
        0.01
    """
    low, high = _scaled(distribution, distribution.low, distribution.high)
    value = low + (high - low) * min(max(place, 0.0), 1.0)
    value = math.exp(value) if distribution.log else value
    if distribution.step is not None:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)


def evenly(distribution: BaseDistribution, points: int) -> list:
    """Every value of a choice, or of a range with at most `points`; else `points` evenly spread ones."""
    if is_choice(distribution):
        return list(distribution.choices)
    if distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        if count <= points:
            return [distribution.low + index * distribution.step for index in range(count)]
    places = np.linspace(0, 1, points) if points > 1 else [0.5]
    return list(dict.fromkeys(from_place(distribution, place) for place in places))


def setting_key(distributions: dict[str, BaseDistribution], parameters: dict) -> tuple:
    """What two equal settings have in common, also after a database rounded their last digits."""
    return tuple(
        float(f"{distribution.to_internal_repr(parameters[name]):.12g}")
        for name, distribution in distributions.items()
    )


def _scaled(distribution, *values) -> list[float]:
    return [math.log(value) if distribution.log else value for value in values]
