"""Samplers by name: what proposes the settings of the next trial."""

import hashlib
import importlib.util
import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from tfsqueeze.core.checks import check_choice
from tfsqueeze.search.studies.coarse_to_fine import CoarseToFineSampler
from tfsqueeze.search.studies.coordinates import setting_key
from tfsqueeze.search.studies.grid import GRID_POINTS, GridSampler, grid_size, untried
from tfsqueeze.search.studies.policy_gradient import PolicyGradientSampler
from tfsqueeze.search.studies.space import Space
from tfsqueeze.search.studies.trial_states import counted_trials
from tfsqueeze.search.studies.workers import mark_worker

# Spaces up to this size are listed to find a setting that was not tried.
LISTED_SETTINGS = 20_000
# Searches of models afford a hundred trials rather than thousands: generations must be small.
POPULATION = 20


def _random(space, study_seed, trial_seed):
    return optuna.samplers.RandomSampler(seed=trial_seed)


def _tpe(space, study_seed, trial_seed):
    return optuna.samplers.TPESampler(seed=trial_seed, multivariate=True, constant_liar=True)


def _gp(space, study_seed, trial_seed):
    if importlib.util.find_spec("torch") is None:
        raise ValueError(
            "sampler='gp' needs PyTorch, with which Optuna fits Gaussian processes, and it is not installed. "
            "`pip install torch` (the CPU version suffices), or take sampler='tpe', which needs nothing more."
        )
    return optuna.samplers.GPSampler(seed=trial_seed)


def _nsga2(space, study_seed, trial_seed):
    return optuna.samplers.NSGAIISampler(seed=trial_seed, population_size=POPULATION)


def _grid(space, study_seed, trial_seed):
    return GridSampler(space.distributions, study_seed)


def _coarse_to_fine(space, study_seed, trial_seed):
    return CoarseToFineSampler(space.distributions, study_seed, trial_seed)


def _policy_gradient(space, study_seed, trial_seed):
    return PolicyGradientSampler(space.distributions, trial_seed)


SAMPLERS: dict[str, Callable[[Space, int, int], BaseSampler]] = {
    "grid": _grid,
    "random": _random,
    "tpe": _tpe,
    "gp": _gp,
    "nsga2": _nsga2,
    "coarse_to_fine": _coarse_to_fine,
    "policy_gradient": _policy_gradient,
}
# Samplers that cannot weigh several scores against each other.
OF_ONE_OBJECTIVE = ("policy_gradient",)


class SeededByTrial(BaseSampler):
    """Asks a sampler that is made anew for every trial, seeded by the study's seed and the trial's number.

    So the proposal of a trial depends on its number and the trials before it alone: a study that is resumed
    does not begin its random numbers again, and workers with the same seed do not propose the same. It also
    sees to it that a setting of a finite space is not proposed twice.

    Args:
        make: gives the sampler for the seeds of the study and of the trial.
        space: what is searched.
        seed: of the study.
    """

    def __init__(self, make: Callable[[int, int], BaseSampler], space: Space, seed: int):
        self._make, self._space, self._seed = make, space, seed
        self._sampler = make(seed, seed)

    def before_trial(self, study, trial):
        mark_worker(study, trial)
        self._sampler = self._make(self._seed, seed_of(self._seed, trial.number))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study, trial):
        return self._space.distributions

    def sample_relative(self, study, trial, search_space):
        if set(search_space) <= set(trial.params):
            return {}
        inner = self._sampler.infer_relative_search_space(study, trial)
        proposal = self._sampler.sample_relative(study, trial, inner)
        for name, distribution in search_space.items():
            if name not in proposal:
                proposal[name] = self._sampler.sample_independent(study, trial, name, distribution)
        return self._unless_tried(study, trial, proposal)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study, trial, state, values):
        self._sampler.after_trial(study, trial, state, values)

    def _unless_tried(self, study, trial, proposal):
        distributions = self._space.distributions
        if self._space.size > LISTED_SETTINGS:
            return proposal
        tried = {
            setting_key(distributions, other.params)
            for other in counted_trials(study, as_asked=True)
            if other.number != trial.number and set(distributions) <= set(other.params)
        }
        if setting_key(distributions, proposal) not in tried:
            return proposal
        left = untried(distributions, tried)
        generator = np.random.default_rng(seed_of(self._seed, trial.number))
        return left[generator.integers(len(left))] if left else proposal


def make_sampler(name: str | BaseSampler, space: Space, *, seed: int = 0, objectives: int = 1) -> BaseSampler:
    """A sampler by name, the same for every worker and after every interruption.

    Args:
        name: one of "grid" (ranges without steps at five values each), "random", "tpe" (Bayesian), "gp"
            (Gaussian process; needs PyTorch), "nsga2" (evolution), "coarse_to_fine" (a coarse grid, then
            finer ones around the best), "policy_gradient" (REINFORCE; one objective); or a sampler of
            Optuna's.
        space: what is searched.
        seed: of everything random.
        objectives: how many scores a trial has.

    Raises:
        ValueError: if the name is unknown, or the sampler cannot do what is asked.
    """
    if isinstance(name, BaseSampler):
        return SeededByTrial(lambda *seeds: name, space, seed)
    check_choice("sampler", name, SAMPLERS)
    if name in OF_ONE_OBJECTIVE and objectives > 1:
        others = ", ".join(repr(other) for other in SAMPLERS if other not in OF_ONE_OBJECTIVE)
        raise ValueError(
            f"sampler={name!r} follows the gradient of one score. Received: {objectives} objectives. Take "
            f"sampler='nsga2', or another that searches several at once: {others}. Or score their weighted "
            "sum, and give one direction."
        )
    if name == "grid" and grid_size(space.distributions) > LISTED_SETTINGS:
        raise ValueError(
            f"sampler='grid' lists at most {LISTED_SETTINGS:,} settings. Received: a space with "
            f"{grid_size(space.distributions):,} (ranges without steps count as {GRID_POINTS}). Give fewer "
            "options, or take sampler='coarse_to_fine'."
        )
    return SeededByTrial(lambda *seeds: _quietly(SAMPLERS[name], space, *seeds), space, seed)


def settings_count(name: str | BaseSampler, space: Space) -> float:
    """How many different settings a sampler can propose; infinite if there is no end to them."""
    return grid_size(space.distributions) if name == "grid" else space.size


def _quietly(make, *arguments) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return make(*arguments)


def seed_of(seed: int, number: int, purpose: str = "sampler") -> int:
    """A seed that differs from trial to trial and purpose to purpose, and is the same whenever asked for."""
    digest = hashlib.sha256(f"{seed} {number} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little") % (2**31)
