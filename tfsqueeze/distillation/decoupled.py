"""Decoupled distillation: the true class and the other classes apart."""

import keras
from keras import ops

from tfsqueeze.core.checks import check_positive
from tfsqueeze.distillation.loss import OutputLoss
from tfsqueeze.distillation.soft_targets import divergence

FAR = 1e4
"""Taken from the true class' logit to leave the other classes alone; exp(-FAR) is 0 in float32."""


@keras.saving.register_keras_serializable(package="tfsqueeze")
class DecoupledKD(OutputLoss):
    """T^2 (target_weight KL(b_teacher || b_student) + other_weight KL(q_teacher || q_student)).

    b are the softened probabilities of the true class and of all others together; q those of the other
    classes among themselves. In soft targets the second part fades where the teacher is sure; here not.
    Needs labels (class indices or one-hot) and softmax classes.

    Args:
        output: name of the student's output it is for; None for every output.
        target_weight: > 0, alpha in the paper.
        other_weight: > 0, beta in the paper.

    Source: Zhao et al., Decoupled Knowledge Distillation, arXiv:2203.08679, eq. 7.
    """

    def __init__(self, output: str | None = None, target_weight: float = 1.0, other_weight: float = 8.0):
        super().__init__(output)
        self.target_weight = check_positive("target_weight", target_weight)
        self.other_weight = check_positive("other_weight", other_weight)

    def compare(self, comparison):
        if comparison.labels is None or comparison.is_sigmoid:
            raise ValueError(
                "DecoupledKD needs labels and outputs of several classes of which one is true. "
                f"Received: labels={comparison.labels}, student output of shape {comparison.student.shape} "
                f"({comparison.student_activation}). Use SoftTargets() instead."
            )
        temperature = comparison.temperature
        student, teacher = comparison.student_logits / temperature, comparison.teacher_logits / temperature
        target = one_hot(comparison.labels, student)
        true_class = divergence(_two_classes(student, target), _two_classes(teacher, target))
        others = divergence(student - FAR * target, teacher - FAR * target)
        return temperature**2 * (self.target_weight * true_class + self.other_weight * others)

    def get_config(self):
        weights = {"target_weight": self.target_weight, "other_weight": self.other_weight}
        return {**super().get_config(), **weights}


def one_hot(labels, logits):
    """Labels, class indices or one-hot already, as float32 of the logits' shape."""
    if tuple(labels.shape[1:]) == tuple(logits.shape[1:]):
        return ops.cast(labels, "float32")
    indices = ops.reshape(ops.cast(labels, "int32"), ops.shape(logits)[:-1])
    return ops.one_hot(indices, logits.shape[-1], dtype="float32")


def _two_classes(logits, target):
    """Logits of "the true class" and "any other"."""
    true_class = ops.logsumexp(logits - FAR * (1 - target), axis=-1)
    others = ops.logsumexp(logits - FAR * target, axis=-1)
    return ops.stack([true_class, others], axis=-1)
