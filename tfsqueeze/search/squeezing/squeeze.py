"""`squeeze`: the smallest model within an allowed drop, found automatically."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import check_choice, check_count, check_fraction, check_model, check_positive
from tfsqueeze.core.data import Examples
from tfsqueeze.core.resuming import setting_text
from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.precision.policy import resolve
from tfsqueeze.recipe.folder import model_fingerprint
from tfsqueeze.recipe.run_data import RunData
from tfsqueeze.reporting.report import report
from tfsqueeze.search.squeezing.objectives import Objective
from tfsqueeze.search.squeezing.paired_test import Judge
from tfsqueeze.search.squeezing.repertoire import Repertoire
from tfsqueeze.search.squeezing.result import Squeezed
from tfsqueeze.search.squeezing.sparing import with_sensitive_layers
from tfsqueeze.search.squeezing.stages import Search
from tfsqueeze.search.squeezing.techniques import NAMES
from tfsqueeze.search.squeezing.trial_log import TrialLog
from tfsqueeze.search.squeezing.winner import write_winner
from tfsqueeze.search.squeezing.workshop import Training, Workshop
from tfsqueeze.search.studies.samplers import SAMPLERS
from tfsqueeze.search.studies.storage import open_storage

Metric = str | keras.metrics.Metric | Callable | None
LEARNING_RATE = 1e-3


def squeeze(
    model: keras.Model,
    train: Any,
    validation: Any,
    *,
    max_drop: float = 0.02,
    objective: str | Mapping[str, float] = "size",
    metric: Metric = None,
    techniques: Sequence[str] | None = None,
    sampler: str = "tpe",
    trials: int = 30,
    trainings: int = 8,
    time_budget: float | None = None,
    epochs: int = 9,
    batch_size: int = 64,
    learning_rate: float | None = None,
    precision: str = "float32",
    confidence: float = 0.9,
    calibration: Any = None,
    held_out: Any = None,
    storage: str | None = None,
    strategy: tf.distribute.Strategy | None = None,
    seed: int = 0,
    output="squeezed",
    worker: bool = False,
    log_dir=None,
    progress: bool = True,
) -> Squeezed | None:
    """Finds the smallest version of a model that is still good enough, by combining techniques.

    First come candidates that need no training: blocks and channels removed and repaired, separable and
    low-rank layers, weights pruned, in several formats. Each is a `.tflite` file, run on a growing part of
    the validation data for as long as no cheaper one is clearly better. Along the front of these, from cost
    to score, the cheapest one that is good enough is searched by bisection: each is trained with the
    original as teacher, for a third of the epochs and then all, as long as there is hope. What is good
    enough in float but not as integers is trained quantization-aware from there. The two stages take turns.
    The last word has the file, run by the interpreter on all validation examples, against the file of the
    original.

    Nothing that has ended is done again: the same call goes on after an interruption, which costs the trial
    under way at most; other processes with the same `storage` join in.

    Args:
        model: a trained and compiled model; it is not changed.
        train: training data in any form `model.fit` takes.
        validation: examples with targets, to choose by; they are not trained on.
        max_drop: how far the metric may fall below that of the original's file, in [0, 1): 0.02 is two points
            of accuracy. Of a metric where lower is better, the fraction it may rise by.
        objective: what is to become small: "size" (bytes of the file), "download" (after gzip), "macs",
            "memory" (of activations), "latency" (on this machine), or weights > 0 by these names.
        metric: as in `tfs.report`; of a function `(y_true, y_pred) -> float` higher is better.
        techniques: of "resolution", "depth", "channels", "separable", "low_rank", "pruning", "clustering",
            "sparing" (the others leave sensitive layers alone), "quantization"; None for all that apply to
            the model and serve the objective.
        sampler: what proposes candidates, see `tfs.tune`.
        trials: candidates without training, over all workers, >= 1.
        trainings: most candidates to train, >= 1.
        time_budget: seconds after which no trial is begun any more; None for no limit.
        epochs: most epochs to train a candidate for, >= 1.
        batch_size: examples per training step.
        learning_rate: at the beginning of each training, which lets it fall to 0 along a cosine; None for
            that of the model's optimizer.
        precision: what candidates are trained in before they are quantized, see `tfs.set_mixed_precision`:
            "float32", "bfloat16", "float16", or "auto" for what is fast on this machine.
        confidence: one-sided confidence that the drop is within `max_drop`, in [0.5, 1). Accuracy is judged
            by a paired test of the examples that only one of the two files gets right (McNemar, normal
            approximation), other metrics by a paired bootstrap.
        calibration: typical inputs; by default up to 2,048 examples drawn from `train`.
        held_out: examples with targets that nothing was chosen by, on which the winner is judged as well.
        storage: where trials are kept, see `tfs.tune`; by default in `output`.
        strategy: a `tf.distribute` strategy that candidates are trained by, such as `MirroredStrategy()` for
            all devices of a machine; None for one device.
        seed: of everything random.
        output: folder for the winner (`model.keras`, `model.tflite`, `recipe.yaml`), `report.json` and all
            trials.
        worker: whether this process only helps a search that others have the same `storage` of: it leaves
            the winner to them, and its `output` may be deleted when the search is over.
        log_dir: folder for TensorBoard, each trial a run with its setting, cost and drop; None for none.
        progress: whether to show trials, the best so far and the time left.

    Returns:
        A `Squeezed`: `.model`, `.path`, `.front`, `.report`, `.recipe`. If nothing is good enough, it is the
        best trade found; `is_within` tells. A worker returns None.

    Raises:
        ValueError: if the model is no better than chance, there are too few validation examples to tell
            such a drop, the storage cannot be reached or holds the search of another model or other data, the
            time was over before a candidate was judged, or an option is unknown.
        TypeError: if `model` is no `keras.Model`, or `strategy` no strategy.

    Example:
        >>> found = tfs.squeeze(model, (x, y), (x_val, y_val), max_drop=0.02, output="small")
        >>> print(found)
        >>> found.path

    Source: successive halving after Jamieson & Talwalkar, arXiv:1502.07943.
    """
    trials, trainings = check_count("trials", trials), check_count("trainings", trainings)
    epochs, batch_size = check_count("epochs", epochs), check_count("batch_size", batch_size)
    max_drop = check_fraction("max_drop", max_drop)
    wanted = Objective(objective)
    if isinstance(sampler, str):
        check_choice("sampler", sampler, SAMPLERS)
    for name in techniques or ():
        check_choice("techniques", name, NAMES)
    if not 0.5 <= confidence < 1:
        raise ValueError(f"`confidence` must be in [0.5, 1). Received: confidence={confidence!r}.")
    for name, value in {"time_budget": time_budget, "learning_rate": learning_rate}.items():
        if value is not None:
            check_positive(name, value)
    precision = resolve(precision)
    _check_strategy(strategy)
    if worker and storage is None:
        raise ValueError(
            "A worker needs the `storage` that it shares with others, such as "
            "'postgresql+psycopg://user@host/database'. Received: storage=None."
        )
    _check_trainable(model)
    log = TrialLog(log_dir)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    # A storage that cannot be reached shows now, not after minutes of preparation.
    open_storage(storage, output)
    data = RunData.read(
        model, {"train": train, "validation": validation, "calibration": calibration}, seed=seed
    )
    kept = None if held_out is None else RunData.read(model, {"validation": held_out}).validation
    _check_labelled(data.validation, "validation")
    if kept is not None:
        _check_labelled(kept, "held_out")
    baseline = output / "original.tflite"
    export_tflite(model, baseline, representative_data=data.calibration)
    judge = Judge(baseline, model, _shuffled(data.validation, seed), metric, max_drop, confidence)
    judge.check()
    measured = report(baseline, latency=wanted.needs_latency)
    repertoire = Repertoire.of(model, data.calibration, techniques, wanted.weights)
    repertoire = with_sensitive_layers(repertoire, model, judge, measured.facts.macs, techniques, output)
    training = Training(batch_size, learning_rate or _learning_rate(model), precision)
    search = Search(
        workshop=Workshop(model, data, repertoire, training, output, seed, strategy),
        judge=judge,
        baseline=measured,
        objective=wanted,
        epochs=tuple(sorted({0, max(1, epochs // 3), epochs})),
        max_drop=max_drop,
        settings={
            "model": model_fingerprint(model),
            "data": data.digest(),
            "objective": str(wanted),
            "metric": setting_text(metric),
            "confidence": repr(confidence),
            "training": str(training),
        },
        storage=storage,
        progress=progress,
        log=log,
    )
    attempts = search.search(sampler, trials, trainings, time_budget)
    return None if worker else write_winner(search, attempts, metric, kept, confidence)


def split_examples(examples: Examples, part: float, *, seed: int = 0) -> tuple[Examples, Examples]:
    """Parts examples at random in those to train on and those to choose by.

    Args:
        examples: all of them.
        part: of them to choose by, in (0, 1).
        seed: of the draw.
    """
    mixed = _shuffled(examples, seed)
    count = round(part * len(mixed))
    return mixed[count:], mixed[:count]


def _learning_rate(model: keras.Model) -> float:
    """The rate that the model's optimizer begins with."""
    optimizer = getattr(model.optimizer, "inner_optimizer", None) or model.optimizer
    schedule = optimizer._learning_rate
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        return float(getattr(schedule, "initial_learning_rate", LEARNING_RATE))
    return float(optimizer.learning_rate)


def _shuffled(examples: Examples, seed: int) -> Examples:
    """In random order, so that the first examples are a fair part."""
    return examples[np.random.default_rng(seed).permutation(len(examples))]


def _check_strategy(strategy) -> None:
    if strategy is not None and not isinstance(strategy, tf.distribute.Strategy):
        raise TypeError(
            "`strategy` must be a `tf.distribute.Strategy`, such as `tf.distribute.MirroredStrategy()`. "
            f"Received: {strategy!r}."
        )
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "`strategy` must be that of one machine. Received: a MultiWorkerMirroredStrategy. Several "
            "machines share a search by its `storage`, each with candidates of its own."
        )


def _check_labelled(examples: Examples | None, name: str) -> None:
    if examples is None or examples.targets is None:
        raise ValueError(
            f"squeeze() needs `{name}` examples with targets, such as (x, y), on which files are compared. "
            f"Received: {'None' if examples is None else 'inputs alone'}."
        )


def _check_trainable(model) -> None:
    check_model(model, "squeeze()")
    if not model.compiled:
        raise ValueError(
            f"squeeze() needs a compiled model, to train it on. Received {model.name!r}, which was never "
            "compiled. Call `model.compile(optimizer, loss, metrics=...)` as you trained it."
        )
