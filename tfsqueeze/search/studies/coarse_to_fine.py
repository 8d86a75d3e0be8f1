"""A coarse grid over the whole space, then finer and finer grids around the best setting found."""

import math

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from tfsqueeze.search.studies.coordinates import evenly, from_place, is_choice, to_place
from tfsqueeze.search.studies.grid import first_untried
from tfsqueeze.search.studies.trial_states import counted_trials

LEVEL = "coarse_to_fine"
# Settings per level; of a larger grid as many are taken, each value of each parameter equally often.
SETTINGS = 24
COARSE_PLACES = (1 / 6, 1 / 2, 5 / 6)
COARSE_SPACING = 1 / 3
FINEST_LEVEL = 12


class CoarseToFineSampler(BaseSampler):
    """Proposes grids whose spacing is halved from level to level, around the best trial so far.

    The first level has three places of every range and all options of every choice. The next ones keep the
    options of the best trial, but try each other option once at its centre. Which level a trial belongs to,
    and around what, is kept with the trial: workers and resumed studies go on with the same grid.

    Args:
        distributions: by parameter.
        study_seed: of the settings taken from large grids; the same for all workers of a study.
        trial_seed: of what is proposed when the finest grid is exhausted.
    """

    def __init__(self, distributions: dict[str, BaseDistribution], study_seed: int, trial_seed: int):
        self._distributions, self._seed = distributions, study_seed
        self._random = RandomSampler(seed=trial_seed)

    def infer_relative_search_space(self, study, trial):
        return self._distributions

    def sample_relative(self, study, trial, search_space):
        level, centre = _under_way(counted_trials(study, as_asked=True))
        while level <= FINEST_LEVEL:
            found = first_untried(study, trial, self._distributions, self._settings(level, centre))
            if found is not None:
                note = {"level": level, "centre": centre}
                study._storage.set_trial_system_attr(trial._trial_id, LEVEL, note)
                return found
            level += 1
            centre = _best(study, level)
            if centre is None:
                break
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _settings(self, level: int, centre: dict | None) -> list[dict]:
        generator = np.random.default_rng([self._seed, level])
        if centre is None:
            axes = {name: _coarse(distribution) for name, distribution in self._distributions.items()}
            return _spread(axes, generator)
        spacing = COARSE_SPACING / 2**level
        axes = {
            name: _around(distribution, centre[name], spacing)
            for name, distribution in self._distributions.items()
        }
        switched = [
            {**centre, name: option}
            for name, distribution in self._distributions.items()
            if is_choice(distribution)
            for option in distribution.choices
        ]
        return _spread(axes, generator) + switched


def _under_way(trials) -> tuple[int, dict | None]:
    """The finest level that was begun, and its centre; the first trial of a level says around what it is."""
    notes = [trial.system_attrs[LEVEL] for trial in trials if LEVEL in trial.system_attrs]
    finest = max((note["level"] for note in notes), default=0)
    return finest, next((note["centre"] for note in notes if note["level"] == finest), None)


def _best(study: optuna.Study, level: int) -> dict | None:
    """Parameters of the best trial; of several objectives, the levels go through the Pareto front in turn."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return None
    best = sorted(study.best_trials, key=lambda trial: trial.number)
    return dict(best[level % len(best)].params)


def _coarse(distribution) -> list:
    few = evenly(distribution, len(COARSE_PLACES))
    if is_choice(distribution) or len(few) < len(COARSE_PLACES):
        return few
    return list(dict.fromkeys(from_place(distribution, place) for place in COARSE_PLACES))


def _around(distribution, value, spacing: float) -> list:
    if is_choice(distribution):
        return [value]
    place = to_place(distribution, value)
    places = (place - spacing, place, place + spacing)
    return list(dict.fromkeys(from_place(distribution, place) for place in places))


def _spread(axes: dict[str, list], generator) -> list[dict]:
    """Points of a grid in random order: all of a small one, of a large one `SETTINGS`."""
    names, values = list(axes), list(axes.values())
    count = math.prod(len(axis) for axis in values)
    if count <= SETTINGS:
        picked = np.stack(np.unravel_index(generator.permutation(count), [len(axis) for axis in values]), 1)
    else:
        picked = np.stack([_balanced(len(axis), generator) for axis in values], 1)
    return [
        {name: axis[index] for name, axis, index in zip(names, values, row, strict=True)} for row in picked
    ]


def _balanced(options: int, generator) -> np.ndarray:
    """`SETTINGS` random indices below `options`, each equally often (as in a Latin hypercube)."""
    return generator.permutation(np.arange(max(SETTINGS, options)) % options)[:SETTINGS]
