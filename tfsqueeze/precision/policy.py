"""The precision of layers that are made from now on."""

import warnings

import keras

from tfsqueeze.core import devices
from tfsqueeze.core.checks import check_choice
from tfsqueeze.precision import hardware

PRECISIONS = ("auto", "float32", "float16", "bfloat16")


def set_mixed_precision(precision: str = "auto") -> keras.DTypePolicy:
    """Sets in which precision layers made from now on compute; their weights stay float32.

    Build the model afterwards, and pass it through `tfs.with_precision`, which makes its outputs float32;
    that also converts a model that exists already. Compiled under float16, Keras scales the loss.

    Args:
        precision: "float16", "bfloat16" or "float32" (which ends mixed precision), or "auto": what is fast on
            this machine. On a CPU float16 is never used: TensorFlow has no kernels for it there and trains
            many times slower than in float32; what "auto" finds is used instead, with a warning.

    Returns:
        The policy that is now Keras' default, as `keras.config.dtype_policy()`.

    Raises:
        ValueError: if `precision` is none of these.

    Example:
        >>> tfs.set_mixed_precision("auto")
        >>> model = tfs.with_precision(build_model(), "auto")

    Source: Micikevicius et al., Mixed Precision Training, arXiv:1710.03740; Kalamkar et al., A Study of
    BFLOAT16 for Deep Learning Training, arXiv:1905.12322.
    """
    precision = plain_name(precision)
    if precision == "float16" and devices.on_cpu():
        precision = hardware.fastest_precision()
        warnings.warn(
            "float16 is not used on a CPU: TensorFlow has no kernels for it there and would train many times "
            f"slower than in float32. Layers are made in {precision}, which is fastest here. "
            "Use float16 on a GPU.",
            stacklevel=2,
        )
    else:
        precision = resolve(precision)
    keras.config.set_dtype_policy(policy_name(precision))
    return keras.config.dtype_policy()


def resolve(precision: str) -> str:
    """The precision asked for, with "auto" decided; warns where this machine is slow in it."""
    precision = plain_name(precision)
    if precision == "auto":
        return hardware.fastest_precision()
    if devices.on_cpu() and precision == "float16":
        warnings.warn(
            "float16 is many times slower than float32 on this machine's CPU; it is meant for a GPU.",
            stacklevel=3,
        )
    if devices.on_cpu() and precision == "bfloat16" and not hardware.cpu_has_bfloat16():
        warnings.warn(
            "This CPU has no bfloat16 instructions and is slower in it than in float32.", stacklevel=3
        )
    return precision


def plain_name(precision: str) -> str:
    """One of `PRECISIONS`; Keras' names of policies ("mixed_bfloat16") are understood too."""
    if isinstance(precision, keras.DTypePolicy):
        precision = precision.name
    name = precision.removeprefix("mixed_") if isinstance(precision, str) else precision
    return check_choice("precision", name, PRECISIONS)


def policy_name(precision: str) -> str:
    """Keras' name for computing in a precision with float32 weights."""
    return precision if precision == "float32" else f"mixed_{precision}"
