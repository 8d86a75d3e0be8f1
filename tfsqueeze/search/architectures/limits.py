"""What a network may cost at most, checked with the cheapest measure first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from tfsqueeze.core.checks import check_positive
from tfsqueeze.core.trace import model_macs
from tfsqueeze.search.architectures.latency_table import LatencyTable
from tfsqueeze.search.latencies import model_latencies

TIMED_RUNS = 30
# A network is timed unless the table predicts it to take so many times what is allowed.
DOUBT = 1.3
MACS, PARAMS, PREDICTED, LATENCY = "macs", "params", "predicted_ms", "latency_ms"
LEAST_PAIRS = 3


class Latencies:
    """Latencies of networks made from a given one, predicted from their operators or timed.

    Args:
        model: the given network. It is timed as a whole, too: what the sum over its operators leaves out or
            counts too much is taken to be the same share for others.
        table: of operators; None for that of this machine.

    Raises:
        ValueError: if the model cannot be run as a `.tflite` file here.
    """

    def __init__(self, model: keras.Model, table: LatencyTable | None = None):
        self._table = table or LatencyTable()
        whole, parts = self.timed(model), self._table.predict(model)
        self._scale = whole / parts if parts else 1.0

    def predicted(self, model: keras.Model) -> float:
        """Milliseconds, from the operators' latencies."""
        return self._scale * self._table.predict(model)

    def timed(self, model: keras.Model) -> float:
        """Median milliseconds of the float32 `.tflite` file on one thread."""
        found = model_latencies({"model": model}, TIMED_RUNS)
        if not found:
            raise ValueError(
                f"The `.tflite` file of model {model.name!r} cannot be run here, so that `latency_ms` cannot "
                "be checked. Leave `latency_ms` out, and limit `macs`."
            )
        return found["model"]


@dataclass(frozen=True)
class Limits:
    """Upper limits of a network's cost; None for no limit.

    Attributes:
        macs: multiply-accumulates for one example.
        params: number of weights.
        latency_ms: median time of the float32 `.tflite` file on one thread of this machine.

    Raises:
        ValueError: if a limit is not > 0.
    """

    macs: float | None = None
    params: float | None = None
    latency_ms: float | None = None

    def __post_init__(self):
        for name, value in vars(self).items():
            if value is not None:
                check_positive(name, value)

    def costs(self, model: keras.Model, latencies: Latencies | None = None) -> dict[str, float]:
        """MACs and weights of a model, and its latency if that is limited and all cheaper tests are passed.

        Args:
            model: a built model.
            latencies: what predicts and times it; needed where `latency_ms` is limited.
        """
        found: dict[str, float] = {MACS: model_macs(model), PARAMS: model.count_params()}
        if self.latency_ms is None or latencies is None or self.exceeded(found):
            return found
        found[PREDICTED] = latencies.predicted(model)
        if not self.exceeded(found):
            found[LATENCY] = latencies.timed(model)
        return found

    def exceeded(self, costs: Mapping[str, float]) -> str:
        """Which limits the costs exceed, in words; "" if none."""
        limits = dict(vars(self))
        if self.latency_ms is not None and LATENCY not in costs:
            limits[PREDICTED] = DOUBT * self.latency_ms
        broken = [
            f"{name} {costs[name]:,.4g} > {limit:,.4g}"
            for name, limit in limits.items()
            if limit is not None and costs.get(name, 0) > limit
        ]
        return ", ".join(broken)


def prediction_correlation(costs: Sequence[Mapping[str, float]]) -> float | None:
    """Rank correlation (Spearman's) of predicted and timed latencies.

    Args:
        costs: of networks, as `Limits.costs` gives them; those with one of the two only do not count.

    Returns:
        From -1 to 1; None for fewer than three networks, or if all are alike.
    """
    pairs = [(one[PREDICTED], one[LATENCY]) for one in costs if LATENCY in one and PREDICTED in one]
    return rank_correlation(*zip(*pairs, strict=True)) if len(pairs) >= LEAST_PAIRS else None


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation of two lists of numbers; None if one of them is constant.

    Example:
        >>> rank_correlation([1.0, 2.0, 9.0], [5.0, 6.0, 7.0])
        1.0
    """
    ranks = [_ranks(np.asarray(values)) for values in (first, second)]
    if not all(map(np.ptp, ranks)):
        return None
    return round(float(np.corrcoef(*ranks)[0, 1]), 6)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]
