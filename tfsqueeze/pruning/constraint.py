"""Keeping zeros at zero in the training step itself."""

import keras
from keras import ops

from tfsqueeze.core.held import Held


class MaskConstraint(Held):
    """Sets masked weights to zero after every optimizer step.

    Args:
        variable: the kernel to keep sparse.

    Attributes:
        mask: which weights may be other than zero; all of them until it is assigned.
    """

    def __init__(self, variable: keras.Variable):
        super().__init__(variable)
        self.mask = keras.Variable(
            ops.ones(variable.shape, "bool"), dtype="bool", trainable=False, name=f"{variable.name}_mask"
        )

    def hold(self, weights):
        """The weights, with zero for those that the mask leaves out."""
        return ops.where(self.mask, weights, ops.zeros_like(weights))
