"""What a network may cost at most, checked with the cheapest measure first."""

from dataclasses import dataclass

import keras

from tfsqueeze.core.checks import check_positive
from tfsqueeze.core.trace import model_macs
from tfsqueeze.search.latencies import model_latencies

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
            found["latency_ms"] = model_latencies({"model": model}, TIMED_RUNS)["model"]
        return found

    def exceeded(self, costs: dict[str, float]) -> str:
        """Which limits the costs exceed, in words; "" if none."""
        broken = [
            f"{name} {costs[name]:,.4g} > {limit:,.4g}"
            for name, limit in vars(self).items()
            if limit is not None and costs.get(name, 0) > limit
        ]
        return ", ".join(broken)
