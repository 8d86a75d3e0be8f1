"""Studies: trials of the settings of a space, kept so that nothing is lost, by any number of workers.

What proposes (samplers.py) is separate from what runs (a function of the caller's) and from what keeps
(storage.py). A search is built on it like this:

    space = Space({"sparsity": Range(0.5, 0.95), "bits": [4, 8]})

    def objective(trial: Trial) -> float:
        small = compress(model, **trial.parameters, seed=trial.seed)
        for epoch in range(5):
            train(small)
            trial.report(epoch, accuracy(small))      # may raise StopTrial: let it pass
        trial.note("bytes", size(small))              # kept with the trial, in `TrialRecord.notes`
        return accuracy(small)                        # or one number per direction

    study = Study("squeeze", space, directions=("maximize",), output="squeezed",
                  settings={"model": weights_digest(model)})
    study.run(objective, trials=40, time_budget=600)
    study.best, study.front, study.trials             # TrialRecords

The same call in another process, or on another machine with the same `storage` URL, joins; after an
interruption it goes on. `trials` is the total over all of them.
"""

import contextlib
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import optuna
from optuna.trial import TrialState

from tfsqueeze.core.checks import check_choice, check_positive
from tfsqueeze.core.resuming import differences
from tfsqueeze.search.studies.early_stopping import make_pruner
from tfsqueeze.search.studies.progress import StudyProgress
from tfsqueeze.search.studies.samplers import make_sampler, seed_of, settings_count
from tfsqueeze.search.studies.space import Space
from tfsqueeze.search.studies.storage import open_storage, readable, storage_errors, storage_url, unreachable
from tfsqueeze.search.studies.trial import Trial, TrialRecord, UnusableResult, checked_scores, record_of
from tfsqueeze.search.studies.trial_states import (
    ERROR,
    PARAMETERS,
    counted_trials,
    first_number,
    put_back,
    retry_lost,
)
from tfsqueeze.search.studies.workers import signs_of_life

DIRECTIONS = ("maximize", "minimize")
SETTINGS = "settings"
# Failures in a row of one worker after which something other than the setting is wrong.
MAX_FAILURES = 3
POLL_SECONDS = 0.5
# How often, between trials, those of lost workers are looked for.
LOOK_SECONDS = 5


class Study:
    """Trials of one search.

    Args:
        name: of the study in its storage.
        space: a `Space`, or what makes one.
        directions: "maximize" or "minimize" for each score the function returns.
        sampler: what proposes, see `make_sampler`.
        storage: a URL, a file or one of Optuna's storages that keeps the trials, see `open_storage`; None
            for the file `study.db` in `output`.
        output: a folder; None with `storage=None` keeps the trials in memory.
        seed: of everything random; the same for all workers.
        settings: what else the scores depend on, as text by name, such as digests of model and data. A study
            that was begun with others is refused.
        early_stopping: see `make_pruner`.
        heartbeat: seconds between two signs of life of a worker.
        grace: seconds of silence after which its trial is given to others.

    Raises:
        ValueError: if an argument is out of range, the storage cannot be reached, or its study of that name
            is another one.
    """

    def __init__(
        self,
        name: str,
        space: Space | Mapping,
        *,
        directions: Sequence[str] = ("maximize",),
        sampler="tpe",
        storage=None,
        output=None,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        early_stopping: str | None = None,
        **heartbeats,
    ):
        self.name, self.space, self.seed = name, Space(space), seed
        self.directions = [check_choice("directions", direction, DIRECTIONS) for direction in directions]
        objectives = len(self.directions)
        proposing = make_sampler(sampler, self.space, seed=seed, objectives=objectives)
        pruner = make_pruner(early_stopping)
        self._limit = settings_count(sampler, self.space)
        self._url = None if (storage is None and output is None) else storage_url(storage, output)
        opened = open_storage(storage, output, **heartbeats)
        with self._reaching(), _quiet():
            self._study = optuna.create_study(
                study_name=name,
                storage=opened,
                sampler=proposing,
                pruner=pruner,
                directions=self.directions,
                load_if_exists=True,
            )
            present = {"space": self.space.to_text(), "directions": " ".join(self.directions)}
            self._check_settings({**present, **(settings or {})})

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials that count, in the order of their beginning."""
        with self._reaching():
            return [record_of(trial, self.space) for trial in counted_trials(self._study)]

    @property
    def front(self) -> list[TrialRecord]:
        """The complete trials that no other beats in every score; of one score, the best."""
        with self._reaching():
            if not self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
                return []
            best = [self._study.best_trial] if len(self.directions) == 1 else self._study.best_trials
        return [record_of(trial, self.space) for trial in best]

    @property
    def best(self) -> TrialRecord | None:
        """The trial with the best score, of several scores by the first one; None if none is complete."""
        return self.best_of(self.trials)

    def best_of(self, trials: Sequence[TrialRecord]) -> TrialRecord | None:
        """As `best`, of some trials."""
        sign = 1 if self.directions[0] == "maximize" else -1
        complete = [trial for trial in trials if trial.state == "complete"]
        return max(complete, key=lambda trial: sign * trial.scores[0], default=None)

    def run(
        self,
        objective: Callable[[Trial], float | Sequence[float]],
        *,
        trials: int | None = None,
        time_budget: float | None = None,
        progress: bool = True,
    ) -> None:
        """Runs trials until there are as many as asked for, those of other workers and earlier runs included.

        A trial whose worker dies or is interrupted is run again. One whose function raises is kept as failed;
        three in a row raise. One whose score is not finite counts as stopped early. At the end, the trials of
        other workers are waited for.

        Args:
            objective: gets a `Trial` and returns its score, or one per direction.
            trials: how many in total; None for as many as the time allows.
            time_budget: seconds after which no trial is begun any more; None for no limit.
            progress: whether to show trials, best score and time left.

        Raises:
            ValueError: if neither limit is given, or the storage cannot be reached any more.
            TypeError: if the function returns no score.
            RuntimeError: if three trials in a row fail.
        """
        limit = min(self._limit, math.inf if trials is None else check_positive("trials", trials))
        if time_budget is not None:
            check_positive("time_budget", time_budget)
        elif limit == math.inf:
            raise ValueError(
                "Give `trials` or `time_budget` (seconds): a space with ranges without steps has no end. "
                "Received: neither."
            )
        end = time.monotonic() + (math.inf if time_budget is None else time_budget)
        errors: list[Exception] = []
        looked = -math.inf
        with self._reaching(), _quiet(), StudyProgress(self, limit, time_budget, progress) as shown:
            while time.monotonic() < end and len(errors) < MAX_FAILURES:
                counted = counted_trials(self._study)
                if time.monotonic() - looked > LOOK_SECONDS:
                    retry_lost(self._study, counted)
                    looked = time.monotonic()
                states = {trial.state for trial in counted}
                if len(counted) < limit or TrialState.WAITING in states:
                    self._run_one(objective, limit, errors)
                elif TrialState.RUNNING in states:
                    time.sleep(POLL_SECONDS)
                else:
                    break
                shown.update()
        if len(errors) == MAX_FAILURES:
            last = [trial for trial in self.trials if trial.error][-1]
            raise RuntimeError(
                f"{MAX_FAILURES} trials in a row failed, the last one with parameters {last.parameters}: "
                f"{type(errors[-1]).__name__}: {errors[-1]}"
            ) from errors[-1]

    def _run_one(self, objective, limit: float, errors: list[Exception]) -> None:
        asked = self._study.ask()
        counted = counted_trials(self._study, as_asked=True)
        if sum(trial.number < asked.number for trial in counted) >= limit:
            # Another worker began the last trial in the same moment.
            self._study.tell(asked, state=TrialState.FAIL, skip_if_finished=True)
            return
        numbers = {trial.number: first_number(trial) for trial in counted}
        first = numbers.get(asked.number, asked.number)
        values, state = None, TrialState.COMPLETE
        try:
            with signs_of_life(self._study, asked._trial_id):
                trial = Trial(asked, self.space, trial_seed(self.seed, first))
                values = checked_scores(objective(trial), len(self.directions))
            errors.clear()
        except optuna.exceptions.UpdateFinishedTrialError:
            return
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except UnusableResult:
            self._study.tell(asked, state=TrialState.FAIL, skip_if_finished=True)
            raise
        except Exception as error:
            if isinstance(error, storage_errors()):
                raise
            state = TrialState.FAIL
            asked.set_user_attr(ERROR, f"{type(error).__name__}: {error}"[:1000])
            errors.append(error)
        except BaseException:
            put_back(self._study, asked._trial_id)
            raise
        # A worker that slept too long finds its trial given to another one: that one's result counts.
        self._study.tell(asked, values, state, skip_if_finished=True)

    def _check_settings(self, present: Mapping[str, str]) -> None:
        stored = self._study.user_attrs.get(SETTINGS)
        if stored is None:
            self._study.set_user_attr(PARAMETERS, list(self.space.parameters))
            self._study.set_user_attr(SETTINGS, dict(present))
        else:
            self._check_same(stored, present)

    def _check_same(self, stored: Mapping[str, str], present: Mapping[str, str]) -> None:
        if details := differences(stored, present):
            place = "memory" if self._url is None else readable(self._url)
            raise ValueError(
                f"The study {self.name!r} in {place} is that of another model, other data or another space. "
                f"Its scores cannot be compared. Give another `name` or `output`. What differs: {details}."
            )

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turns a storage that does not answer any more into the one error that says so."""
        try:
            yield
        except storage_errors() as error:
            raise unreachable(self._url, error) from error


def trial_seed(seed: int, number: int) -> int:
    """The seed of a trial's own randomness."""
    return seed_of(seed, number, "trial")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Optuna from telling of every trial: progress does."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # The signs of life are our own, see workers.py.
            warnings.filterwarnings("ignore", "Heartbeat of storage")
            yield
    finally:
        optuna.logging.set_verbosity(before)
