"""Hints: features of the teacher as targets for features of the student."""

import keras
from keras import layers, ops

from tfsqueeze.core.checks import check_positive
from tfsqueeze.distillation.loss import FeatureLoss, resized


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Features(FeatureLoss):
    """Mean over the channels of (A(student) - teacher)^2.

    A is the identity where the numbers of channels agree, else a linear map of the channels that is
    learned along and is no part of the student (a 1x1 convolution of images, a Dense layer of vectors
    and sequences). Other heights, widths or lengths of the teacher are resized to the student's.

    Args:
        student_layer: name or path ("backbone/conv3") of the student's layer; None for its output.
        teacher_layer: that of the teacher's layer; None for the same name as the student's.
        normalize: whether features are first scaled to length 1 along the channels (twice the cosine
            distance, divided by their number).

    Source: Romero et al., FitNets: Hints for Thin Deep Nets, arXiv:1412.6550, eq. 3.
    """

    def __init__(
        self, student_layer: str | None = None, teacher_layer: str | None = None, normalize: bool = False
    ):
        super().__init__(student_layer, teacher_layer)
        self.normalize = normalize

    def adapter(self, student_shape, teacher_shape):
        if len(student_shape) != len(teacher_shape):
            raise ValueError(
                f"Features of layers {self.student_layer!r} and {self.teacher_layer!r} must have the same "
                f"number of axes. Received: student {student_shape}, teacher {teacher_shape}. Choose layers "
                "on the same side of pooling or flattening."
            )
        channels = teacher_shape[-1]
        if student_shape[-1] == channels:
            return None
        if len(student_shape) == 4:
            return layers.Conv2D(channels, 1, use_bias=False)
        return layers.Dense(channels, use_bias=False)

    def compare(self, student, teacher):
        teacher = resized(teacher, student)
        if self.normalize:
            student, teacher = ops.normalize(student, axis=-1), ops.normalize(teacher, axis=-1)
        return ops.mean(ops.square(student - teacher), axis=-1)

    def get_config(self):
        return {**super().get_config(), "normalize": self.normalize}


@keras.saving.register_keras_serializable(package="tfsqueeze")
class AttentionTransfer(FeatureLoss):
    """||Q(student)/|Q(student)| - Q(teacher)/|Q(teacher)|||^2, where Q = sum over channels of |feature|^p.

    Q is the map of where a network looks, as one vector over all positions; the numbers of channels may
    differ, and the teacher's map is resized to the student's.

    Args:
        student_layer: name or path of the student's layer, whose features have positions and channels.
        teacher_layer: that of the teacher's layer; None for the same name as the student's.
        power: p > 0.

    Source: Zagoruyko & Komodakis, Paying More Attention to Attention, arXiv:1612.03928, eq. 2.
    """

    def __init__(self, student_layer: str, teacher_layer: str | None = None, power: float = 2.0):
        super().__init__(student_layer, teacher_layer)
        self.power = check_positive("power", power)

    def adapter(self, student_shape, teacher_shape):
        if len(student_shape) < 3 or len(student_shape) != len(teacher_shape):
            raise ValueError(
                "AttentionTransfer needs features with positions and channels, such as (batch, height, "
                f"width, channels), on both sides. Received: layer {self.student_layer!r} of the student "
                f"{student_shape}, {self.teacher_layer!r} of the teacher {teacher_shape}."
            )

    def compare(self, student, teacher):
        teacher = resized(self._map(teacher)[..., None], student)[..., 0]
        difference = _unit(self._map(student)) - _unit(teacher)
        return ops.sum(ops.square(difference), axis=-1)

    def _map(self, features):
        return ops.sum(ops.abs(features) ** self.power, axis=-1)

    def get_config(self):
        return {**super().get_config(), "power": self.power}


def _unit(maps):
    return ops.normalize(ops.reshape(maps, (ops.shape(maps)[0], -1)), axis=-1)
