"""A layer before and after a cut, and which outputs of the one are those of the other."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from tfsqueeze.core.linear_view import LinearView, linear_view


@dataclass(frozen=True)
class Twins:
    """The same layer in the original and in the pruned model, as matrix products.

    Attributes:
        old, new: the two.
        kept: for each output of the new layer, flattened over groups, its number in the old one.
    """

    old: LinearView
    new: LinearView
    kept: np.ndarray

    @classmethod
    def of(cls, old: keras.Layer, new: keras.Layer, cut: Callable) -> "Twins | None":
        """The twins, or None if the layers are no matrix products."""
        old_view, new_view = linear_view(old), linear_view(new)
        if old_view is None or new_view is None:
            return None
        groups, outputs = old_view.output_shape
        numbers = np.arange(groups * outputs).reshape(groups, 1, outputs)
        numbers = np.broadcast_to(numbers, old_view.weights.shape)
        labelled = old_view.arrangement.to_kernel(numbers).reshape(old_view.kernel.shape)
        left = new_view.arrangement.to_matrix(cut(old_view.kernel, labelled))
        return cls(old_view, new_view, left[:, 0, :].ravel())

    def take(self, outputs: np.ndarray) -> np.ndarray:
        """The kept of the old layer's outputs, as (rows, groups, outputs) of the new one."""
        return outputs.reshape(len(outputs), -1)[:, self.kept].reshape(-1, *self.new.output_shape)
