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
        name: the teacher's name, for the warning.
    """

    def __init__(self, name: str):
        self._name = name
        self._classes: int | None = None
        self._is_done = False
        # Not a metric of the model: it is no part of logs and files.
        self._right = keras.metrics.Mean(name="teacher_accuracy")

    def update(self, comparison: Comparison) -> None:
        """Counts one batch, where labels are class indices or one-hot; anything else is left out."""
        labels, logits = comparison.labels, comparison.teacher_logits
        if labels is None or self._is_done:
            return
        classes = logits.shape[-1]
        if classes == 1:
            right = ops.equal(ops.cast(logits > 0, "int32"), ops.reshape(_indices(labels), ops.shape(logits)))
        elif comparison.is_sigmoid:
            return
        else:
            is_one_hot = tuple(labels.shape[1:]) == tuple(logits.shape[1:])
            truth = ops.argmax(labels, axis=-1) if is_one_hot else labels
            guess = ops.argmax(logits, axis=-1)
            right = ops.equal(ops.cast(guess, "int32"), ops.reshape(_indices(truth), ops.shape(guess)))
        self._classes = max(classes, 2)
        self._right.update_state(ops.reshape(ops.cast(right, "float32"), (-1,)))

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
                f"The teacher {self._name!r} is right on {accuracy:.1%} of the labels, no better than chance "
                f"among {self._classes} classes. Are its weights loaded, its inputs scaled as it knows them, "
                "and its classes in the labels' order (see `class_map`)?",
                stacklevel=2,
            )


class TeacherCheckCallback(keras.callbacks.Callback):
    """Looks at a distiller's `TeacherCheck` after the first epoch."""

    def __init__(self, check: TeacherCheck):
        super().__init__()
        self._check = check

    def on_epoch_end(self, epoch, logs=None):
        self._check.warn_if_guessing()


def _indices(labels):
    return ops.cast(labels, "int32")
