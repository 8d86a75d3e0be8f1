"""Losses that compare numbers: logits, or the outputs of a regression."""

import math
import numbers

import keras
from keras import ops

from tfsqueeze.distillation.loss import OutputLoss


@keras.saving.register_keras_serializable(package="tfsqueeze")
class LogitRegression(OutputLoss):
    """Mean over the classes of (student's logit - teacher's logit)^2.

    Logits that are known only from softmax probabilities, up to a constant, are centred on both sides.

    Args:
        output: name of the student's output it is for; None for every output.

    Source: Ba & Caruana, Do Deep Nets Really Need to be Deep?, arXiv:1312.6184, eq. 1.
    """

    def compare(self, comparison):
        student, teacher = comparison.student_logits, comparison.teacher_logits
        if "softmax" in (comparison.student_activation, comparison.teacher_activation):
            student, teacher = _centred(student), _centred(teacher)
        return ops.mean(ops.square(student - teacher), axis=-1)


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Regression(OutputLoss):
    """Mean over the last axis of (student - teacher)^2, for outputs that are no classes.

    With a margin, the teacher is an upper bound instead: mean (student - label)^2 as long as this error
    plus the margin exceeds the teacher's own mean (teacher - label)^2, and 0 from then on.

    Args:
        output: name of the student's output it is for; None for every output.
        margin: >= 0, in squared units of the output; None to imitate the teacher.

    Source: Chen et al., Learning Efficient Object Detection Models with Knowledge Distillation, NIPS 2017,
    eq. 4 (the bounded form).
    """

    def __init__(self, output: str | None = None, margin: float | None = None):
        super().__init__(output)
        is_number = isinstance(margin, numbers.Real) and not isinstance(margin, bool)
        if margin is not None and not (is_number and 0 <= margin < math.inf):
            raise ValueError(f"`margin` must be a number >= 0 or None. Received: margin={margin!r}.")
        self.margin = margin

    def compare(self, comparison):
        student, teacher = (ops.cast(x, "float32") for x in (comparison.student, comparison.teacher))
        if self.margin is None:
            return ops.mean(ops.square(student - teacher), axis=-1)
        if comparison.labels is None:
            raise ValueError("Regression(margin=...) needs labels. Train on (x, y), or leave `margin` None.")
        labels = ops.reshape(ops.cast(comparison.labels, "float32"), ops.shape(student))
        error = ops.mean(ops.square(student - labels), axis=-1)
        bound = ops.mean(ops.square(teacher - labels), axis=-1)
        return ops.where(error + self.margin > bound, error, ops.zeros_like(error))

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


def _centred(logits):
    return logits - ops.mean(logits, axis=-1, keepdims=True)
