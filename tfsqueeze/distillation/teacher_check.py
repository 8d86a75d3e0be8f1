"""A warning when the teacher knows nothing: forgotten weights, other classes, other inputs."""

import math
import warnings

import keras
from keras import ops

from tfsqueeze.distillation.loss import Comparison

LEAST_EXAMPLES = 100


class TeacherCheck:
    """Counts in the training step how often the teacher is right, and warns after the first epoch.

    Args:
        name: what is checked, for the warning.
    """

    def __init__(self, name: str):
        self._name = name
        self._classes: int | None = None
        self._is_done = False
        # Not a metric of the model: it is no part of logs and files.
        self._right = keras.metrics.Mean(name="teacher_accuracy")

    def update(self, comparison: Comparison) -> None:
        """Counts one batch, where labels are class indices, one-hot, or yes and no; others are left out."""
        if self._is_done or comparison.labels is None:
            return
        is_yes_or_no = comparison.is_sigmoid or comparison.teacher.shape[-1] == 1
        answers = (_yes_or_no if is_yes_or_no else _one_of_many)(comparison.labels, comparison.teacher_logits)
        if answers is not None:
            right, counted = (ops.reshape(ops.cast(values, "float32"), (-1,)) for values in answers)
            self._classes = 2 if is_yes_or_no else comparison.teacher.shape[-1]
            self._right.update_state(right, sample_weight=counted)

    def warn_if_guessing(self) -> None:
        """Warns if the teacher was right no more often than by chance."""
        if self._is_done or self._classes is None:
            return
        self._is_done = True
        count = float(ops.convert_to_numpy(self._right.count))
        accuracy = float(ops.convert_to_numpy(self._right.result()))
        chance = 1 / self._classes
        if count >= LEAST_EXAMPLES and accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / count):
            warnings.warn(
                f"The teacher {self._name} is right on {accuracy:.1%} of the labels, no better than chance "
                f"among {self._classes} classes. Are its weights loaded, its inputs scaled as it knows them, "
                "and its classes in the labels' order (see `class_map`)?",
                stacklevel=2,
            )


class TeacherCheckCallback(keras.callbacks.Callback):
    """Looks at a distiller's checks, one for each output, after the first epoch."""

    def __init__(self, checks: list[TeacherCheck]):
        super().__init__()
        self._checks = checks

    def on_epoch_end(self, epoch, logs=None):
        for check in self._checks:
            check.warn_if_guessing()


def _yes_or_no(labels, logits):
    """Whether each answer is right, and whether its label is one; None for labels of another shape."""
    wanted = tuple(logits.shape)
    if not _agree(labels.shape, wanted) and not (wanted[-1] == 1 and _agree(labels.shape, wanted[:-1])):
        return None
    truth = ops.reshape(ops.cast(labels, "float32"), ops.shape(logits))
    return ops.equal(ops.cast(logits > 0, "float32"), truth), (truth == 0) | (truth == 1)


def _one_of_many(labels, logits):
    """The same for labels that are indices or one-hot; classes that are none, such as 255, do not count."""
    wanted, guess = tuple(logits.shape), ops.cast(ops.argmax(logits, axis=-1), "int32")
    if _agree(labels.shape, wanted):
        truth = ops.cast(labels, "float32")
        are_shares = ops.all(truth >= 0, axis=-1) & (ops.abs(ops.sum(truth, axis=-1) - 1) < 1e-3)
        return ops.equal(guess, ops.cast(ops.argmax(truth, axis=-1), "int32")), are_shares
    if not _agree(labels.shape, wanted[:-1]) and not _agree(labels.shape, (*wanted[:-1], 1)):
        return None
    given = ops.reshape(labels, ops.shape(guess))
    truth = ops.cast(given, "int32")
    is_class = (truth >= 0) & (truth < wanted[-1]) & ops.equal(ops.cast(truth, given.dtype), given)
    return ops.equal(guess, truth), is_class


def _agree(shape, wanted) -> bool:
    sizes = zip(shape, wanted, strict=False)
    return len(shape) == len(wanted) and all(None in pair or pair[0] == pair[1] for pair in sizes)
