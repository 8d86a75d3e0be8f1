"""What a criterion asks beyond the weights: their gradients, or where they were when training began."""

import keras
import numpy as np
from keras import optimizers

from tfsqueeze.core.targets import Target
from tfsqueeze.pruning.gradients import loss_gradients

GRADIENT, RMS_GRADIENT, START = "gradient", "rms gradient", "start"
FROM_LOSS = (GRADIENT, RMS_GRADIENT)

# Where Keras' optimizers keep their running means of gradients, and of squared gradients.
_MEANS = {
    optimizers.Adam: ("_momentums", "_velocities"),
    optimizers.Nadam: ("_momentums", "_velocities"),
    optimizers.Lamb: ("_momentums", "_velocities"),
    optimizers.RMSprop: ("_momentums", "_velocities"),
    optimizers.Adagrad: (None, "_accumulators"),
    optimizers.Lion: ("_momentums", None),
    optimizers.SGD: ("momentums", None),
}


def from_data(kind: str | None, model: keras.Model, targets: list[Target], data) -> list[np.ndarray | None]:
    """Evidence measured on labelled examples, without training.

    Args:
        kind: what the criterion asks for, None for nothing.
        model: a compiled model; it is not changed.
        targets: the kernels.
        data: examples with labels.

    Returns:
        One array per target, or None where the criterion asks for nothing.

    Raises:
        ValueError: if the evidence needs a training, or data are missing or without labels.
    """
    check_data(kind, data)
    if kind is None:
        return [None] * len(targets)
    return loss_gradients(model, targets, data, root_mean_square=kind == RMS_GRADIENT)


def check_data(kind: str | None, data) -> None:
    """Raises if evidence of this kind cannot be had from `data`."""
    if kind == START:
        raise ValueError(
            "This criterion looks at how weights moved in a training: use it with tfs.PruningCallback."
        )
    if kind is not None and data is None:
        raise ValueError(
            "This criterion needs `data`: inputs with labels, such as (x, y). Received: data=None."
        )


def from_optimizer(kind: str, optimizer, targets: list[Target]) -> list[np.ndarray]:
    """Evidence the training step has gathered: the optimizer's running mean of gradients or their squares.

    Args:
        kind: `GRADIENT` or `RMS_GRADIENT`.
        optimizer: the model's optimizer.
        targets: the kernels.

    Raises:
        ValueError: if the optimizer keeps no such mean, or has not made a step yet.
    """
    means = _means(kind, optimizer)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not int(keras.ops.convert_to_numpy(inner.iterations)):
        raise _too_early()
    found = [means[inner._get_variable_index(target.variable)].numpy() for target in targets]
    return [np.sqrt(mean) for mean in found] if kind == RMS_GRADIENT else found


def from_start(start: list[np.ndarray], targets: list[Target]) -> list[np.ndarray]:
    """Evidence of where weights were when training began.

    Raises:
        ValueError: if nothing has moved since.
    """
    if all(np.array_equal(old, target.variable.numpy()) for old, target in zip(start, targets, strict=True)):
        raise _too_early()
    return start


def check_optimizer(kind: str, optimizer) -> None:
    """Raises if a built optimizer does not gather this kind of evidence."""
    _means(kind, optimizer)


def _means(kind: str, optimizer) -> list:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    names = next((names for cls, names in _MEANS.items() if isinstance(inner, cls)), (None, None))
    means = getattr(inner, names[kind == RMS_GRADIENT] or "", None)
    if not means:
        raise ValueError(
            f"{type(inner).__name__} keeps no running mean of "
            f"{'squared ' if kind == RMS_GRADIENT else ''}gradients that this criterion could use: pass "
            "`data`, such as (x, y), or train with Adam. Received: data=None."
        )
    return means


def _too_early() -> ValueError:
    return ValueError(
        "This criterion cannot prune before the first training step unless it is given `data`. Let the "
        "sparsity begin at 0, such as tfs.schedules.Polynomial(0.0, 0.9, begin_step=0, end_step=2000)."
    )
