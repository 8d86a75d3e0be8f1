"""Weights behind the shared values, which gather updates until they belong to another value."""

import numpy as np
from keras import ops

from tfsqueeze.clustering.constraint import SharedValues, beside
from tfsqueeze.clustering.sharing import SharingRule
from tfsqueeze.clustering.targets import SharedKernel

#: The part of a kernel's weights that may change groups at a time, and what is kept of the others' pull.
MOVED = 0.01
PULL_KEPT = 0.5


class LatentValues(SharedValues):
    """Shared values, beside which every weight keeps the sum of its own updates.

    Now and then `reassign` lets the weights change groups that were pulled furthest towards another value.
    Few at a time: all weights of a group that are pulled one way would together overshoot.

    Args:
        target: a kernel whose values are shared already.
        weights: the latent weights to start with, of the kernel's shape.
        rule: by which they are clustered.
    """

    def __init__(self, target: SharedKernel, weights: np.ndarray, rule: SharingRule):
        super().__init__(target.variable, rule.preserve_zeros)
        self._target, self._rule = target, rule
        self.latent = beside(weights.ravel(), "float32", f"{self.variable.name}_latent")
        values = self.variable.numpy().ravel()[self.first.numpy()]
        self.values = beside(values, "float32", f"{self.variable.name}_values")

    def __call__(self, weights):
        if self.previous is not None:
            weights = self.previous(weights)
        flat = ops.reshape(ops.cast(weights, "float32"), (-1,))
        update = (flat - ops.take(self.values, self.groups)) * ops.take(self.moves, self.groups)
        self.latent.assign(self.latent + update)
        values = self.values + self.means(update)
        self.values.assign(values)
        return ops.cast(ops.reshape(ops.take(values, self.groups), weights.shape), weights.dtype)

    def reassign(self) -> None:
        """Moves a few weights to the value that their latent weights are nearer to, and halves all pulls."""
        shape = self.variable.shape
        present = self.variable.numpy().astype("float32")
        latent = self.latent.numpy().reshape(shape)
        nearest = self._rule.nearest(self._target, latent, present)
        gain = np.square(latent - present) - np.square(latent - nearest)
        most = max(1, int(MOVED * gain.size))
        least = np.partition(gain.ravel(), -most)[-most]
        shared = np.where((gain > 0) & (gain >= least), nearest, present)
        self.latent.assign((shared + PULL_KEPT * (latent - shared)).ravel())
        values, first, groups, counts = np.unique(
            shared.ravel(), return_index=True, return_inverse=True, return_counts=True
        )
        missing = self.counts.shape[0] - values.size
        self.groups.assign(groups)
        # Groups that nobody belongs to any more keep their place, so that the compiled step fits.
        self.first.assign(np.pad(first, (0, missing)))
        self.counts.assign(np.pad(counts, (0, missing), constant_values=1))
        self.values.assign(np.pad(values, (0, missing)))
        moves = (values != 0) | (not self.keep_zeros)
        self.moves.assign(np.pad(moves, (0, missing)).astype("float32"))
        self.variable.assign(shared)
