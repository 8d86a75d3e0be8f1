"""Keeping shared values shared in the training step itself."""

import keras
import numpy as np
from keras import ops


class SharedValues(keras.constraints.Constraint):
    """A variable's constraint that sets each weight to the mean of its group after every optimizer step.

    Weights that were equal when it was made form a group, so that a group's value moves by the mean of
    its members' updates. It runs inside the compiled training step, after a constraint that was there
    before. It lives only on the variable during training, so it is not serialized.

    Args:
        variable: a kernel whose values are shared.
        keep_zeros: whether the group of zeros stays zero.
    """

    def __init__(self, variable: keras.Variable, keep_zeros: bool = True):
        self.variable = variable
        self.previous = _without_sharing(variable.constraint)
        self.keep_zeros = keep_zeros
        values, first, groups, counts = np.unique(
            variable.numpy().ravel(), return_index=True, return_inverse=True, return_counts=True
        )
        self.groups = held(groups, "int32", f"{variable.name}_groups")
        self.first = held(first, "int32", f"{variable.name}_first")
        self.counts = held(counts, "float32", f"{variable.name}_counts")
        self.moves = held((values != 0) | (not keep_zeros), "float32", f"{variable.name}_moves")

    def __call__(self, weights):
        return self.share(weights if self.previous is None else self.previous(weights))

    def share(self, weights):
        """A tensor of the variable's shape with each entry replaced by the mean of its group."""
        flat = ops.reshape(ops.cast(weights, "float32"), (-1,))
        # Around one member rather than around zero: sums of millions of equal numbers lose their digits.
        reference = ops.take(flat, self.first)
        deviation = self.means(flat - ops.take(reference, self.groups))
        shared = (reference + deviation) * ops.convert_to_tensor(self.moves)
        return ops.cast(ops.reshape(ops.take(shared, self.groups), weights.shape), weights.dtype)

    def means(self, flat):
        """The mean of a flat tensor over each group."""
        return self.sums(flat) / ops.convert_to_tensor(self.counts)

    def sums(self, flat):
        """The sum of a flat tensor over each group."""
        return ops.segment_sum(flat, self.groups, num_segments=self.counts.shape[0])

    def gather(self, gradient, how: str):
        """A gradient of the variable with each entry replaced by the mean or sum of its group."""
        flat = ops.reshape(ops.cast(gradient, "float32"), (-1,))
        shared = self.means(flat) if how == "mean" else self.sums(flat)
        shared = shared * ops.convert_to_tensor(self.moves)
        return ops.cast(ops.reshape(ops.take(shared, self.groups), gradient.shape), gradient.dtype)

    def install(self) -> None:
        """Puts the constraint on its variable."""
        self.variable.constraint = self

    def remove(self) -> None:
        """Puts back the constraint that was there before, unless another has taken this one's place."""
        if self.variable.constraint is self:
            self.variable.constraint = self.previous

    def apply(self, variable: keras.Variable | None = None) -> int:
        """Shares the values of its own or another variable now; returns how many weights that changed."""
        variable = self.variable if variable is None else variable
        weights = variable.numpy()
        shared = ops.convert_to_numpy(self.share(ops.convert_to_tensor(weights)))
        changed = int((shared != weights).sum())
        if changed:
            variable.assign(shared)
        return changed


def _without_sharing(constraint):
    """The constraint behind one of ours that an interrupted training has left in place."""
    return constraint.previous if isinstance(constraint, SharedValues) else constraint


def held(values, dtype: str, name: str) -> keras.Variable:
    """A variable beside the model's; all replicas of a strategy change it alike."""
    return keras.Variable(
        np.asarray(values, dtype), dtype=dtype, trainable=False, aggregation="only_first_replica", name=name
    )


def averages_of(constraints: list[SharedValues], optimizer) -> list:
    """The averages of the constrained variables that an optimizer keeps; empty without `use_ema=True`."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(inner, "use_ema", False) or not inner.built:
        return []
    averages = inner._model_variables_moving_average
    return [averages[inner._get_variable_index(constraint.variable)] for constraint in constraints]
