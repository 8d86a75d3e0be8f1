"""`compare`: several models side by side, measured under the same conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfsqueeze.reporting import tables
from tfsqueeze.reporting.metrics import Metric
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.report import Report, make_report, read_examples, scoring, time_subjects
from tfsqueeze.reporting.subjects import KerasSubject, Subject, open_subject


@dataclass(frozen=True, repr=False)
class Comparison(Presentation):
    """Reports by name, the first being what the others are compared with. Print it for a table."""

    reports: dict[str, Report]

    def __getitem__(self, name: str) -> Report:
        return self.reports[name]

    def __iter__(self):
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)

    @property
    def first(self) -> Report:
        """The report that ratios refer to."""
        return next(iter(self.reports.values()))

    def ratio(self, name: str, quantity: str) -> float | None:
        """How many times smaller (or faster) `name` is than the first entry.

        Args:
            name: the entry.
            quantity: "file_bytes", "gzip_bytes", "parameters", "nonzero", "macs", "activation_bytes" or
                "latency".

        Returns:
            The first entry's value divided by the entry's own; None if one of them is unknown or 0.
        """
        first, other = (_value(report, quantity) for report in (self.first, self[name]))
        return first / other if first and other else None

    def to_dict(self) -> dict[str, Any]:
        """The reports as plain data by name, each with its `ratios` against the first entry."""
        ratios = {
            name: {quantity: self.ratio(name, quantity) for quantity in RATIOS} for name in self.reports
        }
        return {name: {**report.to_dict(), "ratios": ratios[name]} for name, report in self.reports.items()}

    def tables(self):
        """The tables of the comparison."""
        return tables.comparison_tables(self)

    def plot(self, path=None, *, size: str = "file_bytes"):
        """Draws the metric against the file size, with the latency as the area of the marker.

        Args:
            path: an image file to write (.png, .svg, .pdf), or None.
            size: "file_bytes", or "gzip_bytes" for the size of a download, in which pruning shows.

        Returns:
            The matplotlib figure.
        """
        from tfsqueeze.reporting.plots import plot_comparison

        return plot_comparison(self, path, size)


RATIOS = ("parameters", "nonzero", "macs", "file_bytes", "gzip_bytes", "activation_bytes", "latency")


def compare(
    models: Mapping[str, Any],
    *,
    data: Any = None,
    metric: Metric | Mapping[str, Metric] = None,
    latency: bool | str = True,
    runs: int = 50,
    threads: int = 1,
    batch_size: int = 1,
) -> Comparison:
    """Reports on several models under the same conditions and sets them side by side.

    Latency is measured in alternation (a few runs of each, then again), so that a busy moment of the
    machine hits all of them alike. The data is read once, and one metric is used for all: the one given,
    or the one the first compiled Keras model names.

    Args:
        models: what to compare by name, each in a form `report` takes. The first is the reference.
        data, metric, latency, runs, threads, batch_size: as in `report`.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: if `models` is empty, or as `report` raises.

    Example:
        >>> print(tfs.compare({"float": model, "int8": "model.tflite"}, data=(x_test, y_test)))
    """
    if not isinstance(models, Mapping):
        raise TypeError(f"`models` must be a dict of models by name. Received: {type(models)}.")
    if not models:
        raise ValueError("`models` is empty: nothing to compare.")
    subjects = {name: open_subject(model) for name, model in models.items()}
    examples = None if data is None else read_examples(data, reference_reader(subjects))
    score = scoring(metric, subjects.values())
    timings, notes = time_subjects(subjects, latency, runs, threads, batch_size)
    return Comparison(
        {
            name: make_report(
                name, subject, examples, score, timings.get(name), [notes[name]] if name in notes else []
            )
            for name, subject in subjects.items()
        }
    )


def reference_reader(subjects: Mapping[str, Subject]) -> Subject:
    """The subject the data is read by: a Keras model if there is one, as it knows the order of inputs."""
    keras_first = sorted(subjects.values(), key=lambda subject: not isinstance(subject, KerasSubject))
    return keras_first[0]


def _value(report: Report, quantity: str) -> float | None:
    if quantity == "latency":
        return None if report.latency is None else report.latency.median_ms
    return getattr(report.facts, quantity)
