"""Holding weights to a rule in the training step itself."""

import keras
import numpy as np
from keras import ops


class Held(keras.constraints.Constraint):
    """A variable's constraint that makes its weights follow a rule after every optimizer step.

    It runs inside the compiled training step, after a constraint that was there before. It lives only on
    the variable during training, never in a layer's configuration, so it is not serialized. Those of
    several techniques can be on one variable.

    Args:
        variable: the variable to hold; its present constraint, if any, is applied first.
    """

    def __init__(self, variable: keras.Variable):
        self.variable = variable
        # An interrupted training may have left one of the same kind in place.
        present = variable.constraint
        self.previous = present.previous if isinstance(present, type(self)) else present

    def __call__(self, weights):
        return self.hold(weights if self.previous is None else self.previous(weights))

    def hold(self, weights):
        """The weights as the rule wants them, a tensor of the same shape and dtype."""
        raise NotImplementedError

    def install(self) -> None:
        """Puts the constraint on its variable."""
        self.variable.constraint = self

    def remove(self) -> None:
        """Takes the constraint off its variable, from behind others that came later too."""
        if self.variable.constraint is self:
            self.variable.constraint = self.previous
            return
        later = self.variable.constraint
        while isinstance(later, Held) and later.previous is not self:
            later = later.previous
        if isinstance(later, Held):
            later.previous = self.previous

    def apply(self, variable: keras.Variable | None = None) -> int:
        """Holds its own or another variable now; returns how many weights that changed."""
        variable = self.variable if variable is None else variable
        weights = variable.numpy()
        held = ops.convert_to_numpy(self.hold(ops.convert_to_tensor(weights)))
        changed = int(np.sum((held != weights) & ~(np.isnan(held) & np.isnan(weights))))
        if changed:
            variable.assign(held)
        return changed


def averages_of(constraints: list[Held], optimizer) -> list:
    """The averages of the held variables that an optimizer keeps; empty without `use_ema=True`."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(inner, "use_ema", False) or not inner.built:
        return []
    averages = inner._model_variables_moving_average
    return [averages[inner._get_variable_index(constraint.variable)] for constraint in constraints]
