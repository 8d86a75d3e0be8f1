"""Which trials of a study count, which were lost with their worker, and how these are tried again."""

import warnings

import optuna
from optuna.trial import FrozenTrial, TrialState

from tfsqueeze.search.workers import is_abandoned

# A trial whose workers died as often as this after the first time probably kills them.
MAX_RETRIES = 2
KILLS = "kills"
ERROR = "error"
PARAMETERS = "parameters"


def is_counted(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for: not one that was lost or discarded."""
    is_over = ERROR in trial.user_attrs or trial.system_attrs.get(KILLS, 0) >= MAX_RETRIES
    return trial.state != TrialState.FAIL or is_over


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count, by rising number."""
    trials = study.get_trials(deepcopy=False)
    return sorted((trial for trial in trials if is_counted(trial)), key=lambda trial: trial.number)


def retry_lost(study: optuna.Study) -> None:
    """Queues trials again whose worker is gone: dead on this machine, or silent for too long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_abandoned(trial):
            give_back(study, trial._trial_id, kills=1)


def give_back(study: optuna.Study, trial_id: int, *, kills: int = 0) -> None:
    """Ends a running trial as lost and queues it again, unless another worker has done so.

    Args:
        study: whose trial it is.
        trial_id: of the trial in the storage.
        kills: 1 if its worker died of something; 0 if it was interrupted.
    """
    try:
        is_ended = study._storage.set_trial_state_values(trial_id, state=TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        return
    if is_ended:
        _queue(study, study._storage.get_trial(trial_id), kills)


def requeue_stale(study: optuna.Study, trial: FrozenTrial) -> None:
    """What Optuna calls with a trial it has ended because its worker was silent for too long."""
    _queue(study, trial, kills=1)


def _queue(study, trial, kills: int) -> None:
    if is_counted(trial):
        return
    # A worker may die while it writes the parameters: half of them are of no use.
    is_whole = set(study.user_attrs.get(PARAMETERS, trial.params)) <= set(trial.params)
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params if is_whole else {},
            distributions=trial.distributions if is_whole else {},
            user_attrs=trial.user_attrs,
            system_attrs={**trial.system_attrs, KILLS: trial.system_attrs.get(KILLS, 0) + kills},
        )
    )
