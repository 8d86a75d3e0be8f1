"""Losses on how the examples of a batch lie to each other; features may have any shapes."""

import keras
from keras import ops

from tfsqueeze.distillation.loss import FeatureLoss

SMALLEST = 1e-12
"""Squared lengths below are taken for it: the gradient of a root is endless at 0."""


@keras.saving.register_keras_serializable(package="tfsqueeze")
class RelationalDistance(FeatureLoss):
    """Mean over j of huber(d_student(i, j) - d_teacher(i, j)).

    d is the Euclidean distance of the features of examples i and j, divided by its mean in the batch.

    Args:
        student_layer: name or path of the student's layer; None for its output.
        teacher_layer: that of the teacher's layer; None for the same name as the student's.

    Source: Park et al., Relational Knowledge Distillation, arXiv:1904.05068, eq. 6-8.
    """

    def compare(self, student, teacher):
        return ops.mean(_huber(_distances(student), _distances(teacher)), axis=-1)


@keras.saving.register_keras_serializable(package="tfsqueeze")
class RelationalAngle(FeatureLoss):
    """Mean over j, k of huber(cos_student(j, i, k) - cos_teacher(j, i, k)).

    cos is the cosine of the angle at example i between the directions to examples j and k. Memory and
    time grow with the cube of the batch size.

    Args:
        student_layer: name or path of the student's layer; None for its output.
        teacher_layer: that of the teacher's layer; None for the same name as the student's.

    Source: Park et al., Relational Knowledge Distillation, arXiv:1904.05068, eq. 9-10.
    """

    def compare(self, student, teacher):
        return ops.mean(_huber(_angles(student), _angles(teacher)), axis=(1, 2))


@keras.saving.register_keras_serializable(package="tfsqueeze")
class SimilarityPreserving(FeatureLoss):
    """Sum over j of (G_student(i, j) - G_teacher(i, j))^2 / batch size, of rows i of length 1.

    G is the matrix of the inner products of the examples' features, its rows scaled to length 1.

    Args:
        student_layer: name or path of the student's layer; None for its output.
        teacher_layer: that of the teacher's layer; None for the same name as the student's.

    Source: Tung & Mori, Similarity-Preserving Knowledge Distillation, arXiv:1907.09682, eq. 1-4.
    """

    def compare(self, student, teacher):
        return ops.mean(ops.square(_similarities(student) - _similarities(teacher)), axis=-1)


def _flat(features):
    return ops.reshape(features, (ops.shape(features)[0], -1))


def _distances(features):
    features = _flat(features)
    squares = ops.sum(ops.square(features), axis=-1)
    squares = squares[:, None] + squares[None, :] - 2 * ops.matmul(features, ops.transpose(features))
    distances = ops.where(squares > SMALLEST, ops.sqrt(ops.maximum(squares, SMALLEST)), 0.0)
    distances = distances * (1 - ops.eye(ops.shape(features)[0]))
    pairs = ops.cast(ops.count_nonzero(distances), "float32")
    return ops.divide_no_nan(distances, ops.divide_no_nan(ops.sum(distances), pairs))


def _angles(features):
    features = _flat(features)
    directions = features[None, :, :] - features[:, None, :]
    lengths = ops.sqrt(ops.maximum(ops.sum(ops.square(directions), axis=-1, keepdims=True), SMALLEST))
    directions = directions / lengths
    return ops.matmul(directions, ops.transpose(directions, (0, 2, 1)))


def _similarities(features):
    features = _flat(features)
    return ops.normalize(ops.matmul(features, ops.transpose(features)), axis=-1)


def _huber(student, teacher):
    difference = ops.abs(student - teacher)
    return ops.where(difference <= 1, 0.5 * ops.square(difference), difference - 0.5)
