"""The `losses` argument: none, one, or several with weights."""

import math
import numbers
from collections.abc import Sequence

import keras

from tfsqueeze.distillation.keras_loss import KerasLoss
from tfsqueeze.distillation.loss import DistillationLoss

Losses = (
    DistillationLoss
    | keras.distillation.DistillationLoss
    | Sequence["DistillationLoss | tuple[DistillationLoss, float]"]
    | None
)


def read_losses(losses: Losses) -> list[tuple[DistillationLoss, float]]:
    """The losses with their weights; an empty list for None.

    Raises:
        TypeError: if something is no loss and no pair of a loss and its weight.
        ValueError: if a weight is no finite number >= 0, or the list is empty.
    """
    if losses is None:
        return []
    listed = list(losses) if isinstance(losses, (list, tuple)) else [losses]
    if isinstance(losses, tuple) and len(losses) == 2 and isinstance(losses[1], numbers.Real):
        listed = [losses]
    if not listed:
        raise ValueError("`losses` is empty. Leave it out for soft targets, or list at least one loss.")
    return [_with_weight(entry) for entry in listed]


def metric_names(losses: list[tuple[DistillationLoss, float]]) -> list[str]:
    """A name for each loss; equal ones are numbered from the second on."""
    names: list[str] = []
    for loss, _ in losses:
        taken = sum(other.split("#")[0] == loss.name for other in names)
        names.append(f"{loss.name}#{taken + 1}" if taken else loss.name)
    return [name.replace("#", "_") for name in names]


def _with_weight(entry) -> tuple[DistillationLoss, float]:
    loss, weight = entry if isinstance(entry, (tuple, list)) and len(entry) == 2 else (entry, 1.0)
    if isinstance(loss, keras.distillation.DistillationLoss):
        loss = KerasLoss(loss)
    if not isinstance(loss, DistillationLoss):
        raise TypeError(
            "`losses` takes one loss or a list of losses or (loss, weight) pairs, such as "
            "[tfs.distillation.SoftTargets(), (tfs.distillation.Features('conv3'), 0.1)]. "
            f"Received: {entry!r}."
        )
    if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not 0 <= weight < math.inf:
        raise ValueError(f"The weight of {loss!r} must be a number >= 0. Received: {weight!r}.")
    return loss, float(weight)
