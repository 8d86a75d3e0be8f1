"""Ranges of activations from the distribution of all their values, rather than batch by batch."""

from collections.abc import Callable, Iterable

import keras
import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.logit_ranges import MOST_VALUES, LogitError, quantizers_of_logits, some_rows
from tfsqueeze.quantization.measuring import activation_quantizers
from tfsqueeze.quantization.wrapper import quantized_layers

BINS = 2048
FRACTIONS = np.linspace(0.1, 1.0, 91)
ROUNDS = 3
_SMALLEST = 1e-12


class Histogram:
    """Counts of values in equal bins; it widens as values beyond its ends come.

    Attributes:
        low, high: the ends, which include 0.
        counts: number of values per bin.
    """

    def __init__(self):
        self.low = self.high = 0.0
        self.counts = np.zeros(BINS)

    def add(self, values: np.ndarray) -> None:
        """Counts in an array of any shape; NaN and infinity are not counted."""
        values = values[np.isfinite(values)]
        low, high = min(self.low, values.min(initial=0.0)), max(self.high, values.max(initial=0.0))
        if low == high:
            return
        if (low, high) != (self.low, self.high):
            counts = np.zeros(BINS)
            if self.counts.any():
                counts = np.histogram(self.centers, BINS, (low, high), weights=self.counts)[0]
            self.low, self.high, self.counts = float(low), float(high), counts
        self.counts += np.histogram(values, BINS, (self.low, self.high))[0]

    @property
    def centers(self) -> np.ndarray:
        """The middle of each bin."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        return (edges[:-1] + edges[1:]) / 2


def min_max(histogram: Histogram, bits: int, percentile: float) -> tuple[float, float]:
    """The smallest and the greatest value."""
    return histogram.low, histogram.high


def percentile_range(histogram: Histogram, bits: int, percentile: float) -> tuple[float, float]:
    """The range that leaves (100 - percentile) % of the values outside, half on each side."""
    below = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1)
    outside = (100.0 - percentile) / 200.0
    centers = histogram.centers
    first, last = np.searchsorted(below, [outside, 1 - outside])
    low = histogram.low if percentile == 100 else centers[first]
    high = histogram.high if percentile == 100 else centers[min(last, BINS - 1)]
    return float(low), float(high)


def least_squares_range(histogram: Histogram, bits: int, percentile: float) -> tuple[float, float]:
    """The range of least squared error after rounding and clipping; both ends move in turn.

    Source: Nagel et al., A White Paper on Neural Network Quantization, arXiv:2106.08295, section 3.1.
    """
    used = histogram.counts > 0
    values, counts = histogram.centers[used], histogram.counts[used]

    def error(low, high):
        step = max(high - low, _SMALLEST) / (2.0**bits - 1)
        rounded = np.round(np.clip(values, low, high) / step) * step
        return float(counts @ np.square(rounded - values))

    return _best_ends(error, histogram)


def least_divergence_range(histogram: Histogram, bits: int, percentile: float) -> tuple[float, float]:
    """The range whose rounded values tell least apart from the values by Kullback-Leibler divergence.

    Values beyond the range count at its ends in the distribution to be matched, and not in the rounded one,
    so that clipping costs.

    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    # The bin around 0 holds what ReLU cut off, which any range represents exactly.
    counts = np.where(
        np.abs(histogram.centers) < (histogram.high - histogram.low) / BINS, 0, histogram.counts
    )
    values = histogram.centers

    def divergence(low, high):
        inside = (values >= low) & (values <= high)
        if counts[inside].sum() == 0:
            return np.inf
        wanted = np.where(inside, counts, 0.0)
        first, last = np.flatnonzero(inside)[[0, -1]]
        wanted[first] += counts[:first].sum()
        wanted[last] += counts[last + 1 :].sum()
        step = (high - low) / (2.0**bits - 1)
        level = np.round((values[inside] - low) / step).astype(int)
        filled = (counts[inside] > 0).astype(float)
        totals = np.bincount(level, counts[inside])
        shares = totals / np.maximum(np.bincount(level, filled), 1)
        given = shares[level] * filled
        p, q = wanted[inside] / wanted.sum(), given / given.sum()
        known = p > 0
        return float(np.sum(p[known] * np.log(p[known] / np.maximum(q[known], 1e-9))))

    return _best_fraction(divergence, histogram)


SEARCHES: dict[str, Callable[[Histogram, int, float], tuple[float, float]]] = {
    "mse": least_squares_range,
    "min_max": min_max,
    "percentile": percentile_range,
    "entropy": least_divergence_range,
}


def search_ranges(
    model: keras.Model, batches: Iterable[Examples], method: str, percentile: float = 99.99
) -> None:
    """Sets the activation ranges of a quantization-aware model from all values on some data, in place.

    Nothing is rounded while the values are seen. With "mse" it is the probabilities whose error counts where
    softmax reads the values.

    Args:
        model: as `quantize_aware` returns it.
        batches: examples, in parts that fit the memory with all activations of the model.
        method: "mse", "min_max", "percentile" or "entropy".
        percentile: part of the values inside the range, in percent, for "percentile".
    """
    quantizers = [quantizer for quantizer in activation_quantizers(model) if quantizer.fixed is None]
    logits = {id(q): [] for q in quantizers_of_logits(model) if method == "mse" and not q.symmetric}
    histograms = _histograms(model, quantizers, list(batches), logits)
    for quantizer in quantizers:
        histogram = histograms[id(quantizer)]
        if not histogram.counts.any():
            continue
        if logits.get(id(quantizer)):
            rows = np.concatenate(logits[id(quantizer)])
            low, high = _best_ends(LogitError(rows, quantizer.bits), histogram)
        else:
            low, high = SEARCHES[method](_mirrored(histogram, quantizer), quantizer.bits, percentile)
        quantizer.minimum.assign(np.full(quantizer.slots, low, "float32"))
        quantizer.maximum.assign(np.full(quantizer.slots, high, "float32"))


def _histograms(
    model, quantizers: list[ActivationQuantizer], batches, logits: dict[int, list]
) -> dict[int, Histogram]:
    """The values of each quantizer's tensors, by its id; of those in `logits`, some rows are kept there."""
    rounding = [*activation_quantizers(model), *quantized_layers(model)]
    for layer in rounding:
        layer.is_rounding = False
    try:
        inputs = InnerInputs(model, quantizers, batches)
        histograms = {id(quantizer): Histogram() for quantizer in quantizers}
        for batch in batches:
            for quantizer, calls in zip(inputs.order, inputs.read_all(inputs.order, batch), strict=True):
                for received in calls:
                    if received.kwargs.get("measure", True):
                        values = np.asarray(received.first, "float32")
                        histograms[id(quantizer)].add(values.ravel())
                        if id(quantizer) in logits:
                            logits[id(quantizer)].append(some_rows(values, MOST_VALUES // len(batches)))
        return histograms
    finally:
        for layer in rounding:
            layer.is_rounding = True


def _mirrored(histogram: Histogram, quantizer: ActivationQuantizer) -> Histogram:
    """The histogram with its mirror image where the grid is symmetric about 0."""
    if not quantizer.symmetric:
        return histogram
    both = Histogram()
    both.high = max(-histogram.low, histogram.high)
    both.low = -both.high
    ends = (both.low, both.high)
    counts = np.histogram(histogram.centers, BINS, ends, weights=histogram.counts)[0]
    both.counts = counts + counts[::-1]
    return both


def _best_ends(cost, histogram: Histogram) -> tuple[float, float]:
    low, high = _best_fraction(cost, histogram)
    for _ in range(ROUNDS):
        high = min((histogram.high * f for f in FRACTIONS), key=lambda end: cost(low, end))
        low = min((histogram.low * f for f in FRACTIONS), key=lambda end: cost(end, high))
    return low, high


def _best_fraction(cost, histogram: Histogram) -> tuple[float, float]:
    ends = [(histogram.low * fraction, histogram.high * fraction) for fraction in FRACTIONS]
    return min(ends, key=lambda pair: cost(*pair))
