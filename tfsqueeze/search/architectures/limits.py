"""What a network may cost at most, checked with the cheapest measure first."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras

from tfsqueeze.core.checks import check_positive
from tfsqueeze.core.layer_info import macs
from tfsqueeze.core.trace import layer_calls
from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.reporting.report import time_subjects
from tfsqueeze.reporting.subjects import open_subject

TIMED_RUNS = 30


@dataclass(frozen=True)
class Limits:
    """Upper limits of a network's cost; None for no limit.

    Attributes:
        macs: multiply-accumulates for one example.
        params: number of weights.
        latency_ms: median time of the float32 `.tflite` file on one thread of this machine.
    """

    macs: float | None = None
    params: float | None = None
    latency_ms: float | None = None

    def __post_init__(self):
        for name, value in vars(self).items():
            if value is not None:
                check_positive(name, value)

    def costs(self, model: keras.Model) -> dict[str, float]:
        """MACs and weights of a model, and its latency if that is limited and the others are kept."""
        found: dict[str, float] = {"macs": model_macs(model), "params": model.count_params()}
        if self.latency_ms is not None and not self.exceeded(found):
            found["latency_ms"] = _latency(model)
        return found

    def exceeded(self, costs: dict[str, float]) -> str:
        """Which limits the costs exceed, in words; "" if none."""
        broken = [
            f"{name} {costs[name]:,.4g} > {limit:,.4g}"
            for name, limit in vars(self).items()
            if limit is not None and costs.get(name, 0) > limit
        ]
        return ", ".join(broken)


def model_macs(model: keras.Model) -> int:
    """Multiply-accumulates of a model for one example."""
    return sum(macs(call.layer, call.input_shapes, call.output_shapes) for call in layer_calls(model))


def _latency(model) -> float:
    with tempfile.TemporaryDirectory() as folder:
        subject = open_subject(export_tflite(model, Path(folder, "model.tflite")).path)
        measured, _ = time_subjects({"model": subject}, True, TIMED_RUNS, 1, 1)
    return measured["model"].median_ms
