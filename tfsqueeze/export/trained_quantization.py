"""Exporting models from `quantize_aware`: their ranges are trained, so there is nothing to calibrate."""

import contextlib
import math
import warnings
from collections.abc import Iterator

import keras

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.core.data import input_specs
from tfsqueeze.export.source import Source, keras_source
from tfsqueeze.export.wide_biases import widen_biases
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.aware import is_quantization_aware
from tfsqueeze.quantization.deployed import deployed
from tfsqueeze.quantization.measuring import activation_quantizers
from tfsqueeze.quantization.strip import strip_quantization
from tfsqueeze.quantization.wrapper import quantized_layers
from tfsqueeze.tflite.packing import pack_low_bits, unpacked_low_bits

_WITH_TRAINED_RANGES = ("int8", "int4")


def covers(model, quantize: str | None) -> bool:
    """Whether the trained ranges of `model` make this variant; others are made of its plain twin."""
    if not isinstance(model, keras.Model) or not is_quantization_aware(model):
        return False
    wide = any(quantizer.bits > 8 for quantizer in activation_quantizers(model))
    return quantize in _WITH_TRAINED_RANGES or (quantize == "int16x8" and wide)


def without(model: keras.Model) -> keras.Model:
    """The model without rounding of activations; itself if it has none."""
    return strip_quantization(model) if is_quantization_aware(model) else model


@contextlib.contextmanager
def trained_source(model: keras.Model, batch_size: int | None, quantize: str) -> Iterator[Source]:
    """The source of a quantization-aware model, as integer kernels will compute it.

    Raises:
        ValueError: if a range is NaN or infinite, or wider than `.tflite` kernels take.
    """
    _check_ranges(model, quantize)
    with keras_source(deployed(model), batch_size) as source:
        source.trained_ranges = True
        source.low_bits = any(layer.stored_bits < 8 for layer in quantized_layers(model))
        source.input_ranges = _input_ranges(model)
        yield source


def files(content: bytes, low_bits: bool) -> Iterator[tuple[str, bytes]]:
    """The file with low-bit weights packed, if it has any, then as it is, in case the first cannot run."""
    content = widen_biases(content)
    packed = pack_low_bits(content) if low_bits else None
    if packed is not None:
        yield "low-bit weights packed", packed
    yield "", content


def storage_notes(file) -> list[str]:
    """Tells of low-bit weights that are stored in more bits than they need."""
    loose = unpacked_low_bits(file.content)
    if not loose:
        return []
    stored, needed = (sum(sizes) for sizes in zip(*loose.values(), strict=True))
    return [
        f"{', '.join(sorted(loose))}: low-bit weights stay stored as 8-bit integers, because no `.tflite` "
        f"kernel takes fewer there ({stored:,} bytes; {needed:,} if packed)."
    ]


def _check_ranges(model, quantize: str) -> None:
    quantizers = activation_quantizers(model)
    broken = [q.name for q in quantizers if not all(map(math.isfinite, q.bounds()))]
    if broken:
        raise ValueError(
            f"The activation ranges {broken} are NaN or infinite: training diverged. Train anew with a lower "
            "learning rate, or measure them again with `tfs.quantize_aware(..., data=...)`."
        )
    wide = [q.name for q in quantizers if q.bits > 8]
    if wide and quantize != "int16x8":
        raise UnsupportedModelError(
            f"The activations {wide[:5]} were trained with more than 8 bits. Export with "
            'quantize="int16x8", which needs no data either.'
        )
    narrow = [q.name for q in quantizers if q.bits != 16 or not q.symmetric]
    if wide and narrow:
        raise UnsupportedModelError(
            f'quantize="int16x8" takes symmetric 16-bit activations, but {narrow[:5]} are others. Use '
            'config="int16x8" for the whole model.'
        )
    untrained = [q.name for q in quantizers if not q.is_trained]
    if untrained:
        warnings.warn(
            f"The activation ranges {untrained} were never trained, so the file will compute nothing useful "
            "there. Train the model, or pass data= to `tfs.quantize_aware`.",
            stacklevel=5,
        )


def _input_ranges(model) -> dict[str, tuple[float, float]]:
    """The range of each input that is rounded right away."""
    functional = getattr(model, "_functional", None) or model
    found = {}
    for spec, tensor in zip(input_specs(model), functional.inputs, strict=True):
        for node in tensor._keras_history.operation._outbound_nodes:
            if isinstance(node.operation, ActivationQuantizer) and node.operation.is_trained:
                found[spec.name] = node.operation.bounds()
    return found
