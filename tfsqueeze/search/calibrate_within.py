"""`calibrate_within`: as few layers in float as keep the score of a calibrated model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.checks import check_fraction
from tfsqueeze.core.data import Examples, collect, input_specs, pack_inputs
from tfsqueeze.core.explain import explain
from tfsqueeze.quantization.calibrate import calibrate
from tfsqueeze.quantization.config import QuantizationConfig
from tfsqueeze.quantization.targets import FLOAT
from tfsqueeze.quantization.wrapper import quantized_layers
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.quantization_errors import QuantizationErrors, quantization_errors
from tfsqueeze.search.scoring import Scorer

BATCH_SIZE = 64
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Trade:
    """One mixture that was tried.

    Attributes:
        float_layers: paths of the layers kept in float.
        score: of the quantized model.
        bytes: of all weights as stored.
    """

    float_layers: tuple[str, ...]
    score: float
    bytes: int


@dataclass(frozen=True, repr=False)
class CalibratedWithin(Presentation):
    """A calibrated model that keeps a score. Print it for the trade of size against score.

    Attributes:
        model: the quantized model; export it as that of `tfs.calibrate`.
        baseline: the score of the float model.
        score: the score of `model`.
        least: the score that was to be kept.
        float_layers: paths of the layers kept in float.
        trades: every mixture tried, by number of float layers.
        errors: the analysis by which layers were chosen; None if none had to be.
        metric: what the score is.
    """

    model: keras.Model
    baseline: float
    score: float
    least: float
    float_layers: tuple[str, ...]
    trades: list[Trade] = field(default_factory=list)
    errors: QuantizationErrors | None = None
    metric: str = "score"

    @property
    def is_within(self) -> bool:
        """Whether the score was kept."""
        return self.score >= self.least

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model as plain data."""
        whole = {name: getattr(self, name) for name in ("baseline", "score", "least", "metric")}
        return {
            **whole,
            "float_layers": list(self.float_layers),
            "trades": [{**vars(trade), "float_layers": list(trade.float_layers)} for trade in self.trades],
        }

    def tables(self):
        """One row per mixture tried."""
        rows = [
            [", ".join(trade.float_layers) or "none", f"{trade.bytes:,}", f"{trade.score:.4f}"]
            for trade in self.trades
        ]
        kept = "kept" if self.is_within else "NOT kept, not even with every layer in float"
        notes = [
            f"{self.metric}: {self.baseline:.4f} in float; at least {self.least:.4f} was asked for: {kept}."
        ]
        return [Table("Layers kept in float", ["float layers", "weight bytes", self.metric], rows, notes)]


def calibrate_within(
    model: keras.Model,
    data,
    config: str | QuantizationConfig | Mapping = "int8",
    *,
    max_drop: float = 0.01,
    evaluate: Callable[[keras.Model], float] | Any = None,
    overrides: Mapping | None = None,
    **options,
) -> CalibratedWithin:
    """Calibrates a model, and keeps the few most damaging layers in float until it scores as asked for.

    If the calibrated model falls short, layers are ranked by what they cost alone, and the least number of
    the most damaging ones that suffices is searched by bisection, each mixture calibrated anew.

    Args:
        model: a trained Sequential or Functional model; it is not changed.
        data: typical inputs in any form `model.fit` takes.
        config: what to quantize to, as in `tfs.calibrate`.
        max_drop: how far the score may fall below that of the float model, in [0, 1): 0.01 is a point of
            accuracy, or of agreement.
        evaluate: a function `model -> float`, higher being better, or labelled examples, as in
            `tfs.sensitivity`. None takes the agreement with the float model on `data`: the share of examples
            with the same greatest output, and where outputs are single numbers, 1 minus the relative error.
        overrides: settings of layers, as in `tfs.calibrate`.
        **options: the other options of `tfs.calibrate`.

    Returns:
        A `CalibratedWithin`. Its `model` is the last mixture if none is good enough: look at `is_within`.

    Raises:
        UnsupportedModelError, ValueError: as `tfs.calibrate`.

    Example:
        >>> found = tfs.calibrate_within(model, x_train[:500], "int4", max_drop=0.01, evaluate=(x_val, y_val))
        >>> print(found)
        >>> tfs.export_tflite(found.model, "model.tflite", quantize="int4")

    Source: the greedy mixed precision of AIMET and NNCF's `quantize_with_accuracy_control`.
    """
    check_fraction("max_drop", max_drop)
    search = _Search(model, data, config, overrides, options)
    score = Scorer(evaluate, model) if evaluate is not None else _Agreement(model, data, options)
    baseline = score(model)
    least = baseline - max_drop
    tried: dict[int, tuple[Trade, keras.Model]] = {}

    def attempt(order, count: int) -> bool:
        quantized = search.mixture(order[:count])
        tried[count] = Trade(tuple(order[:count]), score(quantized), weight_bytes(quantized)), quantized
        return tried[count][0].score >= least

    errors, best = None, 0
    if not attempt([], 0):
        errors = search.errors(None if evaluate is None else evaluate)
        order = _selectable(errors.most_damaging(), explain(tried[0][1]).done)
        best = _fewest(lambda count: attempt(order, count), len(order))
    trade, quantized = tried[best]
    trades = [tried[count][0] for count in sorted(tried)]
    return CalibratedWithin(
        quantized, baseline, trade.score, least, trade.float_layers, trades, errors, score.name
    )


class _Search:
    """Mixtures of one model."""

    def __init__(self, model, data, config, overrides, options):
        self._model, self._data, self._config = model, data, config
        self._overrides, self._options = dict(overrides or {}), options

    def mixture(self, floats) -> keras.Model:
        overrides = {**self._overrides, **dict.fromkeys(floats, FLOAT)}
        return calibrate(self._model, self._data, self._config, overrides=overrides, **self._options)

    def errors(self, evaluate) -> QuantizationErrors:
        shared = ("equalize", "ranges", "select", "kernels")
        options = {name: self._options[name] for name in shared if name in self._options}
        return quantization_errors(
            self._model,
            self._data,
            self._config,
            evaluate=evaluate,
            overrides=self._overrides,
            **options,
        )


class _Agreement:
    """How far a model agrees with the float one on data, from 0 to 1."""

    name = "agreement with float"

    def __init__(self, model, data, options):
        examples = collect(data, input_specs(model), limit=options.get("samples", 1024))
        self._batches = list(examples.batches(BATCH_SIZE))
        self._expected = self._outputs(model)

    def __call__(self, model) -> float:
        pairs = zip(self._expected, self._outputs(model), strict=True)
        return float(np.mean([_agreement(expected, given) for expected, given in pairs]))

    def _outputs(self, model) -> list[np.ndarray]:
        def run(batch: Examples):
            return keras.tree.flatten(model(pack_inputs(model, batch.inputs), training=False))

        parts = zip(*map(run, self._batches), strict=True)
        return [np.concatenate([np.asarray(value, "float32") for value in part]) for part in parts]


def weight_bytes(quantized: keras.Model) -> int:
    """Bytes of all weights as a file stores them: rounded kernels in their bits, everything else in float."""
    kernels = [(layer, v) for layer in quantized_layers(quantized) for _, v in layer.kernels()]
    rounded = {id(variable) for _, variable in kernels}
    bits = sum(int(np.prod(variable.shape)) * layer.stored_bits for layer, variable in kernels)
    rest = sum(int(np.prod(v.shape)) for v in quantized.weights if id(v) not in rounded)
    return (bits + 7) // 8 + rest * FLOAT_BYTES


def _selectable(paths: list[str], targets) -> list[str]:
    """The layers that can be kept in float as a whole, in the order of their worst part."""
    owners = [t for path in paths for t in targets if path == t or path.startswith(f"{t}/")]
    return list(dict.fromkeys(owners))


def _agreement(expected: np.ndarray, given: np.ndarray) -> float:
    if expected.shape[-1] > 1:
        return float((expected.argmax(-1) == given.argmax(-1)).mean())
    variance = float(np.square(expected - expected.mean()).mean())
    return max(0.0, 1.0 - float(np.square(given - expected).mean()) / max(variance, 1e-12))


def _fewest(is_enough: Callable[[int], bool], most: int) -> int:
    """The least count that is enough, taking more for never worse; `most` if none is."""
    low, high = 0, 1
    while high < most and not is_enough(high):
        low, high = high, min(2 * high, most)
    if high == most and not is_enough(most):
        return most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
