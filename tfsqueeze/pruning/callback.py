"""Pruning while training: a callback for `model.fit`."""

import warnings

import keras

from tfsqueeze.core.schedules import as_schedule
from tfsqueeze.pruning.constraint import MaskConstraint
from tfsqueeze.pruning.gradients import loss_gradients
from tfsqueeze.pruning.masks import MaskRule, sparsity_of
from tfsqueeze.pruning.targets import find_targets


class PruningCallback(keras.callbacks.Callback):
    """Sets the least important weights to zero during `model.fit` and keeps them there.

    The zeros are held by constraints on the variables, inside the compiled training step: the model's
    layers, names and files stay as they are, and there is nothing to strip afterwards. The weights
    themselves are the mask, so that interrupted or repeated training goes on where it was. `logs` and
    `History` gain "sparsity", the fraction of zeros in the pruned kernels.

    Args:
        schedule: the sparsity in [0, 1) as a number, a `tfs.schedules` object or a tfmot
            `PruningSchedule`, over the steps of `optimizer.iterations`. None keeps the zeros there are.
        criterion, pattern, scope, select, data: see `tfs.prune`.

    Attributes:
        skipped: after training has begun, why layers with weights are not pruned, by path.

    Raises:
        ValueError: if an option is unknown; when training begins, if nothing is selected.

    Example:
        >>> schedule = tfs.schedules.Polynomial(0.0, 0.8, begin_step=0, end_step=2000)
        >>> model.fit(x, y, epochs=10, callbacks=[tfs.PruningCallback(schedule)])

    Source: Zhu & Gupta, To Prune, or Not to Prune, arXiv:1710.01878.
    """

    def __init__(
        self,
        schedule=None,
        *,
        criterion="magnitude",
        pattern="unstructured",
        scope="layer",
        select=None,
        data=None,
    ):
        super().__init__()
        self.schedule = None if schedule is None else as_schedule(schedule)
        self.select = select
        self.data = data
        self.skipped: dict[str, str] = {}
        self._rule = MaskRule(criterion, pattern, scope)
        self._targets, self._constraints = [], []
        self._last_update: int | None = None

    def on_train_begin(self, logs=None):
        """Installs the constraints; Keras' compiled step is made anew so that it contains them."""
        self._targets, self.skipped = find_targets(self.model, self.select, self._rule.misfit)
        with self.model.distribute_strategy.scope():
            self._constraints = [MaskConstraint(target.variable) for target in self._targets]
        for constraint in self._constraints:
            constraint.install()
        self.model.make_train_function(force=True)
        self._last_update = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts from the weights as they are once every callback has begun (one may restore a backup)."""
        if self._last_update is None:
            self._start()

    def on_train_batch_end(self, batch, logs=None):
        """Updates the masks when the schedule says so; several steps may have run since the last call."""
        step = self._step()
        if self.schedule is not None and self.schedule.is_due(self._last_update, step):
            self._update(self.schedule.last_due(step))

    def on_epoch_end(self, epoch, logs=None):
        """Reports the sparsity."""
        if logs is not None:
            logs["sparsity"] = sparsity_of(self._targets)

    def on_train_end(self, logs=None):
        """Removes the constraints; the zeros survive what other callbacks do at the end."""
        for constraint in self._constraints:
            constraint.remove()
        # The compiled step still holds the masks: the next fit must make its own.
        self.model.train_function = None
        self._hold_zeros()
        self._after_all_callbacks(self._hold_zeros)
        self._warn_if_unfinished()

    def _start(self) -> None:
        step = self._step()
        if self.schedule is None:
            self._set_masks([target.variable.numpy() != 0 for target in self._targets])
            self._last_update = step
        elif (due := self.schedule.last_due(step)) >= 0:
            self._update(due)
        else:
            self._last_update = -1

    def _update(self, step: int) -> None:
        gradients = None
        if self._rule.needs_gradients:
            gradients = loss_gradients(self.model, self._targets, self.data)
        self._set_masks(self._rule.masks(self._targets, self.schedule(step), gradients))
        self._last_update = step

    def _set_masks(self, masks) -> None:
        for constraint, mask in zip(self._constraints, masks, strict=True):
            constraint.mask.assign(mask)
            constraint.apply()

    def _step(self) -> int:
        return int(keras.ops.convert_to_tensor(self.model.optimizer.iterations).numpy())

    def _hold_zeros(self) -> None:
        revived = sum(constraint.apply() for constraint in self._constraints)
        if revived and not self.model.optimizer.use_ema:
            warnings.warn(
                f"{revived} pruned weights were not zero after training and were set to zero again: another "
                "callback restored weights from before they were pruned, as "
                "EarlyStopping(restore_best_weights=True) does. Evaluate the model anew, or let "
                "EarlyStopping start after pruning has ended (start_from_epoch).",
                stacklevel=2,
            )

    def _after_all_callbacks(self, act) -> None:
        """Runs `act` when the training's History ends, which Keras calls after the user's callbacks."""
        history = self.model.history

        def on_train_end(logs=None):
            del history.on_train_end
            act()

        history.on_train_end = on_train_end

    def _warn_if_unfinished(self) -> None:
        step = self._step()
        if self.schedule is not None and step < max(self.schedule.begin_step, self.schedule.end_step):
            warnings.warn(
                f"Training ended at step {step}, before the schedule did ({self.schedule}): "
                "its last sparsity was not reached.",
                stacklevel=2,
            )
