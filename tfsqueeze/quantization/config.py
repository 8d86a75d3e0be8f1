"""What to quantize to: the typed configuration, its presets, and settings per layer."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from tfsqueeze.core.checks import check_choice, check_fraction
from tfsqueeze.quantization.methods import METHODS
from tfsqueeze.quantization.observers import OBSERVERS


def _check_bits(name: str, value, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= most:
        raise ValueError(
            f"`{name}` must be a whole number from 2 to {most}. Received: {name}={value!r}. For 1 bit use "
            'weights="binary".'
        )


@dataclass(frozen=True)
class QuantizationConfig:
    """How weights and activations are quantized in training.

    Attributes:
        weight_bits: 2 to 8; for methods with a grid of their own ("ternary", "binary", ...) it is not used.
        weights: how kernels are rounded: "uniform" (to the greatest magnitude), "clipped" (the step of least
            squared error), "learned_step" (LSQ), or one of the low-bit estimators "ternary",
            "ternary_fixed", "ternary_stochastic", "ternary_trained", "binary", "binary_stochastic",
            "binary_trained", "dorefa", "ternary_loss_aware", "binary_loss_aware" (these two train with a
            `tfs.QuantizationCallback`, which brings them the optimizer's curvature).
        per_channel: one scale per output channel instead of one per kernel.
        activation_bits: 2 to 16; `.tflite` kernels compute with 8 or 16, others are emulated in training.
        symmetric: whether activation ranges are centred at 0.
        ranges: how activation ranges are found: "moving_average", "min_max" (the extremes ever seen),
            "percentile", "mse" (least squared rounding error), or "learned" (trained like weights).
        momentum: share of the old range kept per step, for all but "min_max" and "learned".
        percentile: part of the values inside the range, in percent, for "percentile".
        first_and_last_bits: weight bits of the first and the last layer with a kernel when the others have
            fewer; None treats them alike.

    Example:
        >>> config = tfs.QuantizationConfig(weight_bits=4, weights="learned_step", ranges="percentile")
        >>> qat = tfs.quantize_aware(model, config)
    """

    weight_bits: int = 8
    weights: str = "uniform"
    per_channel: bool = True
    activation_bits: int = 8
    symmetric: bool = False
    ranges: str = "moving_average"
    momentum: float = 0.99
    percentile: float = 99.99
    first_and_last_bits: int | None = 8

    def __post_init__(self):
        _check_bits("weight_bits", self.weight_bits, 8)
        _check_bits("activation_bits", self.activation_bits, 16)
        if self.first_and_last_bits is not None:
            _check_bits("first_and_last_bits", self.first_and_last_bits, 8)
        check_choice("weights", self.weights, METHODS)
        check_choice("ranges", self.ranges, OBSERVERS)
        check_fraction("momentum", self.momentum)
        if not 50 < self.percentile <= 100:
            raise ValueError(f"`percentile` must be in (50, 100]. Received: percentile={self.percentile!r}.")

    @property
    def stored_bits(self) -> int:
        """Bits a weight needs: 2 for ternary, 1 for binary, otherwise `weight_bits`."""
        return METHODS[self.weights].bits or self.weight_bits

    def at_the_edges(self) -> "QuantizationConfig":
        """The configuration of the first and the last layer with a kernel."""
        if self.first_and_last_bits is None or self.first_and_last_bits <= self.stored_bits:
            return self
        return replace(self, weight_bits=self.first_and_last_bits, weights="uniform")


PRESETS = {
    "int8": QuantizationConfig(),
    "int16x8": QuantizationConfig(activation_bits=16, symmetric=True),
    "int4": QuantizationConfig(weight_bits=4, weights="learned_step"),
    "ternary": QuantizationConfig(weight_bits=2, weights="ternary"),
    "binary": QuantizationConfig(weight_bits=2, weights="binary"),
}


def as_config(config, default: QuantizationConfig | None = None) -> QuantizationConfig:
    """A configuration from a preset's name, a configuration, or a dict of what differs from `default`."""
    if isinstance(config, QuantizationConfig):
        return config
    if isinstance(config, str):
        return PRESETS[check_choice("config", config, PRESETS)]
    if isinstance(config, Mapping):
        known = [field.name for field in fields(QuantizationConfig)]
        for name in config:
            check_choice("config", name, known)
        return replace(default or QuantizationConfig(), **config)
    raise TypeError(
        f"`config` takes a preset ({', '.join(map(repr, PRESETS))}), a tfs.QuantizationConfig or a dict of "
        f"its fields. Received: {config!r}."
    )
