"""Clustering while training: a callback for `model.fit`."""

import warnings

import numpy as np

from tfsqueeze.clustering.constraint import SharedValues
from tfsqueeze.clustering.gradients import SharedGradients
from tfsqueeze.clustering.latent import LatentValues
from tfsqueeze.clustering.sharing import SharingRule
from tfsqueeze.clustering.targets import find_targets
from tfsqueeze.core.checks import check_choice, check_positive
from tfsqueeze.core.holding import HoldingCallback
from tfsqueeze.core.trained import trained_model

GRADIENTS = ("each", "mean", "sum")
# Distinct values per weight; a few equal weights are chance.
SHARING = 0.9


class ClusteringCallback(HoldingCallback):
    """Trains the values that weights share during `model.fit`, while which weights share them stays.

    After each optimizer step every weight is set to the mean of those it shares its value with, by
    constraints on the variables inside the compiled training step: layers, names and files stay as they
    are, and there is nothing to strip. Equal weights are the clusters, so that interrupted or repeated
    training goes on where it was, and models of `tfs.product_quantize` train their codebooks alike.
    `logs` and `History` gain "clusters", the most distinct values in any kernel.

    Args:
        clusters: None trains the values that are shared when training begins (see `tfs.cluster`). A number
            clusters kernels with more distinct values than that when it begins.
        init, per_channel, preserve_zeros, select, seed: see `tfs.cluster`. Zeros stay zero while trained.
        gradients: how members move their common value: "each" lets the optimizer update every weight and
            takes the mean; with "mean" and "sum" the optimizer sees the mean or the sum of the members'
            gradients instead, as if the shared values were its variables. "sum" is the gradient as Deep
            Compression takes it, and wants a learning rate smaller by the size of the clusters, unless
            the optimizer is indifferent to scale, as Adam is.
        reassign: after how many steps weights may change clusters, >= 1, or None for never. Needs
            `clusters`, and `gradients="each"`: the updates of every weight are kept beside the shared
            values, and the hundredth of the weights that they pull furthest takes the nearest other value.
            An interrupted training loses what they gathered.

    Attributes:
        skipped: after training has begun, why layers with weights are not clustered, by path.

    Raises:
        ValueError: if an option is unknown; when training begins, if nothing is selected or shared, or
            weights are not finite.

    Example:
        >>> small = tfs.cluster(model, 16)
        >>> small.fit(x, y, epochs=3, callbacks=[tfs.ClusteringCallback()])

    Source: Han et al., Deep Compression, arXiv:1510.00149, section 3.
    """

    remedy = "values are shared again"

    def __init__(
        self,
        clusters: int | None = None,
        *,
        init: str = "kmeans++",
        per_channel: bool = False,
        preserve_zeros: bool = True,
        select=None,
        seed: int = 0,
        gradients: str = "each",
        reassign: int | None = None,
    ):
        super().__init__()
        self.select = select
        self.gradients = check_choice("gradients", gradients, GRADIENTS)
        self.reassign = None if reassign is None else check_positive("reassign", reassign)
        self.skipped: dict[str, str] = {}
        self._preserve_zeros = preserve_zeros
        self._rule = (
            None if clusters is None else SharingRule(clusters, init, per_channel, preserve_zeros, seed)
        )
        self._targets, self._allowed, self._hook = [], [], None
        self._last_reassigned = 0
        if reassign is not None and (clusters is None or gradients != "each"):
            raise ValueError(
                "`reassign` needs `clusters` and gradients='each'. Received: "
                f"clusters={clusters!r}, gradients={gradients!r}."
            )

    def on_train_begin(self, logs=None):
        """Finds the kernels; a wrong selection shows before any training."""
        self._targets, self.skipped = find_targets(trained_model(self.model), self.select)
        self._constraints, self._allowed, self._hook, self._hold_each_batch = [], [], None, False

    def on_epoch_begin(self, epoch, logs=None):
        """Starts from the weights as they are once every callback has begun (one may restore a backup)."""
        if not self._constraints:
            self._start()

    def on_train_batch_end(self, batch, logs=None):
        """Lets weights change clusters when it is time; several steps may have run since the last call."""
        super().on_train_batch_end(batch, logs)
        if self.reassign is not None and self._step() - self._last_reassigned >= self.reassign:
            self._last_reassigned = self._step()
            for constraint in self._constraints:
                constraint.reassign()

    def on_epoch_end(self, epoch, logs=None):
        """Reports the number of distinct values."""
        self._hold_averages()
        if logs is not None:
            logs["clusters"] = max(map(self._distinct, self._targets))

    def on_train_end(self, logs=None):
        """Removes the constraints; what other callbacks do at the end is checked."""
        if self._hook is not None:
            self._hook.remove()
        super().on_train_end(logs)

    def _start(self) -> None:
        if self._rule is None:
            self._targets = self._sharing(self._targets)
        with self.model.distribute_strategy.scope():
            constraints = [self._constraint(target) for target in self._targets]
        self._allowed = [self._distinct(target) for target in self._targets]
        if self.gradients != "each":
            self._hook = SharedGradients(self.model.optimizer, constraints, self.gradients)
        self._install(constraints)
        self._last_reassigned = self._step()
        self._unchecked = True

    def _constraint(self, target) -> SharedValues:
        weights = target.weights
        if self._rule is not None:
            target.variable.assign(self._rule.share(target))
        if self.reassign is None:
            return SharedValues(target.variable, self._preserve_zeros)
        return LatentValues(target, weights, self._rule)

    def _sharing(self, targets) -> list:
        """Those of the targets whose weights share values; the others train freely."""
        sharing = [t for t in targets if np.unique(t.weights).size <= SHARING * t.weights.size]
        paths = {target.path for target in sharing}
        self.skipped |= {
            target.path: "its weights do not share values" for target in targets if target.path not in paths
        }
        if not sharing:
            raise ValueError(
                f"No weights of model {self.model.name!r} share values yet. Use `tfs.cluster(model, 16)` "
                "first, or give a number: `tfs.ClusteringCallback(16)`."
            )
        return sharing

    def _distinct(self, target) -> int:
        return self._rule.distinct(target) if self._rule else np.unique(target.variable.numpy()).size

    def _hold_at_end(self) -> None:
        if all(map(self._is_kept, self._targets, self._allowed)):
            return
        for constraint in self._constraints:
            constraint.apply()
        if not self.model.optimizer.use_ema:
            warnings.warn(
                "Weights did not share values after training and were made to again: another callback "
                "restored weights from before they were clustered, as "
                "EarlyStopping(restore_best_weights=True) does. Evaluate the model anew, or cluster it "
                "before training, with tfs.cluster.",
                stacklevel=2,
            )

    def _is_kept(self, target, allowed: int) -> bool:
        return self._distinct(target) <= allowed
