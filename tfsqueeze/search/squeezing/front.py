"""The cheapest model that is good enough, found along a front of ever cheaper candidates by bisection."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler

from tfsqueeze.search.pareto import pareto_front
from tfsqueeze.search.studies.workers import mark_worker

CANDIDATE = "candidate"
LARGEST_NUMBER = 9999


@dataclass(frozen=True)
class Point:
    """A candidate: its number, its cost (lower is better), its score (higher is better)."""

    number: int
    cost: float
    score: float


def front_of(points: Iterable[Point]) -> list[Point]:
    """The Pareto front, dearest first."""
    return pareto_front(points, cost=lambda one: one.cost, loss=lambda one: -one.score)[::-1]


def next_on_front(front: Sequence[Point], verdicts: Mapping[int, bool | None]) -> int | None:
    """The number of the candidate to try next, or None if there is none left that could be cheaper.

    Between the cheapest that is good enough and the dearest that is not, the middle one comes next. Once
    these are neighbours, the cheaper ones follow, nearest first: being good enough is not quite monotone.

    Args:
        front: dearest first.
        verdicts: whether a candidate is good enough, by number; None while it is being tried.

    Example:
        >>> next_on_front(points, {})            # of numbers 0 to 4, dearest first
        2
    """
    numbers = [point.number for point in front]
    good = [place for place, number in enumerate(numbers) if verdicts.get(number)]
    best = max(good, default=-1)
    bad = [p for p, number in enumerate(numbers) if p > best and number in verdicts and not verdicts[number]]
    end = min(bad, default=len(numbers))
    between = [place for place in range(best + 1, end) if numbers[place] not in verdicts]
    if between:
        return numbers[between[len(between) // 2]]
    cheaper = [place for place in range(end, len(numbers)) if numbers[place] not in verdicts]
    return numbers[cheaper[0]] if cheaper else None


class FrontSampler(BaseSampler):
    """Proposes the candidates of a front one after the other, see `next_on_front`.

    Args:
        front: the candidates, dearest first.
        verdict: the name of the trials' note that tells whether a candidate is good enough.
    """

    def __init__(self, front: Sequence[Point], verdict: str):
        self._front, self._verdict = front, verdict

    def before_trial(self, study, trial):
        mark_worker(study, trial)

    def infer_relative_search_space(self, study, trial):
        return {CANDIDATE: IntDistribution(0, LARGEST_NUMBER)}

    def sample_relative(self, study, trial, search_space):
        if CANDIDATE in trial.params:
            # A trial that was interrupted keeps its candidate.
            return {}
        number = self.propose(study, but=trial.number)
        return {CANDIDATE: self._front[0].number if number is None else number}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self.sample_relative(study, trial, {})[param_name]

    def propose(self, study, but: int | None = None) -> int | None:
        """The number of the next candidate; trials under way count as tried."""
        others = [one for one in study.get_trials(deepcopy=False) if one.number != but]
        return next_on_front(
            self._front,
            {
                one.params[CANDIDATE]: one.user_attrs.get(self._verdict)
                for one in others
                if CANDIDATE in one.params
            },
        )


class StartingPoints(BaseSampler):
    """Proposes given settings first, then what another sampler proposes.

    Args:
        points: settings by trial number from 0.
        sampler: what comes after them.
    """

    def __init__(self, points: Sequence[Mapping], sampler: BaseSampler):
        self._points, self._sampler = points, sampler

    def before_trial(self, study, trial):
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study, trial):
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study, trial, search_space):
        if trial.number < len(self._points) and not trial.params:
            return dict(self._points[trial.number])
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study, trial, state, values):
        self._sampler.after_trial(study, trial, state, values)
