"""Training channels towards zero, so that fewer are missed when they are cut."""

import keras
import numpy as np
from keras import layers, ops

from tfsqueeze.core.checks import check_choice, check_positive
from tfsqueeze.core.trained import trained_model
from tfsqueeze.pruning.channels.graph import Group, Slice, find_groups

PENALTIES = ("group_lasso", "bn_scale")
THIN = 0.01


class GroupRegularization(keras.callbacks.Callback):
    """Pushes whole channels towards zero during `model.fit`, for `tfs.prune_channels` to remove afterwards.

    The penalty is part of the loss inside the compiled training step. It is attached to variables, not to
    layers, and taken off when training ends: the model's configuration and files stay clean. `logs` and
    `History` gain "thin_channels": the fraction of units whose weights have shrunk to less than a hundredth
    of the largest of their group.

    Args:
        strength: weight of the penalty in the loss, > 0. Typical: 1e-5 to 1e-3; larger is sparser.
        penalty: "group_lasso": the norm of all weights of a unit, in every layer it touches, times the root
            of their number. "bn_scale": |gamma| of the batch normalisations the units pass (network
            slimming); groups that pass none are left alone. Prune with criterion="l2" or "bn_scale" then.
        select: layers whose channels are pushed, see `tfs.Select`; None for all.

    Raises:
        ValueError: if an option is unknown or out of range; when training begins, if there is nothing to
            push.
        UnsupportedModelError: when training begins, for a subclassed model.

    Example:
        >>> model.fit(x, y, epochs=10, callbacks=[tfs.GroupRegularization(1e-4)])
        >>> small = tfs.prune_channels(model, macs=0.5, criterion="l2")

    Source: Yuan & Lin, Model Selection with Grouped Variables (2006); Fang et al., DepGraph,
    arXiv:2301.12900; Liu et al., Network Slimming, arXiv:1708.06519 ("bn_scale").
    """

    def __init__(self, strength: float = 1e-4, *, penalty: str = "group_lasso", select=None):
        super().__init__()
        self.strength = float(check_positive("strength", strength))
        self.penalty = check_choice("penalty", penalty, PENALTIES)
        self.select = select
        self._penalties: list[_Penalty] = []

    def on_train_begin(self, logs=None):
        """Attaches the penalties; Keras' compiled step is made anew so that it contains them."""
        graph = find_groups(trained_model(self.model), self.select)
        parts = {name: _penalized(group, self.penalty) for name, group in graph.groups.items()}
        self._penalties = [
            _Penalty(graph.groups[name], found, self.strength) for name, found in parts.items() if found
        ]
        if not self._penalties:
            raise ValueError(
                f"No channel group of model {graph.model.name!r} has what penalty={self.penalty!r} works on. "
                f"Choose another penalty or selection. Pinned: {graph.pinned or 'nothing'}."
            )
        for penalty in self._penalties:
            penalty.install()
        self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch, logs=None):
        """Reports how many units have become thin."""
        if logs is not None:
            thin = np.concatenate([penalty.thin() for penalty in self._penalties])
            logs["thin_channels"] = float(thin.mean())

    def on_train_end(self, logs=None):
        """Takes the penalties off."""
        for penalty in self._penalties:
            penalty.remove()
        # The compiled step still holds the penalties: the next fit must make its own.
        self.model.train_function = None


class _Penalty:
    """The penalty of one group, as the regularizer of one of its variables; it looks at all of them.

    It lives only on the variable during training, so it is not serialized.
    """

    def __init__(self, group: Group, parts: list[Slice], strength: float):
        self._host = next(part.variable for part in parts if part.variable.trainable)
        self._parts, self._size, self._strength = parts, group.size, strength
        present = self._host.regularizer
        # An interrupted training has left the old one in place.
        self._previous = present._previous if isinstance(present, _Penalty) else present
        counts = [np.bincount(part.units[part.units >= 0], minlength=group.size) for part in parts]
        sizes = [np.prod(part.variable.shape) / len(part.units) for part in parts]
        total = sum(count * size for count, size in zip(counts, sizes, strict=True))
        self._roots = np.sqrt(total).astype("float32")

    def __call__(self, variable):
        norms = ops.sqrt(self._squares() + 1e-12)
        penalty = self._strength * ops.sum(self._roots * norms)
        return penalty if self._previous is None else penalty + self._previous(variable)

    def install(self) -> None:
        self._host.regularizer = self

    def remove(self) -> None:
        self._host.regularizer = self._previous

    def thin(self) -> np.ndarray:
        """Which units have next to no weight left."""
        norms = np.sqrt(ops.convert_to_numpy(self._squares()))
        return norms < THIN * norms.max()

    def _squares(self):
        """Sum of squares of each unit's weights."""
        total = 0.0
        for part in self._parts:
            weights = ops.cast(ops.convert_to_tensor(part.variable), "float32")
            others = [axis for axis in range(len(weights.shape)) if axis != part.axis]
            lines = ops.sum(ops.square(weights), axis=others)
            owners = np.where(part.units >= 0, part.units, self._size).astype("int32")
            total += ops.segment_sum(lines, owners, self._size + 1)[: self._size]
        return total


def _penalized(group: Group, penalty: str) -> list[Slice]:
    parts = [part for part in group.slices if part.variable.trainable]
    if penalty == "group_lasso":
        return parts
    return [
        part
        for part in parts
        if isinstance(part.layer, layers.BatchNormalization) and part.variable is part.layer.gamma
    ]
