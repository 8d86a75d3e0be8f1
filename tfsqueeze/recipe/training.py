"""The steps that train: `fine_tune`, and `distil` with a teacher."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.checks import check_count, check_model
from tfsqueeze.core.devices import without_xla_on_cpu
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.distillation.distiller import Distiller
from tfsqueeze.recipe.holding import holding_callbacks
from tfsqueeze.recipe.training_data import check_labels, fit_arguments


@dataclass(frozen=True)
class Training:
    """How a step trains.

    Attributes:
        epochs: passes over the data, >= 1.
        batch_size: examples per step, where the data is not batched already; >= 1.
        optimizer: the optimizer, which always begins with fresh state; None for that of the model, or Adam.
        learning_rate: a number > 0 or a `keras.optimizers.schedules` object in place of the optimizer's own.
        loss: the loss; None for that of the model.
        metrics: metrics; None for those of the model.
        callbacks: for `fit`, such as `tfs.PruningCallback`.
        keep: whether zeros and shared values that the weights have are held, unless `callbacks` say how.
        validation: examples to evaluate on after each epoch, for callbacks that look at it; None for none.
    """

    epochs: int = 1
    batch_size: int = 32
    optimizer: str | keras.optimizers.Optimizer | None = None
    learning_rate: Any = None
    loss: Any = None
    metrics: list | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    keep: bool = True
    validation: Any = None

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            check_count(name, getattr(self, name))

    def compile(self, model: keras.Model, like: keras.Model) -> None:
        """Compiles `model` as `like` is, but for what is set here, with an optimizer of fresh state."""
        begun = like._compile_config.config if like.compiled else {}
        given = {name: getattr(self, name) for name in ("loss", "metrics")}
        settings = {**begun, **{name: value for name, value in given.items() if value is not None}}
        if settings.get("loss") is None:
            raise ValueError(
                f"There is no `loss` to train {like.name!r} by: it was never compiled. Compile it, or give "
                'the step a `loss`, such as "sparse_categorical_crossentropy".'
            )
        optimizer = keras.optimizers.get(self.optimizer or settings.get("optimizer") or "adam")
        model.compile(**{**settings, "optimizer": _fresh(optimizer, self.learning_rate)})

    def fit(self, model: keras.Model, trained: keras.Model, train, *, sized_for=None) -> dict[str, float]:
        """Fits a model; returns the last epoch's logs.

        Args:
            model: what is fitted.
            trained: the model whose weights are trained, `model` itself or a student within.
            train: the examples.
            sized_for: the model whose input size images are given in; None for `trained`.
        """
        arguments = fit_arguments(sized_for or trained, train, self.batch_size)
        check_labels(trained, trained.loss, arguments.get("y"))
        held = holding_callbacks(trained, self.callbacks) if self.keep else []
        _draw_seeds(trained)
        validation = None if self.validation is None else fit_arguments(trained, self.validation)
        with without_xla_on_cpu(model):
            history = model.fit(
                **arguments,
                epochs=self.epochs,
                callbacks=[*self.callbacks, *held],
                validation_data=_as_tuple(validation),
                verbose=0,
            )
        return {name: values[-1] for name, values in history.history.items()}


def with_training_options(verb: Callable) -> Callable:
    """Spells out in the signature of `verb` the options that its `**training` takes."""
    own = [p for p in inspect.signature(verb).parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = inspect.signature(Training).parameters.values()
    named = [option.replace(kind=option.KEYWORD_ONLY) for option in options]
    verb.__signature__ = inspect.Signature([*own[:2], *named, *own[2:]])
    return verb


@with_training_options
def fine_tune(model: keras.Model, train: Any, **training: Any) -> keras.Model:
    """Returns a trained copy of `model`.

    Args:
        model: a built model; it is not changed.
        train: examples in any form that `model.fit` takes. Images are resized to the model's input.
        **training: the attributes of `Training`.

    Returns:
        A new model; `tfs.explain` on it tells the last epoch's loss and metrics.

    Raises:
        ValueError: if there is no loss, or an option is out of range.

    Example:
        >>> tuned = fine_tune(tfs.prune(model, 0.8), (x, y), epochs=3, learning_rate=1e-4)
    """
    options = Training(**training)
    student = rewrite(check_model(model, "fine_tune"))
    options.compile(student, like=model)
    logs = options.fit(student, student, train)
    return _finished(student, "fine_tune", options, model, logs)


@with_training_options
def distil(
    model: keras.Model,
    train: Any,
    *,
    teacher: keras.Model,
    alpha: Any = 0.9,
    temperature: Any = 4.0,
    losses: Any = None,
    **training: Any,
) -> keras.Model:
    """Returns a copy of `model` trained by `teacher` and the labels, with `tfs.Distiller`.

    Args:
        model: a built model; it is not changed.
        train: as in `fine_tune`.
        teacher: a built model; in a recipe the one it began with, unless a file is named.
        alpha: weight of the teacher's loss in [0, 1], see `tfs.Distiller`.
        temperature: softens both networks' probabilities; > 0.
        losses: what is compared, see `tfs.Distiller`.
        **training: the attributes of `Training`.

    Returns:
        A new model, the trained student; `tfs.explain` on it tells the last epoch's losses and metrics.

    Raises:
        ValueError: as `fine_tune` and `tfs.Distiller` raise.

    Example:
        >>> small = distil(tfs.prune_channels(model, macs=0.5), (x, y), teacher=model, epochs=5)
    """
    options = Training(**training)
    student = rewrite(check_model(model, "distil"))
    options.compile(student, like=model)
    distiller = Distiller(student, teacher, losses, alpha=alpha, temperature=temperature)
    options.compile(distiller, like=student)
    # The distiller makes images smaller for a student of smaller input; the teacher needs them whole.
    logs = options.fit(distiller, student, train, sized_for=teacher)
    return _finished(student, "distil", options, model, logs)


def _finished(student, verb, options, like, logs) -> keras.Model:
    """Leaves the state of the optimizer behind, so that a saved model is small and goes on the same."""
    options.compile(student, like)
    row = {"epochs": int(options.epochs), **{name: round(float(value), 4) for name, value in logs.items()}}
    return record(student, verb, {"training": row}, {})


def _draw_seeds(model: keras.Model) -> None:
    """Gives dropout and the like states drawn from the global seed: a file does not keep those they had."""
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            generator.state.assign([np.random.randint(2**31), 0])


def _fresh(optimizer, learning_rate):
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        config = {**optimizer.get_config(), "inner_optimizer": _fresh(inner, learning_rate)}
        return type(optimizer)(**config)
    config = optimizer.get_config()
    return type(optimizer).from_config(
        config if learning_rate is None else {**config, "learning_rate": learning_rate}
    )


def _as_tuple(arguments: dict | None):
    """Keras takes validation data as one value."""
    if arguments is None or set(arguments) <= {"x", "batch_size"}:
        return None if arguments is None else arguments["x"]
    return tuple(arguments[name] for name in ("x", "y", "sample_weight") if arguments.get(name) is not None)
