"""Which kernels share values, and why the others do not."""

import math
from dataclasses import dataclass

import keras
import numpy as np

from tfsqueeze.core.layer_info import Kernel, kernels
from tfsqueeze.core.select import select_layers


@dataclass(frozen=True)
class Target:
    """One kernel, with the layer that owns it, its path, and what its axes mean."""

    path: str
    layer: keras.Layer
    kernel: Kernel
    variable: keras.Variable

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


def find_targets(model: keras.Model, select=None) -> tuple[list[Target], dict[str, str]]:
    """Finds the kernels to cluster; biases, normalisation and unknown variables are never among them.

    Without a selection, depthwise kernels and embeddings are left alone (they are small and sensitive, or
    looked up rather than multiplied), and so are frozen layers.

    Args:
        model: any built model.
        select: see `tfs.Select`.

    Returns:
        The targets, each variable once, and the reasons why layers were left out, by path.

    Raises:
        TypeError, ValueError: as `tfsqueeze.core.select.select_layers`.
    """
    selection = select_layers(model, select, _unsupported, by_default=_not_by_default)
    targets: dict[int, Target] = {}
    for named in selection.chosen:
        for kernel, variable in kernels(named.layer):
            if select is not None or kernel.by_default:
                path = f"{named.path}/{kernel.attribute}"
                targets.setdefault(id(variable), Target(path, named.layer, kernel, variable))
    return list(targets.values()), selection.skipped


def _unsupported(layer) -> str | None:
    if kernels(layer):
        return None
    if not layer.built:
        return "it has no weights yet"
    return f"{type(layer).__name__} has no kernel whose weights can be shared"


def _not_by_default(layer) -> str | None:
    pairs = kernels(layer)
    if not any(kernel.by_default for kernel, _ in pairs):
        return f"{type(layer).__name__} is clustered only when selected"
    if not any(variable.trainable for _, variable in pairs):
        return "it is frozen (trainable=False)"
    return None
