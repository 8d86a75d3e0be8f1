"""Hinton's distillation: the teacher's softened probabilities as targets."""

import keras
from keras import ops

from tfsqueeze.core.checks import check_choice, check_positive
from tfsqueeze.distillation.loss import OutputLoss


@keras.saving.register_keras_serializable(package="tfsqueeze")
class SoftTargets(OutputLoss):
    """T^2 KL(p_T(teacher) || p_T(student)), where p_T = softmax(logits / T) along the last axis.

    T^2 keeps the size of the gradient when the temperature changes. Where each class is a yes or no of
    its own (sigmoid outputs), the mean over the classes of the same divergence of the two answers.
    Positions of sequences and segmentations are examples of their own.

    Args:
        output: name of the student's output it is for; None for every output.
        temperature: T > 0; None for that of the Distiller.
        activation: "softmax" or "sigmoid"; None to take it from the networks' last layers (sigmoid also
            for outputs of one value).

    Source: Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
    """

    def __init__(
        self, output: str | None = None, temperature: float | None = None, activation: str | None = None
    ):
        super().__init__(output)
        self.temperature = None if temperature is None else check_positive("temperature", temperature)
        self.activation = check_choice("activation", activation, (None, "softmax", "sigmoid"))

    def compare(self, comparison):
        temperature = comparison.temperature if self.temperature is None else self.temperature
        student = comparison.student_logits / temperature
        teacher = comparison.teacher_logits / temperature
        is_sigmoid = comparison.is_sigmoid if self.activation is None else self.activation == "sigmoid"
        return temperature**2 * (_binary if is_sigmoid else divergence)(student, teacher)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature, "activation": self.activation}


def divergence(student, teacher):
    """KL(softmax(teacher) || softmax(student)) along the last axis."""
    difference = ops.log_softmax(teacher) - ops.log_softmax(student)
    return ops.sum(ops.softmax(teacher) * difference, axis=-1)


def _binary(student, teacher):
    yes = ops.log_sigmoid(teacher) - ops.log_sigmoid(student)
    no = ops.log_sigmoid(-teacher) - ops.log_sigmoid(-student)
    return ops.mean(ops.sigmoid(teacher) * yes + ops.sigmoid(-teacher) * no, axis=-1)
