"""What a distillation loss is: one value per example, from what student and teacher make of it."""

import re
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from tfsqueeze.core.images import resize_images
from tfsqueeze.distillation.activations import logits_of


@dataclass(frozen=True)
class Comparison:
    """One output of student and teacher on a batch.

    Attributes:
        student: the student's output as it is, shape (batch, ..., classes or values).
        teacher: the teacher's, its classes in the student's order.
        student_activation: "softmax", "sigmoid" or "linear" (logits, or values of a regression).
        teacher_activation: the same for the teacher.
        temperature: scalar tensor, > 0.
        labels: the true labels of this output, or None.
    """

    student: Any
    teacher: Any
    student_activation: str
    teacher_activation: str
    temperature: Any
    labels: Any = None

    @property
    def student_logits(self):
        """Float32 logits of the student; of probabilities, their logarithm."""
        return logits_of(self.student, self.student_activation)

    @property
    def teacher_logits(self):
        """Float32 logits of the teacher; of probabilities, their logarithm."""
        return logits_of(self.teacher, self.teacher_activation)

    @property
    def is_sigmoid(self) -> bool:
        """Whether each entry of the last axis is a yes or no of its own."""
        activations = (self.student_activation, self.teacher_activation)
        return "softmax" not in activations and ("sigmoid" in activations or self.student.shape[-1] == 1)


class DistillationLoss:
    """Base of all losses; they have no state, and compare by configuration."""

    @property
    def name(self) -> str:
        """The name of its metric: that of the class, with underscores."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "DistillationLoss":
        """Makes the loss again from `get_config()`."""
        return cls(**config)

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self.get_config())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class OutputLoss(DistillationLoss):
    """Base of losses between outputs: subclasses define `compare`.

    Args:
        output: name of the student's output it is for; None for every output.
    """

    def __init__(self, output: str | None = None):
        self.output = output

    def compare(self, comparison: Comparison):
        """Values of shape (batch, ...): the loss of each example, or of each position of it."""
        raise NotImplementedError

    def get_config(self):
        return {"output": self.output}


class FeatureLoss(DistillationLoss):
    """Base of losses between features inside the networks: subclasses define `compare`.

    Args:
        student_layer: name or path ("backbone/conv3") of the student's layer; None for its output.
        teacher_layer: that of the teacher's layer; None for the same name as the student's.
    """

    def __init__(self, student_layer: str | None = None, teacher_layer: str | None = None):
        self.student_layer = student_layer
        self.teacher_layer = student_layer if teacher_layer is None else teacher_layer

    def adapter(self, student_shape: tuple, teacher_shape: tuple) -> keras.Layer | None:
        """A layer to be learned that brings the student's features to the teacher's shape, or None.

        Args:
            student_shape: shape of the student's features, batch axis first, None where free.
            teacher_shape: shape of the teacher's.

        Raises:
            ValueError: if features of these shapes cannot be compared.
        """
        return None

    def compare(self, student, teacher):
        """Values of shape (batch, ...) from float32 features of any shape, batch axis first."""
        raise NotImplementedError

    def get_config(self):
        return {"student_layer": self.student_layer, "teacher_layer": self.teacher_layer}


def resized(features, like):
    """Features brought to the spatial size of others; the rank is that of both.

    Bilinearly, and where they become smaller as the mean of what is covered. Sizes that are known only when
    the network runs are taken for different.

    Args:
        features: shape (batch, height, width, channels) or (batch, time, channels), or without positions.
        like: features of the wished size.
    """
    if len(features.shape) == 4 and _may_differ(features.shape[1:3], like.shape[1:3]):
        return resize_images(features, ops.shape(like)[1:3])
    if len(features.shape) == 3 and _may_differ(features.shape[1:2], like.shape[1:2]):
        return resize_images(features[:, :, None], (ops.shape(like)[1], 1))[:, :, 0]
    return features


def _may_differ(sizes, others) -> bool:
    return tuple(sizes) != tuple(others) or None in sizes


def pooled(features):
    """Features of shape (batch, ..., channels) averaged over their positions: (batch, channels)."""
    positions = tuple(range(1, len(features.shape) - 1))
    return ops.mean(features, axis=positions) if positions else features
