"""Which kernels share values, and why the others do not."""

import math

import keras
import numpy as np

from tfsqueeze.core.targets import Target, find_kernels


class SharedKernel(Target):
    """A kernel whose values are shared."""

    @property
    def weights(self) -> np.ndarray:
        """The kernel's values as float32.

        Raises:
            ValueError: if some are NaN or infinite.
        """
        weights = keras.ops.convert_to_numpy(self.variable).astype("float32", copy=False)
        if not np.isfinite(weights).all():
            raise ValueError(
                f"Kernel {self.path!r} holds NaN or infinite weights, which have no mean to share. Train "
                "with a lower learning rate, or clip gradients (`clipnorm=1.0`), and start again from "
                "finite weights."
            )
        return weights

    def channels(self, array: np.ndarray) -> np.ndarray:
        """An array of the kernel's shape as (output channels, weights per channel)."""
        outputs = math.prod(array.shape[axis] for axis in self.kernel.outputs)
        return np.transpose(array, (*self.kernel.outputs, *self._others)).reshape(outputs, -1)

    def from_channels(self, rows: np.ndarray) -> np.ndarray:
        """Undoes `channels`."""
        order = (*self.kernel.outputs, *self._others)
        moved = rows.reshape([self.variable.shape[axis] for axis in order])
        return np.transpose(moved, np.argsort(order))

    @property
    def _others(self) -> tuple[int, ...]:
        return tuple(a for a in range(len(self.variable.shape)) if a not in self.kernel.outputs)


def find_targets(model: keras.Model, select=None) -> tuple[list[SharedKernel], dict[str, str]]:
    """Finds the kernels to cluster, as `core.targets.find_kernels` does."""
    return find_kernels(model, select, "clustered", SharedKernel)
