"""Keeping zeros at zero in the training step itself."""

import keras
import numpy as np
from keras import ops


class MaskConstraint(keras.constraints.Constraint):
    """A variable's constraint that sets masked weights to zero after every optimizer step.

    It runs inside the compiled training step, after a constraint that was there before. It lives only on
    the variable during training, never in a layer's configuration, so it is not serialized.

    Args:
        variable: the kernel to keep sparse; its present constraint, if any, is applied first.
    """

    def __init__(self, variable: keras.Variable):
        self.variable = variable
        self.previous = _without_mask(variable.constraint)
        self.mask = keras.Variable(
            ops.ones(variable.shape, "bool"), dtype="bool", trainable=False, name=f"{variable.name}_mask"
        )

    def __call__(self, weights):
        if self.previous is not None:
            weights = self.previous(weights)
        return ops.where(self.mask, weights, ops.zeros_like(weights))

    def install(self) -> None:
        """Puts the constraint on its variable."""
        self.variable.constraint = self

    def remove(self) -> None:
        """Puts back the constraint that was there before."""
        self.variable.constraint = self.previous

    def apply(self, variable: keras.Variable | None = None) -> int:
        """Sets masked weights to zero now, of its own or of another variable; returns how many were not."""
        variable = self.variable if variable is None else variable
        weights, mask = variable.numpy(), self.mask.numpy()
        revived = int(((weights != 0) & ~mask).sum())
        if revived:
            variable.assign(np.where(mask, weights, 0))
        return revived


def _without_mask(constraint):
    """The constraint behind a mask that an interrupted training has left in place."""
    return constraint.previous if isinstance(constraint, MaskConstraint) else constraint


def averages_of(constraints: list[MaskConstraint], optimizer) -> list:
    """The averages of the constrained variables that an optimizer keeps; empty without `use_ema=True`."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(inner, "use_ema", False) or not inner.built:
        return []
    averages = inner._model_variables_moving_average
    return [averages[inner._get_variable_index(constraint.variable)] for constraint in constraints]
