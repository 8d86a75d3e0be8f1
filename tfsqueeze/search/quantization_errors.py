"""`quantization_errors`: what rounding costs, layer by layer."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import check_model
from tfsqueeze.core.data import Examples, collect, input_specs, pack_inputs
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.calibrate import calibrate
from tfsqueeze.quantization.config import QuantizationConfig
from tfsqueeze.quantization.layer_repair import plain_paths
from tfsqueeze.quantization.measuring import activation_quantizers
from tfsqueeze.quantization.wrapper import QuantizedLayer, quantized_layers
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import UNKNOWN, Table
from tfsqueeze.search.scoring import Scorer

BATCH_SIZE = 64


@dataclass(frozen=True)
class LayerError:
    """What rounding one layer, or one tensor, costs.

    Attributes:
        weights_db: signal to noise ratio of its rounded kernels; None without kernels.
        outputs_db: signal to noise ratio of the model's outputs, the worst of them, when it alone rounds.
        loss: score lost when it alone rounds; None without a score.
        bytes: of its kernels as stored; 0 without kernels.
    """

    weights_db: float | None
    outputs_db: float
    loss: float | None = None
    bytes: int = 0


@dataclass(frozen=True, repr=False)
class QuantizationErrors(Presentation):
    """The cost of rounding per layer. Print it for a table.

    Attributes:
        layers: `LayerError` by path of the layer, or by name of the operation whose output is rounded.
        outputs_db: signal to noise ratio of the model's outputs, the worst of them, with everything rounded.
        baseline, score: the score in float and with everything rounded; None without a score.
        metric: what the score is.
        skipped: why layers with weights stay float, by path.
    """

    layers: dict[str, LayerError]
    outputs_db: float
    baseline: float | None = None
    score: float | None = None
    metric: str = ""
    skipped: dict[str, str] = field(default_factory=dict)

    def most_damaging(self) -> list[str]:
        """Paths of layers and names of tensors, the most damaging first: by lost score, then by outputs."""
        return sorted(self.layers, key=lambda p: (-(self.layers[p].loss or 0.0), self.layers[p].outputs_db))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; an exact match has the ratio None."""
        layers = {
            path: {k: _finite(v) for k, v in vars(error).items()} for path, error in self.layers.items()
        }
        whole = {"outputs_db": _finite(self.outputs_db), "baseline": self.baseline, "score": self.score}
        return {**whole, "metric": self.metric, "layers": layers, "skipped": dict(self.skipped)}

    def tables(self):
        """One row per layer, the most damaging first."""
        columns = ["layer", "weights dB", "outputs dB"] + ["lost"] * (self.baseline is not None)
        rows = []
        for path in self.most_damaging():
            error = self.layers[path]
            lost = [] if error.loss is None else [f"{error.loss:+.4f}"]
            rows.append([path, _decibels(error.weights_db), _decibels(error.outputs_db), *lost])
        notes = [f"With everything rounded the outputs have {_decibels(self.outputs_db)} dB."]
        if self.baseline is not None:
            notes.append(f"{self.metric}: {self.baseline:.4f} in float, {self.score:.4f} rounded.")
        return [Table("Rounding one layer at a time", columns, rows, notes)]

    def plot(self, path=None):
        """Draws the signal to noise ratio per layer, the most damaging first.

        Args:
            path: an image file to write (.png, .svg, .pdf), or None.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        from tfsqueeze.search.errors_plot import plot_errors

        return plot_errors(self, path)


def quantization_errors(
    model: keras.Model,
    data,
    config: str | QuantizationConfig | Mapping = "int8",
    *,
    evaluate: Callable[[keras.Model], float] | Any = None,
    equalize: bool = False,
    ranges: str = "mse",
    select=None,
    overrides: Mapping | None = None,
    kernels: Mapping | None = None,
    samples: int = 256,
) -> QuantizationErrors:
    """Measures what rounding each layer alone does to the model: its weights and its output's activations.

    Weights are rounded to the nearest, so that the table tells where repair, more bits or float pay. It takes
    one run of the data, and one evaluation, per layer.

    Args:
        model: a trained Sequential or Functional model; it is not changed.
        data: typical inputs in any form `model.fit` takes.
        config: what to quantize to, as in `tfs.calibrate`.
        evaluate: a function `model -> float`, higher being better, or labelled examples, as in
            `tfs.sensitivity`; None measures the outputs alone.
        equalize, ranges, select, overrides, kernels: as in `tfs.calibrate`.
        samples: most examples of `data` to use.

    Returns:
        A `QuantizationErrors`. Print it for a table.

    Raises:
        UnsupportedModelError, ValueError: as `tfs.calibrate`.

    Example:
        >>> errors = tfs.quantization_errors(model, x_train[:200], evaluate=(x_test, y_test))
        >>> print(errors)
        >>> errors.most_damaging()[:3]

    Source: the analysis of AIMET's QuantAnalyzer; Nagel et al., arXiv:2106.08295, section 3.7.
    """
    check_model(model, "quantization_errors()")
    options = {"select": select, "overrides": overrides, "kernels": kernels}
    quantized = calibrate(
        model,
        data,
        config,
        equalize=equalize,
        ranges=ranges,
        rounding="nearest",
        correct_bias=False,
        samples=samples,
        **options,
    )
    examples = collect(data, input_specs(model), limit=samples)
    probe = _Probe(quantized, examples, None if evaluate is None else Scorer(evaluate, quantized))
    parts = dict(_parts(quantized))
    baseline = probe.score([])
    errors = {path: probe.error(layers, baseline) for path, layers in parts.items()}
    everything = [layer for layers in parts.values() for layer in layers]
    return QuantizationErrors(
        errors,
        probe.ratio(everything),
        baseline,
        probe.score(everything),
        probe.metric,
        dict(quantized._tfsqueeze_explanation.skipped),
    )


class _Probe:
    """Runs a quantized model with some of its layers rounding."""

    def __init__(self, model, examples: Examples, scorer: Scorer | None):
        self._model, self._scorer = model, scorer
        self._batches = list(examples.batches(BATCH_SIZE))
        self._all = [*quantized_layers(model), *activation_quantizers(model)]
        for layer in self._all:
            layer.is_rounding = tf.Variable(True, trainable=False)
        self._expected = self._outputs([])

    @property
    def metric(self) -> str:
        return "" if self._scorer is None else self._scorer.name

    def error(self, layers, baseline) -> LayerError:
        wrappers = [layer for layer in layers if isinstance(layer, QuantizedLayer)]
        pairs = [(np.asarray(v), w.baked()[k.attribute]) for w in wrappers for k, v in w.kernels()]
        weights = min((signal_to_noise(a, b) for a, b in pairs), default=None)
        size = sum(v.size * w.stored_bits for w in wrappers for v in w.baked().values()) // 8
        score = self.score(layers)
        return LayerError(weights, self.ratio(layers), None if score is None else baseline - score, size)

    def ratio(self, layers) -> float:
        pairs = zip(self._expected, self._outputs(layers), strict=True)
        return min(signal_to_noise(expected, given) for expected, given in pairs)

    def score(self, layers) -> float | None:
        if self._scorer is None:
            return None
        self._round(layers)
        try:
            return self._scorer(self._model)
        finally:
            self._round(self._all)

    def _outputs(self, layers) -> list[np.ndarray]:
        self._round(layers)
        try:
            parts = [
                keras.tree.flatten(self._model(pack_inputs(self._model, batch.inputs), training=False))
                for batch in self._batches
            ]
        finally:
            self._round(self._all)
        return [
            np.concatenate([np.asarray(value, "float32") for value in part])
            for part in zip(*parts, strict=True)
        ]

    def _round(self, layers) -> None:
        chosen = set(map(id, layers))
        for layer in self._all:
            layer.is_rounding.assign(id(layer) in chosen)


def signal_to_noise(expected: np.ndarray, given: np.ndarray) -> float:
    """Ratio of the power of `expected` to that of the difference, in decibels."""
    noise = float(np.square(np.asarray(given, "float64") - expected).mean())
    signal = float(np.square(np.asarray(expected, "float64")).mean())
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-30) / noise)


def _parts(model) -> Iterator[tuple[str, list[keras.Layer]]]:
    """Each wrapped layer with what rounds its output, then the quantizers of other tensors."""
    paths, taken = plain_paths(model), set()
    for wrapper in quantized_layers(model):
        own = [q for q in wrapper._flatten_layers() if isinstance(q, ActivationQuantizer)]
        behind = _quantizer_behind(wrapper)
        own += [] if behind is None else [behind]
        taken |= set(map(id, own))
        yield paths[id(wrapper)], [wrapper, *own]
    for quantizer in activation_quantizers(model):
        if id(quantizer) not in taken:
            yield f"{quantizer.name.removesuffix('_range')} (output)", [quantizer]


def _quantizer_behind(layer) -> ActivationQuantizer | None:
    """What rounds the output of a layer, behind operations that become one with it."""
    while len(layer._outbound_nodes) == 1:
        layer = layer._outbound_nodes[0].operation
        if isinstance(layer, ActivationQuantizer):
            return layer if layer.slots == 1 else None
        if len(getattr(layer, "_inbound_nodes", [])) != 1 or len(layer._inbound_nodes[0].input_tensors) != 1:
            return None
    return None


def _decibels(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return "exact" if math.isinf(value) else f"{value:.1f}"


def _finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
