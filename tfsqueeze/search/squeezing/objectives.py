"""What is to become small: one number from the measured facts of a file, relative to the baseline's."""

import math
from collections.abc import Mapping

from tfsqueeze.core.checks import check_choice, check_positive
from tfsqueeze.reporting.report import Report

QUANTITIES = {
    "size": lambda report: report.facts.file_bytes,
    "download": lambda report: report.facts.gzip_bytes,
    "macs": lambda report: report.facts.macs,
    "memory": lambda report: report.facts.activation_bytes,
    "latency": lambda report: report.latency and report.latency.median_ms,
}


class Objective:
    """The cost of a file: the weighted geometric mean of its quantities' ratios to those of the baseline.

    Args:
        wanted: "size" (bytes of the file), "download" (bytes after gzip), "macs", "memory" (activations),
            "latency" (median on this machine, one thread), or a dict of weights > 0 by these names.

    Raises:
        ValueError: if a name is unknown or a weight not > 0.
    """

    def __init__(self, wanted: str | Mapping[str, float]):
        weights = {wanted: 1.0} if isinstance(wanted, str) else dict(wanted)
        for name, weight in weights.items():
            check_choice("objective", name, QUANTITIES)
            check_positive(f"objective[{name!r}]", weight)
        if not weights:
            raise ValueError("`objective` must name what is to become small. Received: {}.")
        total = sum(weights.values())
        self.weights = {name: weight / total for name, weight in weights.items()}

    @property
    def needs_latency(self) -> bool:
        """Whether files must be timed."""
        return "latency" in self.weights

    def cost(self, report: Report, baseline: Report) -> float:
        """The cost of a file, 1 for the baseline, less for what is smaller.

        Raises:
            ValueError: if a quantity is unknown for one of the two.
        """
        logarithm = 0.0
        for name, weight in self.weights.items():
            values = [QUANTITIES[name](one) for one in (report, baseline)]
            if not all(values):
                raise ValueError(f"The {name} of the model's file is unknown. Choose another `objective`.")
            logarithm += weight * math.log(values[0] / values[1])
        return math.exp(logarithm)

    def __str__(self) -> str:
        return " ".join(f"{name}:{weight:.3g}" for name, weight in self.weights.items())
