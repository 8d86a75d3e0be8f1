"""Which trials of a study count, which were lost with their worker, and how these are tried again."""

import contextlib
import warnings
from collections.abc import Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState

from tfsqueeze.search.studies.workers import is_abandoned

# A trial whose workers died as often as this after the first time probably kills them.
MAX_RETRIES = 2
KILLS = "kills"
FIRST_NUMBER = "first_number"
ERROR = "error"
PARAMETERS = "parameters"


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for: not one that was lost or discarded."""
    is_over = ERROR in trial.user_attrs or trial.system_attrs.get(KILLS, 0) >= MAX_RETRIES
    return trial.state != TrialState.FAIL or is_over


def counted_trials(study: optuna.Study, *, as_asked: bool = False) -> list[FrozenTrial]:
    """The trials that count, by rising number.

    Args:
        study: whose trials.
        as_asked: as they were when this thread was given the trial it works on, which spares reading the
            storage once more.
    """
    trials = study._get_trials(deepcopy=False, use_cache=as_asked)
    return sorted((trial for trial in trials if is_counted(trial)), key=lambda trial: trial.number)


def retry_lost(study: optuna.Study, trials: Iterable[FrozenTrial]) -> None:
    """Queues those trials again whose worker is gone: dead on this machine, or silent for too long."""
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    if not running:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    for trial in running:
        if is_abandoned(trial):
            give_back(study, trial._trial_id)


def give_back(study: optuna.Study, trial_id: int) -> None:
    """Ends a trial that its worker lost and queues it again, unless another worker has done so."""
    try:
        is_ended = study._storage.set_trial_state_values(trial_id, state=TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        return
    if is_ended:
        requeue_stale(study, study._storage.get_trial(trial_id))


def put_back(study: optuna.Study, trial_id: int) -> None:
    """Lets a trial that this worker was interrupted in wait as if it had not begun."""
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        study._storage.set_trial_state_values(trial_id, state=TrialState.WAITING)


def first_number(trial: FrozenTrial) -> int:
    """The number a trial had when it was first tried."""
    return trial.system_attrs.get(FIRST_NUMBER, trial.number)


def requeue_stale(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queues a trial again that was ended because its worker is gone; Optuna calls it after long silence."""
    if is_counted(trial):
        return
    # A worker may die while it writes the parameters: half of them are of no use.
    is_whole = set(study.user_attrs.get(PARAMETERS, trial.params)) <= set(trial.params)
    history = {KILLS: trial.system_attrs.get(KILLS, 0) + 1, FIRST_NUMBER: first_number(trial)}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params if is_whole else {},
            distributions=trial.distributions if is_whole else {},
            user_attrs=trial.user_attrs,
            system_attrs={**trial.system_attrs, **history},
        )
    )
