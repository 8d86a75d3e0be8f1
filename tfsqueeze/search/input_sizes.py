"""`sweep_input_sizes`: what a smaller input costs in accuracy and gains in speed."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfsqueeze.architecture.input_size import with_input_size
from tfsqueeze.core.checks import check_graph
from tfsqueeze.core.data import Examples, input_specs
from tfsqueeze.core.layer_info import macs
from tfsqueeze.core.trace import layer_calls
from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.report import time_subjects
from tfsqueeze.reporting.subjects import open_subject
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.scoring import Scorer


@dataclass(frozen=True)
class InputSizeFacts:
    """One input size of a sweep.

    Attributes:
        size: height and width, or whatever `with_input_size` was given.
        score: higher is better.
        macs: multiply-accumulate operations for one example.
        latency_ms: median time of the float32 `.tflite` file on one thread, or None.
    """

    size: Any
    score: float
    macs: int
    latency_ms: float | None


@dataclass(frozen=True, repr=False)
class InputSizes(Presentation):
    """Score, MACs and latency by input size. Print it for a table.

    Attributes:
        rows: the sizes in the order they were given.
        metric: what the score is.
    """

    rows: list[InputSizeFacts]
    metric: str

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {"metric": self.metric, "sizes": [asdict(row) for row in self.rows]}

    def tables(self):
        """One row per size."""
        cells = [
            [
                str(row.size),
                f"{row.score:.4f}",
                f"{row.macs:,}",
                "-" if row.latency_ms is None else f"{row.latency_ms:.2f}",
            ]
            for row in self.rows
        ]
        note = "Median latency of the float32 .tflite file on one thread. All sizes have the same weights."
        return [Table("Input sizes", ["size", self.metric, "MACs", "latency ms"], cells, [note])]


def sweep_input_sizes(
    model: keras.Model,
    sizes: Iterable[int | tuple[int, int]],
    evaluate: Callable[[keras.Model], float] | Any,
    *,
    latency: bool = True,
    runs: int = 30,
) -> InputSizes:
    """Measures the same network at several input sizes, without retraining.

    Args:
        model: a model that `tfs.with_input_size` can resize.
        sizes: input sizes, as `tfs.with_input_size` takes them.
        evaluate: labelled examples at any one size, which are resized (bilinear, anti-aliased) to each; or a
            function `model -> float`, higher being better, that brings its own images to
            `model.input_shape`.
        latency: whether to export and time each size.
        runs: timed calls per size; all sizes are timed in alternation.

    Returns:
        An `InputSizes`. Print it for a table.

    Raises:
        UnsupportedModelError: if the model cannot be resized; says why.
        ValueError: if there are no sizes, or the data does not fit.

    Example:
        >>> print(tfs.sweep_input_sizes(model, [224, 192, 160, 128], (x_validation, y_validation)))
    """
    check_graph(model, "sweep_input_sizes()")
    sizes = list(sizes)
    if not sizes:
        raise ValueError("`sizes` must name at least one input size, such as [224, 192]. Received: none.")
    sized = {str(size): with_input_size(model, size) for size in sizes}
    scorer = None if callable(evaluate) else Scorer(evaluate, model)
    rows, metric = [], getattr(evaluate, "__name__", "score").strip("<>")
    timings = _timings(sized, runs) if latency else {}
    for size, twin in zip(sizes, sized.values(), strict=True):
        score = Scorer(evaluate if scorer is None else resized_examples(scorer.examples, twin), twin)
        value = score(twin)
        metric = score.name
        rows.append(InputSizeFacts(size, value, _macs(twin), timings.get(str(size))))
    return InputSizes(rows, metric)


def resized_examples(examples: Examples, model: keras.Model) -> Examples:
    """The examples with images resized (bilinear, anti-aliased) to what `model` takes."""

    def resize(array, shape):
        if len(shape) != 4 or array.shape[1:3] == shape[1:3]:
            return array
        return tf.image.resize(array, shape[1:3], antialias=True).numpy().astype(array.dtype)

    inputs = {spec.name: resize(examples.inputs[spec.name], spec.shape) for spec in input_specs(model)}
    return Examples(inputs, examples.targets, examples.weights)


def _macs(model) -> int:
    return sum(macs(call.layer, call.input_shapes, call.output_shapes) for call in layer_calls(model))


def _timings(models, runs: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        subjects = {
            name: open_subject(export_tflite(model, Path(folder, f"{index}.tflite")).path)
            for index, (name, model) in enumerate(models.items())
        }
        measured, _ = time_subjects(subjects, True, runs, 1, 1)
    return {name: latency.median_ms for name, latency in measured.items()}
