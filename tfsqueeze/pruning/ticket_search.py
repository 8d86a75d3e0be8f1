"""The rounds of a search for a lottery ticket: train, prune, rewind."""

import numbers
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.resuming import arrays_digest, setting_text
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.targets import Target
from tfsqueeze.pruning import evidence
from tfsqueeze.pruning.callback import PruningCallback
from tfsqueeze.pruning.masks import MaskRule
from tfsqueeze.pruning.targets import find_targets
from tfsqueeze.pruning.ticket import Ticket, put_on
from tfsqueeze.pruning.ticket_storage import TicketState

Train = Callable[[keras.Model, list[keras.callbacks.Callback]], Any]


@dataclass(frozen=True)
class KernelChoice:
    """What is pruned and how, as the arguments of `tfs.prune`."""

    criterion: Any
    pattern: Any
    scope: Any
    select: Any
    data: Any

    def rule(self, share: float = 1.0) -> MaskRule:
        """The rule after a `share` of the rounds: explicit sparsities grow as the whole model's does."""
        scope, criterion = self.scope, self.criterion
        if isinstance(scope, Mapping):
            MaskRule(criterion, self.pattern, scope)
            scope = {name: at_share(sparsity, share) for name, sparsity in scope.items()}
        return MaskRule(_dead_first(criterion) if callable(criterion) else criterion, self.pattern, scope)

    def targets(self, model) -> tuple[list[Target], dict[str, str]]:
        """The kernels to prune, and why others are not."""
        return find_targets(model, self.select, self.rule().misfit)


def _dead_first(criterion: Callable) -> Callable:
    """The user's criterion, by which a weight pruned in an earlier round never outranks a living one."""

    def scores(kernel):
        given = np.asarray(criterion(kernel))
        return np.where(kernel != 0, given, -np.inf) if given.shape == kernel.shape else given

    return scores


def at_share(sparsity: float, share: float) -> float:
    """The sparsity after a share of the rounds, the living weights falling by one factor in each.

    Example:
        >>> [round(at_share(0.75, k / 2), 2) for k in range(3)]
        [0.0, 0.5, 0.75]
    """
    return 1 - (1 - sparsity) ** share


def copy_of(model: keras.Model) -> keras.Model:
    """An exact copy that lives on the devices `model` does."""
    with model.distribute_strategy.scope():
        return rewrite(model)


class TicketSearch:
    """Trains, prunes and rewinds copies of `initial`.

    Args:
        initial: the untrained model, which nobody else changes.
        train: the user's function.
        choice: what is pruned and how.
        rewind: None, a number of steps, a function, or a list of arrays.
        sparsity, rounds: of the ticket.
    """

    def __init__(self, initial, train: Train, choice: KernelChoice, rewind, sparsity: float, rounds: int):
        self.initial, self.train, self.choice = initial, train, choice
        self.rewind, self.sparsity, self.rounds = rewind, sparsity, rounds
        targets, self.skipped = choice.targets(initial)
        self.paths = [target.path for target in targets]
        self._check_masks(targets)

    def settings(self) -> dict[str, str]:
        """What the result depends on, as text."""
        rewind = self.rewind
        return {
            "sparsity": setting_text(self.sparsity),
            "rounds": setting_text(self.rounds),
            "rewind": arrays_digest(rewind) if isinstance(rewind, list) else setting_text(rewind),
            "criterion": setting_text(self.choice.criterion),
            "pattern": setting_text(self.choice.pattern),
            "scope": setting_text(self.choice.scope),
            "kernels": ", ".join(self.paths),
        }

    def begin(self) -> TicketState:
        """The state before the first training."""
        start = self.rewind if isinstance(self.rewind, list) else _values(self.initial)
        if callable(self.rewind):
            early = copy_of(self.initial)
            self.rewind(early)
            start = _values(early)
        masks = [np.ones(target.variable.shape, bool) for target in self.choice.targets(self.initial)[0]]
        return TicketState(rewound=start, trained=start, masks=masks)

    def train_next(self, state: TicketState) -> keras.Model:
        """The next round: brings `state` forward and returns the trained model."""
        number = len(state.history)
        student = copy_of(self.initial)
        masks = self._next_masks(student, state) if number else state.masks
        put_on(student, state.rewound, self._by_path(masks) if number else {})
        point = _RewindPoint(student, self.rewind) if isinstance(self.rewind, int) else None
        if number:
            callbacks = [PruningCallback(pattern=self.choice.pattern, select=self.choice.select)]
        else:
            callbacks = [point] if point else []
        outcome = self.train(student, callbacks)
        self._check_zeros(student, masks)
        if point and not number:
            state.rewound = point.taken()
        state.trained, state.masks = _values(student), masks
        zeros = 1 - sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
        state.history.append({"round": number, "sparsity": zeros, "metrics": _metrics(outcome)})
        return student

    def ticket(self, state: TicketState, trained: keras.Model | None) -> Ticket:
        """The result of the last round; `trained` is made again if it was not trained in this program."""
        model = copy_of(self.initial)
        masks = self._by_path(state.masks)
        put_on(model, state.rewound, masks)
        if trained is None:
            trained = copy_of(self.initial)
            put_on(trained, state.trained, {})
        return Ticket(model, trained, masks, state.history, self.initial, self.skipped)

    def _by_path(self, masks) -> dict[str, np.ndarray]:
        return dict(zip(self.paths, masks, strict=True))

    def _next_masks(self, student, state) -> list[np.ndarray]:
        """Masks of the trained weights; what was pruned before stays so."""
        put_on(student, state.trained, {})
        targets, _ = self.choice.targets(student)
        share = len(state.history) / self.rounds
        rule = self.choice.rule(share)
        seen = evidence.from_data(rule.evidence, student, targets, self.choice.data)
        masks = rule.masks(targets, at_share(self.sparsity, share), seen)
        masks = [new & old for new, old in zip(masks, state.masks, strict=True)]
        if emptied := [path for path, mask in self._by_path(masks).items() if not mask.any()]:
            warnings.warn(
                f"Every weight of {', '.join(emptied)} is pruned: nothing passes there. Choose a lower "
                "sparsity, criterion='lamp', or scope='layer'.",
                stacklevel=4,
            )
        return masks

    def _check_masks(self, targets) -> None:
        """Raises before the first training what the last one's masks would raise after it."""
        rule = self.choice.rule()
        evidence.check_data(rule.evidence, self.choice.data)
        rule.masks(targets, self.sparsity, [np.zeros(target.variable.shape) for target in targets])

    def _check_zeros(self, student, masks) -> None:
        targets, _ = self.choice.targets(student)
        alive = sum(
            int(((target.variable.numpy() != 0) & ~mask).sum())
            for target, mask in zip(targets, masks, strict=True)
        )
        if alive:
            raise ValueError(
                f"`train` let {alive} pruned weights live again. Pass the callbacks it is given on: "
                "model.fit(..., callbacks=callbacks)."
            )


class _RewindPoint(keras.callbacks.Callback):
    """Takes the weights of `student` once its optimizer has made a number of steps."""

    def __init__(self, student, steps: int):
        super().__init__()
        self.student, self.steps = student, steps
        self._values, self._reached = None, 0

    def on_train_batch_end(self, batch, logs=None):
        self._reached = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        if self._values is None and self._reached >= self.steps:
            self._values = _values(self.student)

    def taken(self) -> list[np.ndarray]:
        if self._values is None:
            raise ValueError(
                f"rewind={self.steps} steps were not reached: `train` made {self._reached} optimizer steps "
                "with the callbacks it was given. Rewind to fewer steps, train longer, or pass the callbacks "
                "on: model.fit(..., callbacks=callbacks)."
            )
        return self._values


def _values(model) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.weights]


def _metrics(outcome) -> dict[str, float]:
    """What `train` returned, as numbers by name: the last epoch of a `History`."""
    if isinstance(outcome, keras.callbacks.History):
        outcome = {name: values[-1] for name, values in outcome.history.items()}
    if isinstance(outcome, Mapping):
        return {str(name): float(value) for name, value in outcome.items() if np.size(value) == 1}
    if isinstance(outcome, numbers.Real):
        return {"score": float(outcome)}
    if outcome is not None:
        warnings.warn(
            "What `train` returned is left out of the ticket's history: expected a History, a number, a dict "
            f"of numbers, or None. Received: {type(outcome)}.",
            stacklevel=4,
        )
    return {}
