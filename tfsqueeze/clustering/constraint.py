"""Keeping shared values shared in the training step itself."""

import keras
import numpy as np
from keras import ops

from tfsqueeze.core.held import Held


class SharedValues(Held):
    """Sets each weight to the mean of its group after every optimizer step.

    Weights that were equal when it was made form a group, so that a group's value moves by the mean of
    its members' updates.

    Args:
        variable: a kernel whose values are shared.
        keep_zeros: whether the group of zeros stays zero.
    """

    def __init__(self, variable: keras.Variable, keep_zeros: bool = True):
        super().__init__(variable)
        self.keep_zeros = keep_zeros
        values, first, groups, counts = np.unique(
            variable.numpy().ravel(), return_index=True, return_inverse=True, return_counts=True
        )
        self.groups = beside(groups, "int32", f"{variable.name}_groups")
        self.first = beside(first, "int32", f"{variable.name}_first")
        self.counts = beside(counts, "float32", f"{variable.name}_counts")
        self.moves = beside((values != 0) | (not keep_zeros), "float32", f"{variable.name}_moves")

    def hold(self, weights):
        """The weights, each replaced by the mean of its group."""
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


def beside(values, dtype: str, name: str) -> keras.Variable:
    """A variable beside the model's; all replicas of a strategy change it alike."""
    return keras.Variable(
        np.asarray(values, dtype), dtype=dtype, trainable=False, aggregation="only_first_replica", name=name
    )
