"""`calibrate`: a quantized model from a trained one and typical inputs, without training or labels."""

import math
from collections.abc import Mapping

import keras
import numpy as np

from tfsqueeze.core.checks import check_choice, check_graph, check_positive
from tfsqueeze.core.constant_features import settle_constant_features
from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.core.explain import explain, record
from tfsqueeze.core.refitting import PARTS
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.quantization.aware import check_not_quantized, quantize_aware
from tfsqueeze.quantization.config import QuantizationConfig
from tfsqueeze.quantization.equalization import equalize as equalize_channels
from tfsqueeze.quantization.layer_repair import repair_layers
from tfsqueeze.quantization.range_search import SEARCHES, search_ranges

BATCH_SIZE = 256
# Numbers in the inputs of one batch: activations are larger by some factor, and must fit the memory.
INPUTS_AT_ONCE = 2**21
ROUNDINGS = ("adaptive", "nearest")


def calibrate(
    model: keras.Model,
    data,
    config: str | QuantizationConfig | Mapping = "int8",
    *,
    equalize: bool = True,
    ranges: str = "mse",
    percentile: float = 99.99,
    rounding: str = "adaptive",
    correct_bias: bool = True,
    select=None,
    overrides: Mapping | None = None,
    kernels: Mapping | None = None,
    samples: int = 1024,
    seed: int = 0,
) -> keras.Model:
    """Makes a quantized copy of `model` from typical inputs alone, and repairs what rounding breaks.

    The copy is of the kind that `tfs.quantize_aware` returns, with its ranges and weights set: it computes as
    the integer file will, `tfs.export_tflite(quantized, path, quantize="int8")` needs no further data, and it
    can be trained on. Four means, each of which can be left out, make good for the error:

    1. `equalize`: channels of a tensor between two kernels are scaled to like ranges, which the kernels undo.
    2. `ranges`: each activation's range is searched on the distribution of all its values.
    3. `rounding="adaptive"`: layer by layer, weights are refitted and rounded so that the layer gives what it
       gives in the float model, from what it receives in the quantized one.
    4. `correct_bias`: biases take up the error's mean.

    It takes two runs of the data up to each layer; in large models use fewer `samples`.

    Args:
        model: a trained Sequential or Functional model, nested ones included; it is not changed.
        data: typical inputs in any form `model.fit` takes; labels are not used. Some hundreds do; 4 bits
            gain by a thousand and more.
        config: as in `tfs.quantize_aware`: a preset ("int8", "int4", ...), a `tfs.QuantizationConfig`, or a
            dict of what differs from "int8".
        equalize: whether to scale channels between layers (cross-layer equalization).
        ranges: "mse" (least squared error; where softmax reads the values, that of the probabilities),
            "min_max", "percentile", or "entropy" (least Kullback-Leibler divergence). Activations with a
            known range, such as softmax, keep it.
        percentile: part of the values inside the range, in percent, for ranges="percentile".
        rounding: "adaptive" or "nearest".
        correct_bias: whether to correct biases.
        select, overrides, kernels: as in `tfs.quantize_aware`.
        samples: most examples to read, >= 1.
        seed: of the positions drawn in images and sequences.

    Returns:
        A new model, compiled as `model` was. `tfs.explain` lists what was done to each layer: the factors its
        channels were scaled by, and the error of its outputs (relative to their variance, on examples held
        out), rounded to the nearest and repaired.

    Raises:
        UnsupportedModelError: if the model was never built, has no graph, or is quantized already.
        ValueError: if an option is unknown, a selection matches nothing, or the data do not fit or hold
            NaN or infinity.

    Example:
        >>> quantized = tfs.calibrate(model, x_train[:1000], "int8")
        >>> print(tfs.explain(quantized))
        >>> tfs.export_tflite(quantized, "model.tflite", quantize="int8")

    Source: the order of the steps as in Nagel et al., A White Paper on Neural Network Quantization,
    arXiv:2106.08295, section 3.7; each step names its own.
    """
    check_graph(model, "calibrate()")
    check_not_quantized(model)
    check_choice("ranges", ranges, SEARCHES)
    check_choice("rounding", rounding, ROUNDINGS)
    check_positive("samples", samples)
    if not 50 < percentile <= 100:
        raise ValueError(f"`percentile` must be in (50, 100]. Received: percentile={percentile!r}.")
    batches = _batches(model, data, samples)
    base = rewrite(model)
    settle_constant_features(base)
    factors = equalize_channels(base, batches) if equalize else {}
    quantized = quantize_aware(base, config, select=select, overrides=overrides, kernels=kernels)
    search_ranges(quantized, batches, ranges, percentile)
    told = explain(quantized)
    done, skipped = {path: dict(facts) for path, facts in told.done.items()}, dict(told.skipped)
    if rounding == "adaptive" or correct_bias:
        repaired = repair_layers(
            base, quantized, batches, rounding=rounding == "adaptive", bias=correct_bias, seed=seed
        )
        for path, (before, after) in repaired.errors.items():
            done.setdefault(path, {})["error"] = f"{before:.2g} -> {after:.2g}"
        for path, reason in repaired.skipped.items():
            done.setdefault(path, {})["not repaired"] = reason
    for path, facts in done.items():
        scales = factors.get(path.rsplit("/", 1)[-1])
        if scales is not None:
            facts["channels divided by"] = f"{scales.min():.2g} to {scales.max():.2g}"
    return record(quantized, "calibrate", done, skipped)


def _batches(model, data, samples: int):
    """The examples in batches, at least `PARTS` of them where there are examples enough."""
    examples = collect(data, input_specs(model), limit=samples)
    for name, values in examples.inputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(
                f"`data` must be finite. Received NaN or infinity in input {name!r}. Clean the data first."
            )
    size = sum(values[0].size for values in examples.inputs.values())
    most = max(min(BATCH_SIZE, INPUTS_AT_ONCE // max(size, 1)), 1)
    return list(examples.batches(min(most, max(math.ceil(len(examples) / PARTS), 1))))
