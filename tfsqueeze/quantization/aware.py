"""`quantize_aware`: a model that rounds its weights and activations while it trains."""

import functools
from collections.abc import Mapping

import keras

from tfsqueeze.core import copying
from tfsqueeze.core.checks import UnsupportedModelError, check_graph
from tfsqueeze.core.constant_features import settle_constant_features
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.quantization import behaviour
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.attention import (
    QuantizedAttention,
    copy_attention,
    inner_quantizers,
    projections,
)
from tfsqueeze.quantization.config import QuantizationConfig, as_config
from tfsqueeze.quantization.measuring import measure_ranges
from tfsqueeze.quantization.ranges import BEFORE_RANGE, Placement, place_ranges
from tfsqueeze.quantization.targets import find_targets
from tfsqueeze.quantization.wrapper import QuantizedLayer, QuantizedSeparable


def quantize_aware(
    model: keras.Model,
    config: str | QuantizationConfig | Mapping = "int8",
    *,
    select=None,
    overrides: Mapping | None = None,
    kernels: Mapping | None = None,
    data=None,
) -> keras.Model:
    """Makes a copy of `model` that learns to compute with integers.

    Kernels and activations are rounded in the forward pass as the exported file will round them, while the
    float kernels are what is trained. Train it as any other model, then call
    `tfs.export_tflite(qat, path, quantize="int8")`, which needs no calibration data.

    Args:
        model: a built Sequential or Functional model, nested ones included; it is not changed.
        config: a preset ("int8", "int16x8", "int4": 4-bit weights with 8-bit activations, "ternary",
            "binary"), a `tfs.QuantizationConfig`, or a dict of what differs from "int8".
        select: which layers have their kernels rounded; see `tfs.Select`. Others are rounded by the
            exporter unless they give the model's output.
        overrides: another configuration for some layers: by what a `select` takes, for example
            `{"head": "int8", keras.layers.DepthwiseConv2D: {"weight_bits": 8}}`; the last that matches.
        kernels: the kernels of layers of your own, by class: `{MyDense: ("kernel",)}`; output channels
            last. Without it they stay float and are listed.
        data: typical inputs, as `model.fit` takes them, to measure activation ranges on, so that training
            starts from the accuracy of post-training quantization. Without, the first steps measure them.

    Returns:
        A new model, compiled as `model` was. `tfs.explain` lists what was done.

    Raises:
        UnsupportedModelError: if the model was never built, has no graph, or is quantized already.
        ValueError: if an option is unknown or a selection matches nothing.

    Example:
        >>> qat = tfs.quantize_aware(model, "int8", data=x_train[:500])
        >>> qat.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> qat.fit(x_train, y_train, epochs=3)
        >>> tfs.export_tflite(qat, "model.tflite", quantize="int8")

    Source: Jacob et al., arXiv:1712.05877; Krishnamoorthi, Quantizing deep convolutional networks for
    efficient inference, arXiv:1806.08342.
    """
    check_graph(model, "quantize_aware()")
    check_not_quantized(model)
    settings = as_config(config)
    targets, skipped, floats = find_targets(model, settings, select, overrides, kernels)
    placements = place_ranges(
        model,
        lambda **options: _quantizer(settings, **options),
        lambda layer: _is_left_float(layer, targets),
        floats,
    )
    writer = _Writer(targets, placements)
    twin = rewrite(model, writer.replace, after=writer.after, transfer=writer.transfer)
    settle_constant_features(twin)
    if data is not None:
        measure_ranges(twin, data)
    return record(twin, "quantize_aware", writer.done, skipped)


def is_quantization_aware(model: keras.Model) -> bool:
    """Whether a model has layers of ours that round."""
    return any(isinstance(layer, (QuantizedLayer, ActivationQuantizer)) for layer in model._flatten_layers())


def check_not_quantized(model) -> None:
    """Raises `UnsupportedModelError` if a model is quantized already, by us or by Keras."""
    if is_quantization_aware(model):
        raise UnsupportedModelError(
            f"Model {model.name!r} is quantization-aware already. Train it as it is, or undo it with "
            "`tfs.strip_quantization(model)` first."
        )
    modes = [layer.name for layer in model._flatten_layers() if getattr(layer, "quantization_mode", None)]
    if modes:
        raise UnsupportedModelError(
            f"The layers {modes} of model {model.name!r} hold integer weights already (`quantize()` of "
            "Keras), which cannot be trained. Start from the float model."
        )


def _quantizer(settings, name=None, slots=1, fixed=None, several=False) -> ActivationQuantizer:
    # A layer called on several tensors must span them all; an average would cut off the wider ones.
    by_average = settings.ranges in ("moving_average", "percentile", "mse")
    return ActivationQuantizer(
        bits=settings.activation_bits,
        symmetric=settings.symmetric,
        ranges="min_max" if several and by_average else settings.ranges,
        momentum=settings.momentum,
        percentile=settings.percentile,
        slots=slots,
        fixed=fixed if settings.activation_bits == 8 and not settings.symmetric else None,
        name=name,
    )


def _is_left_float(operation, targets) -> bool:
    from tfsqueeze.core.layer_info import kernels

    return isinstance(operation, keras.Layer) and bool(kernels(operation)) and id(operation) not in targets


class _Writer:
    """What stands in the place of each layer, and behind it."""

    def __init__(self, targets, placements: dict[int, Placement]):
        self._targets, self._placements = targets, placements
        self.done: dict[str, dict] = {}

    def replace(self, layer):
        target = self._targets.get(id(layer))
        name = self._new_name(layer)
        if target is None:
            return _renamed(layer, name) if name != layer.name else None
        self.done[target.path] = {
            "weights": f"{target.config.weights}, {target.config.stored_bits} bits",
            "activations": f"{target.config.activation_bits} bits",
        }
        return _wrapped(layer, target, name)

    def after(self, operation):
        placement = self._placements.get(id(operation))
        return None if placement is None else placement.layers()

    def transfer(self, old, new_layers) -> None:
        (new,) = new_layers
        if isinstance(new, QuantizedAttention):
            copy_attention(old, new.layer, baked=False)
            for dense in projections(new.layer).values():
                dense.start_scales()
            return
        copying.copy_state(old, new.layer if isinstance(new, QuantizedLayer) else new)
        if isinstance(new, QuantizedLayer):
            new.start_scales()

    def _new_name(self, layer) -> str:
        placement = self._placements.get(id(layer))
        is_taken = placement is not None and placement.quantizer.name == layer.name
        return f"{layer.name}{BEFORE_RANGE}" if is_taken else layer.name


def _renamed(layer, name: str) -> keras.Layer:
    twin = copying.copy_layer(layer)
    twin.name = name
    return twin


def _wrapped(layer, target, name: str) -> keras.Layer:
    twin, config = copying.copy_layer(layer), target.config
    options = {
        "weights": config.weights,
        "bits": config.weight_bits,
        "per_channel": config.per_channel,
        "name": name,
    }
    if isinstance(layer, keras.layers.MultiHeadAttention):
        inner = inner_quantizers(functools.partial(_quantizer, config), layer.name)
        return QuantizedAttention(twin, inner, **options)
    options["kernel_names"] = target.kernel_names
    if not behaviour.is_fused_activation(getattr(layer, "activation", None)):
        options["activation"] = layer.activation
        options["quantizer"] = _quantizer(config, name=f"{layer.name}_before_activation")
        twin.activation = keras.activations.linear
    if isinstance(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)):
        return QuantizedSeparable(twin, between=_quantizer(config, name=f"{layer.name}_between"), **options)
    return QuantizedLayer(twin, **options)
