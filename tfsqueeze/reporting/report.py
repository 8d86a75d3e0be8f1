"""`report`: what a model costs and what it gives, measured."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tfsqueeze.core.data import Examples, collect
from tfsqueeze.reporting import tables
from tfsqueeze.reporting.facts import Facts
from tfsqueeze.reporting.latency import Latency, measure
from tfsqueeze.reporting.metrics import Metric, default_metric, evaluate_predictions
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.subjects import KerasSubject, Subject, open_subject, rename_inputs

EVALUATION_BATCH_SIZE = 64


@dataclass(frozen=True, repr=False)
class Report(Presentation):
    """The facts of one model with what was measured on it. Print it for a table.

    Attributes:
        name: how the model is called in tables.
        facts: parameters, MACs, sizes, operators, layers and notes (`facts.Facts`).
        path: the file it was read from, or None.
        latency: the measured latency, or None.
        metrics: scores by name; empty without data.
        examples: number of examples the metrics were computed on.
        notes: what could not be found out, and why.
    """

    name: str
    facts: Facts
    path: Path | None = None
    latency: Latency | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    examples: int = 0
    notes: tuple[str, ...] = ()

    def __getattr__(self, name):
        """Facts are attributes of the report too: `report.macs`, `report.file_bytes`, `report.layers`."""
        if name.startswith("_") or name == "facts":
            raise AttributeError(name)
        return getattr(self.facts, name)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, strings, lists and dicts."""
        layers = [{**asdict(layer), "sparsity": layer.sparsity} for layer in self.facts.layers]
        return {
            "name": self.name,
            "path": None if self.path is None else str(self.path),
            **asdict(self.facts),
            "sparsity": self.facts.sparsity,
            "layers": layers,
            "latency": None if self.latency is None else asdict(self.latency),
            "metrics": {
                name: score if math.isfinite(score) else None for name, score in self.metrics.items()
            },
            "examples": self.examples,
            "notes": list(self.notes),
        }

    def tables(self):
        """The tables of the report: its figures, its operators, its layers."""
        return tables.report_tables(self)

    def plot(self, path=None):
        """Draws the sparsity and the MACs of each layer.

        Args:
            path: an image file to write (.png, .svg, .pdf), or None.

        Returns:
            The matplotlib figure.
        """
        from tfsqueeze.reporting.plots import plot_layers

        return plot_layers(self, path)


def report(
    model: Any,
    *,
    data: Any = None,
    metric: Metric | Mapping[str, Metric] = None,
    latency: bool | str = True,
    runs: int = 50,
    threads: int = 1,
    batch_size: int = 1,
    name: str | None = None,
) -> Report:
    """Reports on one model: parameters, sparsity, MACs, sizes, operators, memory, latency, metric.

    Args:
        model: a built `keras.Model`; a path to a `.keras`, `.h5` or `.tflite` file or a SavedModel folder;
            or the result of `export_tflite`.
        data: examples with targets to score the model on, in any form `model.evaluate` takes; None for
            no score. A `.tflite` file is run by the real interpreter.
        metric: the name of a Keras metric, a `keras.metrics.Metric`, a function
            `(y_true, y_pred) -> float`, or a dict of those by output name. None means what the model was
            compiled with, else accuracy for class targets and mean squared error for others.
        latency: True measures `.tflite` files; "all" times Keras models too, through a compiled call
            (not comparable with a file); False measures nothing.
        runs: timed calls.
        threads: threads of the `.tflite` interpreter.
        batch_size: examples per timed call, where the file leaves it free.
        name: the name in tables; the file's or the model's name by default.

    Returns:
        A `Report`. What could not be measured is None, prints as "-" and is explained in its notes.

    Raises:
        ValueError: if the file is missing or corrupt, or the data does not fit the model.
        TypeError: if `model` is of no known kind.

    Example:
        >>> print(tfs.report("model.tflite", data=(x_test, y_test)))
    """
    subject = open_subject(model)
    examples = None if data is None else read_examples(data, subject)
    score = scoring(metric, [subject])
    timings, notes = time_subjects({"": subject}, latency, runs, threads, batch_size)
    return make_report(
        name or name_of(subject), subject, examples, score, timings.get(""), tuple(notes.values())
    )


def make_report(name, subject: Subject, examples, score, latency, notes=()) -> Report:
    """A report of an opened subject whose latency was measured already; `score` comes from `scoring`."""
    metrics = {}
    if examples is not None:
        predictions = subject.predict(examples, EVALUATION_BATCH_SIZE)
        metrics = score(predictions, examples.targets, weights=examples.weights)
    facts = subject.facts()
    return Report(
        name=name,
        facts=facts,
        path=subject.path,
        latency=latency,
        metrics=metrics,
        examples=0 if examples is None else len(examples),
        notes=(*facts.notes, *notes),
    )


def read_examples(data, subject: Subject) -> Examples:
    """Reads `data` by the inputs of `subject`; there must be targets in it.

    Raises:
        ValueError: if there are no targets, or inputs do not fit.
    """
    examples = data if isinstance(data, Examples) else collect(data, subject.specs)
    if examples.targets is None:
        raise ValueError("`data` has no targets to score against. Pass a tuple (x, y), or a dataset of them.")
    return rename_inputs(examples, subject.specs)


def scoring(metric, subjects) -> Callable[..., dict[str, float]]:
    """`evaluate_predictions` with the metric asked for, or else the one the first compiled model names."""
    models = [subject.model for subject in subjects if isinstance(subject, KerasSubject)]
    default = next((named for named in map(default_metric, models) if named is not None), None)
    return partial(evaluate_predictions, metric=metric, default=default)


def name_of(subject: Subject) -> str:
    """The file's name, or the model's."""
    if subject.path is not None:
        return subject.path.name
    return subject.model.name if isinstance(subject, KerasSubject) else "model.tflite"


def time_subjects(
    subjects: Mapping[str, Subject], latency, runs, threads, batch_size
) -> tuple[dict[str, Latency], dict[str, str]]:
    """Times the subjects in alternation; returns latencies and, where one cannot run, notes, by name."""
    timed, notes = {}, {}
    for name, subject in subjects.items():
        if not latency or (isinstance(subject, KerasSubject) and latency != "all"):
            continue
        try:
            timed[name] = subject.timed(threads, batch_size)
        except (ValueError, RuntimeError) as error:
            notes[name] = f"Latency is unknown: {error}"
    return measure(timed, runs), notes
