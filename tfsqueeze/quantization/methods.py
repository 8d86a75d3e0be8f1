"""The ways to round a kernel, by the name a configuration gives them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tfsqueeze.quantization import estimators, rounding


@dataclass(frozen=True)
class Method:
    """One way to round a kernel.

    Attributes:
        round: called as `round(kernel, axes, bits, **trained)`; `axes` share one scale. Stochastic methods
            also take `training`.
        trained: start values of scales that are trained with the weights, by name, each from
            `start(kernel, axes, bits)`.
        bits: of its own grid; None where the grid follows from the `bits` asked for.
        is_stochastic: whether it draws at random while training.
        needs_curvature: whether it takes the loss's curvature per weight as `curvature`.
    """

    round: Callable
    trained: Mapping[str, Callable] = field(default_factory=dict)
    bits: int | None = None
    is_stochastic: bool = False
    needs_curvature: bool = False


METHODS = {
    "uniform": Method(rounding.uniform),
    "clipped": Method(rounding.clipped),
    "learned_step": Method(rounding.learned_step, {"log_step": rounding.log_of_least_error_scale}),
    "dorefa": Method(estimators.dorefa),
    "ternary": Method(estimators.ternarize, bits=2),
    "ternary_fixed": Method(estimators.ternarize_fixed, bits=2),
    "ternary_stochastic": Method(estimators.ternarize_stochastic, bits=2, is_stochastic=True),
    "ternary_trained": Method(
        estimators.ternarize_trained,
        {"positive": estimators.positive_scale, "negative": estimators.negative_scale},
        bits=2,
    ),
    "ternary_loss_aware": Method(estimators.ternarize_loss_aware, bits=2, needs_curvature=True),
    "binary_loss_aware": Method(estimators.binarize_loss_aware, bits=1, needs_curvature=True),
    "binary": Method(estimators.binarize, bits=1),
    "binary_stochastic": Method(estimators.binarize_stochastic, bits=1, is_stochastic=True),
    "binary_trained": Method(
        estimators.binarize_trained,
        {"low": estimators.low_constant, "high": estimators.high_constant},
        bits=1,
    ),
}
