"""Pruning while training: a callback for `model.fit`."""

import warnings

import numpy as np

from tfsqueeze.core.holding import HoldingCallback
from tfsqueeze.core.schedules import as_schedule
from tfsqueeze.core.trained import trained_model
from tfsqueeze.pruning import evidence
from tfsqueeze.pruning.constraint import MaskConstraint
from tfsqueeze.pruning.masks import MaskRule, sparsity_of
from tfsqueeze.pruning.patterns import Unstructured
from tfsqueeze.pruning.regrowth import Regrowth
from tfsqueeze.pruning.scalars import check_log_dir, write_scalars
from tfsqueeze.pruning.targets import find_targets


class PruningCallback(HoldingCallback):
    """Sets the least important weights to zero during `model.fit` and keeps them there.

    The zeros are held by constraints on the variables, inside the compiled training step: the model's
    layers, names and files stay as they are, and there is nothing to strip afterwards. The weights
    themselves are the mask, so that interrupted or repeated training goes on where it was. `logs` and
    `History` gain "sparsity", the fraction of zeros in the pruned kernels.

    Args:
        schedule: the sparsity in [0, 1) as a number, a `tfs.schedules` object or a tfmot
            `PruningSchedule`, over the steps of `optimizer.iterations`. None keeps the zeros there are.
        criterion: see `tfs.prune`; also "movement" (weights that moved towards zero since training began
            go first). "taylor" and "fisher" need no `data` with an optimizer that keeps running means of
            gradients, such as Adam, once it has made a step.
        pattern, scope, select, data: see `tfs.prune`. With a map as `scope`, the schedule's share of its
            own final value scales the map's sparsities.
        regrowth: a `tfs.Regrowth` to swap weights at every update; with pattern "unstructured" only.
        log_dir: folder for TensorBoard scalars of each kernel's sparsity per epoch, or None.

    Attributes:
        skipped: after training has begun, why layers with weights are not pruned, by path.

    Raises:
        ValueError: if an option is unknown; when training begins, if nothing is selected.

    Example:
        >>> schedule = tfs.schedules.Polynomial(0.0, 0.8, begin_step=0, end_step=2000)
        >>> model.fit(x, y, epochs=10, callbacks=[tfs.PruningCallback(schedule)])

    Source: Zhu & Gupta, To Prune, or Not to Prune, arXiv:1710.01878.
    """

    remedy = "pruned weights are set to zero"

    def __init__(
        self,
        schedule=None,
        *,
        criterion="magnitude",
        pattern="unstructured",
        scope="layer",
        select=None,
        data=None,
        regrowth: Regrowth | None = None,
        log_dir=None,
    ):
        super().__init__()
        self.schedule = None if schedule is None else as_schedule(schedule)
        self.select = select
        self.data = data
        self.regrowth = regrowth
        self.log_dir = log_dir
        self.skipped: dict[str, str] = {}
        self._rule = MaskRule(criterion, pattern, scope)
        check_log_dir(log_dir)
        self._targets, self._first_weights = [], None
        self._last_update: int | None = None
        self._warned_of_end = False
        if regrowth is not None and self._rule.pattern != Unstructured():
            raise ValueError(f"`regrowth` goes with pattern='unstructured'. Received: pattern={pattern!r}.")

    def on_train_begin(self, logs=None):
        """Installs the constraints."""
        self._targets, self.skipped = find_targets(trained_model(self.model), self.select, self._rule.misfit)
        with self.model.distribute_strategy.scope():
            constraints = [MaskConstraint(target.variable) for target in self._targets]
        self._install(constraints)
        self._first_weights = None
        self._last_update = None
        self._hold_each_batch = self._warned_of_end = False
        self._check_evidence()

    def on_epoch_begin(self, epoch, logs=None):
        """Starts from the weights as they are once every callback has begun (one may restore a backup)."""
        if self._last_update is None:
            self._start()
            self._warn_if_too_short(epoch)

    def on_train_batch_end(self, batch, logs=None):
        """Updates the masks when the schedule says so; several steps may have run since the last call."""
        super().on_train_batch_end(batch, logs)
        if self.schedule is None:
            return
        step = self._step()
        if self.schedule.is_due(self._last_update, step):
            self._update(self.schedule.last_due(step))

    def on_epoch_end(self, epoch, logs=None):
        """Reports the sparsity."""
        self._hold_averages()
        if logs is not None:
            logs["sparsity"] = sparsity_of(self._targets)
        if self.log_dir is not None:
            write_scalars(self.log_dir, self._targets, epoch)

    def on_train_end(self, logs=None):
        """Removes the constraints; the zeros survive what other callbacks do at the end."""
        super().on_train_end(logs)
        self._warn_if_unfinished()

    def _start(self) -> None:
        step = self._step()
        if self._rule.evidence == evidence.START:
            self._first_weights = [target.variable.numpy() for target in self._targets]
        if self.schedule is None:
            self._set_masks([target.variable.numpy() != 0 for target in self._targets])
            self._last_update = step
        elif (due := self.schedule.last_due(step)) >= 0:
            self._warn_if_over(step)
            self._update(due)
        else:
            self._last_update = -1

    def _update(self, step: int) -> None:
        self._last_update = step
        sparsity = self.schedule(step)
        if sparsity == 0:
            self._set_masks([np.ones(target.variable.shape, bool) for target in self._targets])
            return
        seen = self._evidence(self._rule.evidence)
        masks = self._rule.masks(self._targets, sparsity, seen, self._progress(step))
        # Before the first step nothing has been learnt of what was pruned.
        if self.regrowth is not None and step > 0:
            masks = [
                self.regrowth.swap(mask, target.variable.numpy(), gradient, step)
                for mask, target, gradient in zip(
                    masks, self._targets, self._evidence(self.regrowth.evidence), strict=True
                )
            ]
        self._set_masks(masks)

    def _progress(self, step: int) -> float:
        final = self.schedule(max(self.schedule.end_step, step))
        return self.schedule(step) / final if final else 1.0

    def _evidence(self, kind: str | None) -> list:
        if kind == evidence.START:
            return evidence.from_start(self._first_weights, self._targets)
        if kind is None or self.data is not None:
            return evidence.from_data(kind, self.model, self._targets, self.data)
        return evidence.from_optimizer(kind, self.model.optimizer, self._targets)

    def _check_evidence(self) -> None:
        """Raises before the training what the first update would raise after an hour of it."""
        kinds = {self._rule.evidence, self.regrowth.evidence if self.regrowth else None}
        if self.data is not None or not kinds & set(evidence.FROM_LOSS):
            return
        with self.model.distribute_strategy.scope():
            self.model.optimizer.build(self.model.trainable_variables)
        for kind in kinds & set(evidence.FROM_LOSS):
            evidence.check_optimizer(kind, self.model.optimizer)

    def _set_masks(self, masks) -> None:
        for constraint, mask in zip(self._constraints, masks, strict=True):
            constraint.mask.assign(mask)
            constraint.apply()
        self._unchecked = True

    def _hold_at_end(self) -> None:
        revived = sum(constraint.apply() for constraint in self._constraints)
        if revived and not self.model.optimizer.use_ema:
            warnings.warn(
                f"{revived} pruned weights were not zero after training and were set to zero again: another "
                "callback restored weights from before they were pruned, as "
                "EarlyStopping(restore_best_weights=True) does. Evaluate the model anew, or let "
                "EarlyStopping start after pruning has ended (start_from_epoch).",
                stacklevel=2,
            )

    def _warn_if_too_short(self, epoch: int) -> None:
        """Warns before hours of training, not after them, where the number of steps is known."""
        steps = (self.params or {}).get("steps")
        if steps:
            self._warn_before_end(self._step() + (self.params["epochs"] - epoch) * steps, "ends")

    def _warn_if_over(self, step: int) -> None:
        """Warns where a dense model that was trained before would be pruned at once, unlike a resumed one."""
        is_over = self.schedule.begin_step < self.schedule.end_step <= step
        wanted = self.schedule(step)
        if is_over and sparsity_of(self._targets) < wanted / 10:
            warnings.warn(
                f"The schedule ({self.schedule}) was over before training began: the optimizer has made "
                f"{step} steps already, so that the weights are pruned to {wanted:g} at once. Compile the "
                f"model again to count from 0, or let the schedule begin at step {step}.",
                stacklevel=2,
            )

    def _warn_if_unfinished(self) -> None:
        if not self._warned_of_end:
            self._warn_before_end(self._step(), "ended")

    def _warn_before_end(self, step: int, verb: str) -> None:
        if self.schedule is not None and step < max(self.schedule.begin_step, self.schedule.end_step):
            self._warned_of_end = True
            warnings.warn(
                f"Training {verb} at step {step}, before the schedule does ({self.schedule}): "
                "its last sparsity is not reached.",
                stacklevel=2,
            )
