"""The curvature of the loss per weight, as adaptive optimizers estimate it."""

import keras

from tfsqueeze.core.checks import UnsupportedModelError

_SMALLEST = 1e-8
_SECOND_MOMENTS = ("_velocities", "_accumulators")


def bring_curvature(optimizer, pairs: list[tuple[keras.Variable, keras.Variable]]) -> None:
    """Copies the square root of an optimizer's second moment of each kernel's gradient.

    Args:
        optimizer: a built optimizer that keeps second moments (Adam and its kin, RMSprop, Adagrad).
        pairs: kernels, each with the variable that takes its curvature.

    Raises:
        UnsupportedModelError: if the optimizer keeps none.

    Source: Hou et al., arXiv:1611.01600, section 3.3 (Adam's second moment as the diagonal Hessian).
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    moments = next((getattr(inner, name) for name in _SECOND_MOMENTS if getattr(inner, name, None)), None)
    if moments is None:
        raise UnsupportedModelError(
            f"Loss-aware rounding takes the curvature from the optimizer's second moments, which "
            f"{type(inner).__name__} does not keep. Train with Adam, AdamW, Nadam, RMSprop or Adagrad."
        )
    for kernel, curvature in pairs:
        moment = moments[inner._get_variable_index(kernel)]
        curvature.assign(keras.ops.sqrt(moment) + _SMALLEST)
