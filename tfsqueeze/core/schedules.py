"""How a value such as the sparsity grows with the training step.

Each schedule is a small serializable object: `schedule(step)` is its value, `is_due(...)` says whether the
value is to be applied between two steps. Steps are those of `optimizer.iterations`.
"""

import math
import numbers

import keras

from tfsqueeze.core.checks import check_count, check_fraction


class Schedule:
    """Base of all schedules: updates from `begin_step` to `end_step`, every `frequency` steps and at the end.

    Args:
        begin_step: first step at which the value applies; >= 0.
        end_step: step at which the final value is reached; -1 for no end.
        frequency: steps between two updates; >= 1.
    """

    def __init__(self, begin_step: int = 0, end_step: int = -1, frequency: int = 100):
        self.begin_step = check_count("begin_step", begin_step, 0)
        self.end_step = check_count("end_step", end_step, -1)
        self.frequency = check_count("frequency", frequency, 1)
        if end_step != -1 and end_step < begin_step:
            raise ValueError(
                "`end_step` must not come before `begin_step`. "
                f"Received: begin_step={begin_step}, end_step={end_step}."
            )

    def __call__(self, step: int) -> float:
        """The value at `step`, held at its last value beyond `end_step`."""
        raise NotImplementedError

    def is_due(self, previous: int, step: int) -> bool:
        """Whether an update falls in the steps after `previous` up to and including `step`."""
        return self.last_due(step) > previous

    def last_due(self, step: int) -> int:
        """The latest step up to `step` at which the value is applied; -1 if there is none yet."""
        if step < self.begin_step:
            return -1
        if self.end_step != -1 and step >= self.end_step:
            return self.end_step
        return step - (step - self.begin_step) % self.frequency

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"begin_step": self.begin_step, "end_step": self.end_step, "frequency": self.frequency}

    @classmethod
    def from_config(cls, config: dict) -> "Schedule":
        """Makes the schedule again from `get_config()`."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in self.get_config().items())})"


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Constant(Schedule):
    """The same sparsity from `begin_step` on.

    Args:
        target_sparsity: the sparsity, in [0, 1).
        begin_step, end_step, frequency: see `Schedule`.

    Example:
        >>> Constant(0.5, begin_step=100)(200)
        0.5
    """

    def __init__(self, target_sparsity: float, begin_step: int = 0, end_step: int = -1, frequency: int = 100):
        super().__init__(begin_step, end_step, frequency)
        self.target_sparsity = check_fraction("target_sparsity", target_sparsity)

    def __call__(self, step):
        return self.target_sparsity

    def get_config(self):
        return {"target_sparsity": self.target_sparsity, **super().get_config()}


class _Growing(Schedule):
    """From `initial_sparsity` to `final_sparsity`, along `_curve`, a map of [0, 1] onto [0, 1]."""

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        frequency: int = 100,
    ):
        super().__init__(begin_step, end_step, frequency)
        self.initial_sparsity = check_fraction("initial_sparsity", initial_sparsity)
        self.final_sparsity = check_fraction("final_sparsity", final_sparsity)
        if end_step <= begin_step:
            raise ValueError(
                f"{type(self).__name__} needs `end_step` > `begin_step`. "
                f"Received: begin_step={begin_step}, end_step={end_step}."
            )

    def __call__(self, step):
        progress = self._curve(self._done(step))
        return self.initial_sparsity + (self.final_sparsity - self.initial_sparsity) * progress

    def _done(self, step: int) -> float:
        """The fraction of the steps that lies behind, in [0, 1]."""
        return min(max((step - self.begin_step) / (self.end_step - self.begin_step), 0.0), 1.0)

    def _curve(self, done: float) -> float:
        raise NotImplementedError

    def get_config(self):
        ends = {"initial_sparsity": self.initial_sparsity, "final_sparsity": self.final_sparsity}
        return {**ends, **super().get_config()}


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Polynomial(_Growing):
    """Fast at first, then slower: 1 - (1 - t)^power of the way at the fraction t of the steps.

    The usual choice for gradual pruning (Zhu & Gupta, To Prune, or Not to Prune, arXiv:1710.01878, eq. 1).

    Args:
        initial_sparsity: sparsity at `begin_step`, in [0, 1).
        final_sparsity: sparsity from `end_step` on, in [0, 1).
        begin_step, end_step, frequency: see `Schedule`; `end_step` > `begin_step`.
        power: exponent, > 0; 1 is linear.

    Example:
        >>> Polynomial(0.0, 0.8, begin_step=0, end_step=1000)(500)
        0.7
    """

    def __init__(
        self, initial_sparsity, final_sparsity, begin_step, end_step, power: float = 3.0, frequency: int = 100
    ):
        super().__init__(initial_sparsity, final_sparsity, begin_step, end_step, frequency)
        if not power > 0:
            raise ValueError(f"`power` must be > 0. Received: power={power}.")
        self.power = power

    def _curve(self, done):
        return 1 - (1 - done) ** self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Cosine(_Growing):
    """Slow at both ends: (1 - cos(pi t)) / 2 of the way at the fraction t of the steps.

    Args:
        initial_sparsity, final_sparsity: in [0, 1).
        begin_step, end_step, frequency: see `Schedule`; `end_step` > `begin_step`.

    Example:
        >>> Cosine(0.0, 0.8, begin_step=0, end_step=1000)(500)
        0.4
    """

    def _curve(self, done):
        return (1 - math.cos(math.pi * done)) / 2


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Exponential(_Growing):
    """The kept fraction falls geometrically: by the same factor in equal numbers of steps.

    Args:
        initial_sparsity, final_sparsity: in [0, 1).
        begin_step, end_step, frequency: see `Schedule`; `end_step` > `begin_step`.

    Example:
        >>> Exponential(0.0, 0.75, begin_step=0, end_step=1000)(500)
        0.5
    """

    def __call__(self, step):
        done = self._done(step)
        return 1 - (1 - self.initial_sparsity) ** (1 - done) * (1 - self.final_sparsity) ** done


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Steps(Schedule):
    """A staircase: at each listed step the sparsity jumps to its value.

    Args:
        sparsities: map of step (>= 0) to the sparsity from then on, in [0, 1).

    Example:
        >>> Steps({0: 0.5, 1000: 0.8})(999)
        0.5
    """

    def __init__(self, sparsities: dict[int, float]):
        if not sparsities:
            raise ValueError("`sparsities` must list at least one step. Received: {}.")
        self.sparsities = {int(step): check_fraction("sparsity", s) for step, s in sorted(sparsities.items())}
        super().__init__(min(self.sparsities), max(self.sparsities), 1)

    def __call__(self, step):
        reached = self.last_due(step)
        return self.sparsities[reached] if reached >= 0 else 0.0

    def last_due(self, step):
        return max((start for start in self.sparsities if start <= step), default=-1)

    def get_config(self):
        return {"sparsities": {str(step): value for step, value in self.sparsities.items()}}

    @classmethod
    def from_config(cls, config):
        return cls({int(step): value for step, value in config["sparsities"].items()})


class _FromTfmot(Schedule):
    """A tfmot `PruningSchedule`, asked at each step as tfmot's own callback does."""

    def __init__(self, schedule):
        super().__init__(int(schedule.begin_step), int(schedule.end_step), int(schedule.frequency))
        self._schedule = schedule

    def __call__(self, step):
        end = self.end_step if self.end_step != -1 else step
        return float(self._schedule(min(max(step, self.begin_step), end))[1])


def as_schedule(value) -> Schedule:
    """Turns a sparsity, a schedule of ours or a tfmot `PruningSchedule` into a `Schedule`.

    Raises:
        TypeError: if it is none of these.
        ValueError: if a number is not in [0, 1).
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, numbers.Real):
        return Constant(check_fraction("schedule", value, remedy="It is the fraction of zeros."))
    if all(hasattr(value, name) for name in ("begin_step", "end_step", "frequency")) and callable(value):
        return _FromTfmot(value)
    raise TypeError(
        "Expected a sparsity in [0, 1), a tfs.schedules object or a tfmot PruningSchedule. "
        f"Received: {value!r}."
    )
