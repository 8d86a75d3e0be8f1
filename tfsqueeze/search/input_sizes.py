"""`sweep_input_sizes`: what a smaller input costs in accuracy and gains in speed."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import keras

from tfsqueeze.architecture.input_size import with_input_size
from tfsqueeze.core.checks import check_graph
from tfsqueeze.core.trace import model_macs
from tfsqueeze.recipe.run_data import fitted
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.latencies import model_latencies
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
    timings = model_latencies(sized, runs) if latency else {}
    for size, twin in zip(sizes, sized.values(), strict=True):
        score = Scorer(evaluate if scorer is None else fitted(twin, scorer.examples), twin)
        value = score(twin)
        metric = score.name
        rows.append(InputSizeFacts(size, value, model_macs(twin), timings.get(str(size))))
    return InputSizes(rows, metric)
