"""One trial as the searched function sees it, and as it is listed afterwards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tfsqueeze.search.studies.space import Space
from tfsqueeze.search.studies.trial_states import ERROR
from tfsqueeze.search.studies.workers import WORKER

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class StopTrial(optuna.TrialPruned):
    """Raised by `Trial.report` where going on is not worth it; let it pass through."""


class Trial:
    """One setting under trial.

    Attributes:
        number: of the trial in its study, from 0.
        parameters: the values to try, by name.
        seed: for the trial's own randomness, the same when it is repeated.
    """

    def __init__(self, trial: optuna.Trial, space: Space, seed: int):
        self._trial = trial
        self.number = trial.number
        stored = {name: _suggested(trial, name, one) for name, one in space.distributions.items()}
        self.parameters = space.decode(stored)
        self.seed = seed

    def report(self, step: int, value: float) -> None:
        """Tells how the trial does so far, in the unit of its score.

        Args:
            step: how far it is, such as the number of epochs trained, from 0; rising.
            value: the score now.

        Raises:
            StopTrial: if the trial does so badly at this step that the study stops it. Of several objectives
                nothing is stopped.
        """
        if len(self._trial.study.directions) > 1:
            return
        self._trial.report(float(value), step)
        if math.isnan(value):
            raise StopTrial("the score is not a number")
        if self._trial.should_prune():
            raise StopTrial(f"stopped early at step {step}")

    def note(self, name: str, value) -> None:
        """Keeps something that JSON can hold with the trial, such as the size of its file."""
        self._trial.set_user_attr(name, value)


class UnusableResult(TypeError):
    """The searched function returns what no trial of it can be scored by: the search ends at once."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study.

    Attributes:
        number: from 0, in the order of the beginning.
        state: "complete", "stopped early", "failed", "running" or "waiting".
        parameters: the values tried, by name.
        labels: the same, named options by their names.
        scores: one per objective; of a trial stopped early the last one reported; else empty.
        seconds: it took; None if it has not ended.
        notes: what the function noted.
        error: why it failed, or "".
    """

    number: int
    state: str
    parameters: dict[str, Any]
    labels: dict[str, Any] = field(default_factory=dict)
    scores: tuple[float, ...] = ()
    seconds: float | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def score(self) -> float | None:
        """The score of the first objective."""
        return self.scores[0] if self.scores else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with named options by their names."""
        return {name: value for name, value in vars(self).items() if name != "parameters"}

    @classmethod
    def of(cls, row: dict[str, Any]) -> "TrialRecord":
        """The trial of `to_dict`; parameters are the names of options."""
        return cls(**{**row, "parameters": row["labels"], "scores": tuple(row["scores"])})


def record_of(trial: FrozenTrial, space: Space) -> TrialRecord:
    """A stored trial as it is listed."""
    is_whole = set(space.parameters) <= set(trial.params)
    notes = {name: value for name, value in trial.user_attrs.items() if name not in (WORKER, ERROR)}
    reported = trial.intermediate_values
    scores = trial.values or ([reported[max(reported)]] if reported else [])
    return TrialRecord(
        number=trial.number,
        state=STATES[trial.state],
        parameters=space.decode(trial.params) if is_whole else {},
        labels={name: trial.params[name] for name in space.parameters} if is_whole else {},
        scores=tuple(scores) if all(map(math.isfinite, scores)) else (),
        seconds=trial.duration.total_seconds() if trial.duration else None,
        notes=notes,
        error=trial.user_attrs.get(ERROR, ""),
    )


def checked_scores(result, objectives: int) -> list[float]:
    """What the searched function returned, as one finite number per objective.

    Raises:
        UnusableResult: if it is something else.
        StopTrial: if a score is not finite, as after a training that diverged.
    """
    listed = list(result) if isinstance(result, Sequence) and not isinstance(result, str) else [result]
    are_numbers = all(hasattr(value, "__float__") and not isinstance(value, str) for value in listed)
    if not are_numbers or len(listed) != objectives:
        expected = "one number" if objectives == 1 else f"{objectives} numbers"
        raise UnusableResult(f"The searched function must return {expected}. Received: {result!r}.")
    scores = [float(value) for value in listed]
    if not all(map(math.isfinite, scores)):
        raise StopTrial(f"the score is {', '.join(map(str, scores))}")
    return scores


def _suggested(trial: optuna.Trial, name: str, distribution) -> Any:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    is_whole = isinstance(distribution, optuna.distributions.IntDistribution)
    suggest = trial.suggest_int if is_whole else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
