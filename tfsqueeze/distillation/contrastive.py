"""Contrastive distillation: the student's view of an example is nearest the teacher's view of the same."""

import keras
from keras import layers, ops

from tfsqueeze.core.checks import check_positive
from tfsqueeze.distillation.loss import FeatureLoss, pooled


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Contrastive(FeatureLoss):
    """-log softmax over j of cos(A(student_i), teacher_j) / temperature, at j = i.

    The mean of this and of the same with the roles of student and teacher changed. A is a linear map of the
    channels that is learned along and is no part of the student; positions are averaged. Negatives are the
    other examples of the batch (within each replica), of whatever class; the paper keeps a memory of the
    whole dataset instead, so large batches come closer to it.

    Args:
        student_layer: name or path of the student's layer, usually the last pooling; None for its output.
        teacher_layer: that of the teacher's layer; None for the same name as the student's.
        temperature: > 0, of the cosines; that of the Distiller has no part in it.

    Source: Tian et al., Contrastive Representation Distillation, arXiv:1910.10699; with the negatives of
    van den Oord et al., Contrastive Predictive Coding, arXiv:1807.03748, eq. 4.
    """

    def __init__(
        self, student_layer: str | None = None, teacher_layer: str | None = None, temperature: float = 0.07
    ):
        super().__init__(student_layer, teacher_layer)
        self.temperature = check_positive("temperature", temperature)

    def adapter(self, student_shape, teacher_shape):
        return layers.Dense(teacher_shape[-1], use_bias=False)

    def compare(self, student, teacher):
        student, teacher = (ops.normalize(pooled(features), axis=-1) for features in (student, teacher))
        cosines = ops.matmul(student, ops.transpose(teacher)) / self.temperature
        among_teachers, among_students = ops.log_softmax(cosines, axis=1), ops.log_softmax(cosines, axis=0)
        return -0.5 * ops.diagonal(among_teachers + among_students)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
