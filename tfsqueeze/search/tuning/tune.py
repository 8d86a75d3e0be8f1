"""`tune`: hyper-parameters of whatever a function trains and scores."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.core.resuming import arrays_digest, setting_text, weights_digest
from tfsqueeze.search.studies.space import Space
from tfsqueeze.search.studies.study import Study
from tfsqueeze.search.studies.trial import Trial
from tfsqueeze.search.tuning.metrics import Metrics
from tfsqueeze.search.tuning.report import Report
from tfsqueeze.search.tuning.result import Tuning


def tune(
    fit_function: Callable[..., Any],
    space: Space | Mapping[str, Any],
    *,
    metric: str | Sequence[str] | None = None,
    direction: str | Sequence[str] | None = None,
    sampler: str = "tpe",
    trials: int | None = None,
    time_budget: float | None = None,
    storage: str | None = None,
    output=None,
    name: str = "tune",
    seed: int = 0,
    early_stopping: str | None = "median",
    depends_on: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Tuning:
    """Searches the settings with which a function of yours scores best.

    Every trial is kept as it ends. The same call goes on after an interruption, which loses the trial under
    way at most (it is tried again), and adds trials if `trials` is raised. The same call in other processes,
    or on other machines with the same `storage`, joins in: `trials` is the total of all.

    Args:
        fit_function: trains and scores, called as `fit_function(parameters)` or, if it takes two arguments,
            `fit_function(parameters, report)`. `parameters` holds a value of every parameter by name. It
            returns a number, Keras' `History` (the best epoch of `metric` counts), a dict of metrics, or one
            number per metric. `report(step, value)` and the Keras callback `report.callback()` tell how it
            does after each epoch and end bad trials; `report.seed` is a seed for it, with which Keras,
            NumPy and Python are seeded before every call.
        space: for each parameter a `tfs.Range`, a list of options, or a `tfs.Choice`.
        metric: what is scored, such as "val_accuracy"; a list to search several at once. May be None where
            numbers are returned.
        direction: "maximize" or "minimize", one per metric; None where the metric's name tells ("val_loss",
            "val_accuracy", metrics of Keras), and for numbers without a name: "maximize".
        sampler: what proposes: "tpe" (Bayesian, for most searches), "random", "grid" (ranges without steps
            at five values each), "gp" (Gaussian process, for few and slow trials; needs PyTorch), "nsga2"
            (evolution, for several metrics), "coarse_to_fine" (a coarse grid, then finer ones around the
            best), "policy_gradient" (REINFORCE, for one metric).
        trials: how many in total, all workers and earlier calls included. Finite spaces end when every
            setting was tried.
        time_budget: seconds after which this call begins no trial any more.
        storage: a database for workers on several machines ("postgresql+psycopg://user@host/database"), or a
            file; None for `study.db` in `output`.
        output: a folder for the trials and `tuning.json`; processes of one machine may share it. With
            neither `storage` nor `output`, trials are kept in memory and cannot be resumed.
        name: of the study, where a storage holds several.
        seed: of the proposals and the trials; the same for all workers.
        early_stopping: "median" ends trials that report worse than the median of the others at the same
            step, "halving" lets at steps 1, 3, 9, ... the best third go on, None lets all run to their end.
        depends_on: what else the scores depend on, by name: models, arrays or plain values. A study begun
            with others is refused.
        progress: whether to show trials, the best so far and the time left.

    Returns:
        A `Tuning`: `best_parameters` and `best_score` (None if no trial gave a score), `trials`, and for
        several metrics `front`. Print it for a table.

    Raises:
        TypeError: if the function returns no score, or `space` is none.
        ValueError: if a setting is out of range, the storage cannot be reached, its study is that of another
            model, data or space, or neither `trials` nor `time_budget` is given.
        RuntimeError: if three trials in a row raise.

    Example:
        >>> def fit(parameters, report):
        ...     model = build(parameters["width"])
        ...     model.compile(keras.optimizers.Adam(parameters["learning_rate"]), "mse")
        ...     return model.fit(x, y, validation_split=0.2, epochs=10, callbacks=[report.callback()])
        >>> space = {"learning_rate": tfs.Range(1e-4, 1e-1, log=True), "width": [16, 32, 64]}
        >>> found = tfs.tune(fit, space, metric="val_loss", trials=30, output="tuned")
        >>> found.best_parameters
    """
    metrics = Metrics.of(metric, direction)
    takes_report = _takes_report(fit_function)
    study = Study(
        name,
        space,
        directions=metrics.directions,
        sampler=sampler,
        storage=storage,
        output=output,
        seed=seed,
        settings=_settings(fit_function, metrics, depends_on or {}),
        early_stopping=early_stopping,
    )

    def objective(trial: Trial):
        keras.utils.set_random_seed(trial.seed)
        extra = [Report(trial, metrics)] if takes_report else []
        return metrics.scores(fit_function(dict(trial.parameters), *extra))

    study.run(objective, trials=trials, time_budget=time_budget, progress=progress)
    found = Tuning(study.trials, metrics.names, metrics.directions, name)
    if output is not None:
        found.to_json(Path(output, Tuning.FILE_NAME))
    return found


def _takes_report(fit_function) -> bool:
    """Whether the function takes a second argument that has no default value."""
    if not callable(fit_function):
        raise TypeError(
            "`fit_function` must be a function that trains with given parameters and returns a score. "
            f"Received: {type(fit_function)}."
        )
    try:
        parameters = inspect.signature(fit_function).parameters.values()
    except ValueError:
        return False
    needed = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = [one for one in needed if one.default is one.empty or one.name == "report"]
    if not 1 <= len(needed) <= 2 and not any(one.kind == one.VAR_POSITIONAL for one in parameters):
        raise TypeError(
            "`fit_function` must take the parameters, and may take a report: fit(parameters) or "
            f"fit(parameters, report). Received: {inspect.signature(fit_function)}."
        )
    return len(needed) == 2


def _settings(fit_function, metrics: Metrics, depends_on: Mapping[str, Any]) -> dict[str, str]:
    known = {"function": setting_text(fit_function), "metric": " ".join(metrics.names)}
    return {**known, **{name: _identity(value) for name, value in depends_on.items()}}


def _identity(value) -> str:
    """Text that is the same for the same model, data or setting in another run of the program."""
    if isinstance(value, keras.Model):
        return f"{type(value).__name__} {weights_digest(value)}"
    arrays = keras.tree.flatten(value)
    if arrays and all(hasattr(array, "__array__") for array in arrays):
        return f"data {arrays_digest(value)}"
    return setting_text(value)
