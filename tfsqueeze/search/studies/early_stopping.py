"""When a trial that reports how it does is not worth going on with."""

import optuna

from tfsqueeze.core.checks import check_choice

# Trials that run to their end before any is compared with them.
FIRST_TRIALS = 5

PRUNERS = {
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=1),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
}


def make_pruner(name: "str | optuna.pruners.BasePruner | None") -> optuna.pruners.BasePruner:
    """What decides, at each report, whether a trial is stopped.

    Args:
        name: "median" stops trials that are worse than the median of the others at the same step, from the
            second step and the sixth trial on; "halving" lets at steps 1, 3, 9, ... the best third go on
            (asynchronous successive halving); None lets all run to their end; or a pruner of Optuna's.

    Raises:
        ValueError: if the name is unknown.
    """
    if name is None:
        return optuna.pruners.NopPruner()
    if isinstance(name, optuna.pruners.BasePruner):
        return name
    return PRUNERS[check_choice("early_stopping", name, PRUNERS)]()
