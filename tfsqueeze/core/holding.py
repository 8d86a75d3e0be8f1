"""What callbacks share that hold weights to a rule while a model trains."""

import warnings

import keras

from tfsqueeze.core.held import Held, averages_of


class HoldingCallback(keras.callbacks.Callback):
    """Holds weights by constraints (`core.held`) during `model.fit`, whatever else changes them.

    A technique makes the constraints and installs them; this looks after optimizers that ignore them,
    averaged weights, and other callbacks that put back weights from before.
    """

    #: What is done after each batch where the training step ignores constraints.
    remedy = ""

    def __init__(self):
        super().__init__()
        self._constraints: list[Held] = []
        self._unchecked = self._hold_each_batch = False

    def on_train_batch_end(self, batch, logs=None):
        """Looks after the weights; several steps may have run since the last call."""
        if self._unchecked or self._hold_each_batch:
            self._check_optimizer()

    def on_test_begin(self, logs=None):
        """Holds the averages that an optimizer with `use_ema=True` keeps, before they are evaluated."""
        self._hold_averages()

    def on_train_end(self, logs=None):
        """Removes the constraints; what they held is held against the callbacks that end after this one."""
        for constraint in self._constraints:
            constraint.remove()
        # The compiled step still holds the constraints: the next fit must make its own.
        self.model.train_function = None
        self._hold_at_end()
        self._after_all_callbacks(self._hold_at_end)

    def _install(self, constraints: list[Held]) -> None:
        """Puts constraints on their variables; Keras' compiled step is made anew so that it contains them."""
        self._constraints = constraints
        for constraint in constraints:
            constraint.install()
        self.model.make_train_function(force=True)

    def _hold_at_end(self) -> None:
        """Holds the weights once more, and tells if another callback has changed them."""
        raise NotImplementedError

    def _check_optimizer(self) -> None:
        """Looks, after the first step with new constraints, whether the step has kept to them."""
        self._unchecked = False
        changed = sum(constraint.apply() for constraint in self._constraints)
        if changed and not self._hold_each_batch:
            self._hold_each_batch = True
            warnings.warn(
                f"The training step does not apply constraints ({type(self.model.optimizer).__name__} or a "
                f"custom `train_step` updates weights without them): {self.remedy} after each batch instead, "
                "which is slower.",
                stacklevel=2,
            )

    def _hold_averages(self) -> None:
        """The averages take in a step before its constraints, and may just have been swapped for weights."""
        if not self._constraints or not (averages := averages_of(self._constraints, self.model.optimizer)):
            return
        for constraint, average in zip(self._constraints, averages, strict=True):
            constraint.apply()
            constraint.apply(average)

    def _step(self) -> int:
        return int(keras.ops.convert_to_tensor(self.model.optimizer.iterations).numpy())

    def _after_all_callbacks(self, act) -> None:
        """Runs `act` when the training's History ends, which Keras calls after the user's callbacks."""
        history = self.model.history

        def on_train_end(logs=None):
            del history.on_train_end
            act()

        history.on_train_end = on_train_end
