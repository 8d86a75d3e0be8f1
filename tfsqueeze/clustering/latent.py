"""Weights behind the shared values, which gather updates until they belong to another value."""

import numpy as np
from keras import ops

from tfsqueeze.clustering.constraint import SharedValues, beside
from tfsqueeze.clustering.sharing import SharingRule
from tfsqueeze.clustering.targets import SharedKernel


class LatentValues(SharedValues):
    """Shared values, beside which every weight keeps the sum of its own updates.

    The values are the means of these latent weights over each group. `reassign` forms the groups anew.

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
        """Clusters the latent weights, starting from the present values."""
        shape = self.variable.shape
        latent = self.latent.numpy().reshape(shape)
        shared = self._rule.share_again(self._target, latent, self.variable.numpy().astype("float32"))
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
