"""`search_architecture`: a better network of the same kind, begun from the one that is there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.core.checks import UnsupportedModelError, check_graph
from tfsqueeze.core.data import pack_inputs
from tfsqueeze.core.files import atomic_write
from tfsqueeze.core.resuming import weights_digest
from tfsqueeze.core.trained import trained_model
from tfsqueeze.recipe.run_data import fitted
from tfsqueeze.recipe.training import distil, fine_tune
from tfsqueeze.search.architectures.changes_space import ArchitectureSpace
from tfsqueeze.search.architectures.limits import Latencies, Limits
from tfsqueeze.search.architectures.result import Architectures
from tfsqueeze.search.scoring import Scorer
from tfsqueeze.search.studies.study import Study
from tfsqueeze.search.studies.trial import StopTrial, Trial

REFITTED_ON = 256


def search_architecture(
    model: keras.Model,
    train: Any,
    validation: Any,
    *,
    macs: float | None = None,
    params: float | None = None,
    latency_ms: float | None = None,
    changes: Sequence[str] | None = None,
    epochs: int = 3,
    learning_rate: float | None = None,
    batch_size: int = 64,
    teach: bool = True,
    sampler: str = "tpe",
    trials: int | None = 30,
    time_budget: float | None = None,
    storage: str | None = None,
    output=None,
    name: str = "architecture",
    seed: int = 0,
    early_stopping: str | None = "halving",
    progress: bool = True,
) -> Architectures:
    """Searches the architecture around a trained network that scores best within limits of its cost.

    Each trial changes the network, its weights inherited where they fit and refitted by least squares,
    rather than training one from nothing. What is cheap comes first: a candidate beyond the limits ends
    before it is trained. Its latency is predicted from those of its operators, each timed once on this
    machine and kept in the user's cache folder, and timed only if it may be within the limit. Of the
    candidates trained, only the best third goes on beyond the first epochs.

    Args:
        model: a trained and compiled Sequential or Functional model; it is not changed.
        train: examples to train on, in any form `model.fit` takes; images are resized as needed.
        validation: labelled examples; a trial's score is that of `tfs.sensitivity`: the compiled metric, else
            accuracy or the negative error, higher being better.
        macs: most multiply-accumulates for one example; up to 1, the share of the model's own.
        params: most weights; up to 1, the share of the model's own.
        latency_ms: most milliseconds of the float32 `.tflite` file, one thread of this machine; see also
            `Architectures.latency_correlation`.
        changes: what may be changed, of "width" (a share of the channels for each size of feature maps),
            "depth" (residual blocks removed), "kernel" (3 or 5), "operator" (convolutions or separable ones),
            "activation", "resolution" (of images); None for all that apply.
        epochs: passes over the training data for a trial that is not stopped, >= 1.
        learning_rate: of the training; None for that of the model's optimizer.
        batch_size: examples per step, where `train` is not batched.
        teach: whether the original teaches the candidates (`tfs.Distiller`); else they train on labels alone.
        sampler, trials, time_budget, storage, name, seed, early_stopping, progress: as in `tfs.tune`.
        output: a folder for the study and the best networks; None keeps trials in memory.

    Returns:
        An `Architectures`: `model` is the best network, trained, or None if no trial is within the limits.
            Print it for a table.

    Raises:
        UnsupportedModelError: if the model has no graph.
        ValueError: if nothing of the model can be changed, a limit is out of range, or as in `tfs.tune`.

    Example:
        >>> found = tfs.search_architecture(model, (x, y), (x_val, y_val), macs=0.3, trials=40, output="nets")
        >>> found.model.save("small.keras")

    Source: widths and resolution as in Howard et al., MobileNets, arXiv:1704.04861; inherited weights as in
    Cai et al., Once-for-All, arXiv:1908.09791; halving as in Li et al., arXiv:1810.05934.
    """
    check_graph(model, "search_architecture()")
    scorer = Scorer(validation, model)
    baseline = scorer(model)
    costs = Limits().costs(model)
    limits = Limits(_absolute(macs, costs["macs"]), _absolute(params, costs["params"]), latency_ms)
    latencies = None if latency_ms is None else Latencies(model)
    around = ArchitectureSpace(model, changes, _some_inputs(model, scorer))
    training = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    study = Study(
        name,
        around.space,
        sampler=sampler,
        storage=storage,
        output=output,
        seed=seed,
        settings={
            "model": weights_digest(model),
            "validation": scorer.identity,
            "limits": repr(limits),
            "training": repr({**training, "teach": teach}),
        },
        early_stopping=early_stopping,
    )
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder if output is None else output)

        def objective(trial: Trial) -> float:
            keras.utils.set_random_seed(trial.seed)
            candidate = _within(limits, latencies, around, trial)
            examples = fitted(candidate, scorer.examples)
            score = Scorer(examples, candidate)
            reporter = _Reporter(trial, score)
            options = {**training, "callbacks": [reporter]}
            trained = (
                distil(candidate, train, teacher=model, **options)
                if teach
                else fine_tune(candidate, train, **options)
            )
            result = score(trained)
            best = study.best
            # Of equals the earlier trial is the best, which may end later.
            if best is None or result >= best.score:
                with atomic_write(kept / f"network-{trial.number}.keras") as temporary:
                    trained.save(temporary)
            return result

        study.run(objective, trials=trials, time_budget=time_budget, progress=progress)
        best = study.best
        found = None if best is None else _loaded(kept, best.number)
    return Architectures(found, study.trials, baseline, costs, scorer.name, around.skipped)


class _Reporter(keras.callbacks.Callback):
    """Tells the score of the network in training after every epoch."""

    def __init__(self, trial: Trial, score: Scorer):
        super().__init__()
        self._trial, self._score = trial, score

    def on_epoch_end(self, epoch, logs=None):
        self._trial.report(epoch + 1, self._score(trained_model(self.model)))


def _within(
    limits: Limits, latencies: Latencies | None, around: ArchitectureSpace, trial: Trial
) -> keras.Model:
    try:
        candidate = around.build(trial.parameters)
    except (UnsupportedModelError, ValueError) as error:
        trial.note("misfit", str(error)[:500])
        raise StopTrial("the changes do not go together") from error
    costs = limits.costs(candidate, latencies)
    for cost, value in costs.items():
        trial.note(cost, value)
    broken = limits.exceeded(costs)
    if broken:
        trial.note("beyond", broken)
        raise StopTrial(broken)
    return candidate


def _absolute(limit: float | None, own: float) -> float | None:
    return limit * own if limit is not None and 0 < limit <= 1 else limit


def _some_inputs(model, scorer: Scorer):
    if scorer.examples is None:
        raise ValueError(
            "`validation` must be labelled examples, such as (x, y). Received: a function. Candidates of "
            "another input size are scored on them resized."
        )
    few = {name: values[:REFITTED_ON] for name, values in scorer.examples.inputs.items()}
    return pack_inputs(model, few)


def _loaded(folder: Path, number: int) -> keras.Model:
    path = folder / f"network-{number}.keras"
    if not path.exists():
        raise ValueError(
            f"The best network, of trial {number}, was trained on another machine and is not in "
            f"{str(folder)!r}. Copy {path.name!r} from there, and call search_architecture() again."
        )
    return keras.models.load_model(path)
