"""Every point of a grid once, in a random order, whoever of the workers tries it."""

import itertools
import math

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler

from tfsqueeze.search.studies.coordinates import evenly, setting_key
from tfsqueeze.search.studies.trial_states import counted_trials

# Values of a range that has no steps, or more of them.
GRID_POINTS = 5


class GridSampler(BaseSampler):
    """Proposes the points of a grid that no trial has yet.

    Unlike Optuna's, it needs no memory but the trials' own parameters, so that retried and discarded trials
    neither lose points nor repeat them.

    Args:
        distributions: by parameter; ranges count with at most five evenly spread values.
        seed: of the order; the same for all workers of a study.
    """

    def __init__(self, distributions: dict[str, BaseDistribution], seed: int):
        self._distributions = distributions
        self._points = grid(distributions)
        np.random.default_rng(seed).shuffle(self._points)
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study, trial):
        return self._distributions

    def sample_relative(self, study, trial, search_space):
        return first_untried(study, trial, self._distributions, self._points) or {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def grid(distributions: dict[str, BaseDistribution], points: int = GRID_POINTS) -> list[dict]:
    """All points of the grid, the last parameter changing fastest."""
    axes = [evenly(distribution, points) for distribution in distributions.values()]
    return [dict(zip(distributions, values, strict=True)) for values in itertools.product(*axes)]


def grid_size(distributions: dict[str, BaseDistribution], points: int = GRID_POINTS) -> int:
    """Number of points of the grid."""
    return math.prod(len(evenly(distribution, points)) for distribution in distributions.values())


def untried(distributions: dict[str, BaseDistribution], tried: set[tuple]) -> list[dict]:
    """Settings of a finite space that are not among those tried."""
    points = grid(distributions, points=max_values(distributions))
    return [point for point in points if setting_key(distributions, point) not in tried]


def max_values(distributions: dict[str, BaseDistribution]) -> int:
    """The most values any range of a finite space has."""
    ranges = [distribution for distribution in distributions.values() if hasattr(distribution, "step")]
    return max((round((r.high - r.low) / (r.step or 1)) + 1 for r in ranges), default=1)


def first_untried(study, trial, distributions, points: list[dict]) -> dict | None:
    """The first of `points` that no other trial has, leaving one for each trial that is choosing just now.

    Workers that choose at the same moment do not see each other's choice. The trials with lower numbers
    that have no parameters yet are those others: each is left one point.
    """
    tried, choosing = set(), 0
    for other in counted_trials(study, as_asked=True):
        if set(distributions) <= set(other.params):
            tried.add(setting_key(distributions, other.params))
        elif other.number < trial.number:
            choosing += 1
    left = [point for point in points if setting_key(distributions, point) not in tried]
    return left[min(choosing, len(left) - 1)] if left else None
