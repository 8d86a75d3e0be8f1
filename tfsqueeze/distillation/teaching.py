"""What the teacher's losses come to on one batch."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from tfsqueeze.distillation.activations import logits_of
from tfsqueeze.distillation.capture import Capture
from tfsqueeze.distillation.keras_loss import KerasLoss
from tfsqueeze.distillation.loss import Comparison, DistillationLoss, FeatureLoss, OutputLoss
from tfsqueeze.distillation.output_pairs import OutputPair, check_names
from tfsqueeze.distillation.reduction import common_weights, weighted_mean
from tfsqueeze.distillation.regression import Regression
from tfsqueeze.distillation.soft_targets import SoftTargets
from tfsqueeze.distillation.stored_teacher import StoredCapture, StoredTeacher
from tfsqueeze.distillation.structures import is_regression, part_of


@dataclass(frozen=True)
class Pass:
    """One pass of a network: its flattened outputs, and features by layer."""

    outputs: list
    features: dict[str, Any]

    def feature(self, layer: str | None):
        """What a layer returned; the output for None."""
        return self.outputs[0] if layer is None else self.features[layer]

    def frozen(self) -> "Pass":
        """The same without gradients."""
        features = {layer: _frozen(tensor) for layer, tensor in self.features.items()}
        return Pass(list(map(_frozen, self.outputs)), features)


@dataclass(frozen=True)
class Batch:
    """Of one training step: labels and sample weights as given, and the temperature as a tensor."""

    labels: Any
    sample_weight: Any
    temperature: Any


@dataclass(frozen=True)
class Term:
    """One loss' reduced value, and the position of the output it concerns; None for all of them."""

    value: Any
    output: int | None = None


class Teaching:
    """The losses between a student and a teacher, without state of its own.

    Args:
        student, teacher: the two models.
        losses: all losses there may be; they name the layers to be caught.
        pairs: how outputs correspond, one for each of the student's.
    """

    def __init__(self, student, teacher, losses: list[DistillationLoss], pairs: list[OutputPair]):
        self.pairs = pairs
        self._student = Capture(student, _layers(losses, "student_layer"), "student")
        self._teacher = _teacher_capture(teacher, _layers(losses, "teacher_layer"))
        for loss in losses:
            self._check(loss)

    def adapter(self, loss: DistillationLoss) -> keras.Layer | None:
        """The built layer that a loss needs on the student's features, or None."""
        if not isinstance(loss, FeatureLoss):
            return None
        student = self._shape(self._student, loss.student_layer, "student")
        layer = loss.adapter(student, self._shape(self._teacher, loss.teacher_layer, "teacher"))
        if layer is not None:
            layer.build(student)
        return layer

    def run_student(self, inputs, training: bool):
        """Outputs in the model's structure, and features by layer."""
        return self._student(inputs, training)

    def run_teacher(self, inputs) -> Pass:
        """The teacher in inference mode; no gradient flows through it."""
        outputs, features = self._teacher(inputs, training=False)
        return Pass(keras.tree.flatten(outputs), features).frozen()

    def terms(
        self, loss: DistillationLoss, adapter, student: Pass, teacher: Pass, batch: Batch
    ) -> list[Term]:
        """What one loss comes to: a term for each output, or a single one for features."""
        if isinstance(loss, OutputLoss):
            wanted = [i for i, pair in enumerate(self.pairs) if loss.output in (None, pair.student.name)]
            return [Term(self._compare(loss, index, student, teacher, batch), index) for index in wanted]
        if isinstance(loss, KerasLoss):
            return [Term(weighted_mean(self._compare_by_keras(loss, student, teacher)))]
        return [Term(_compare_features(loss, adapter, student, teacher, batch))]

    def default_losses(self, compiled) -> list[OutputLoss]:
        """For each output, the loss that goes with what it is.

        Args:
            compiled: the loss given to `compile`; one of a regression is not distilled as classes.
        """
        return [
            (Regression if is_regression(part_of(compiled, self.names, index)) else SoftTargets)(output=name)
            for index, name in enumerate(self.names)
        ]

    def comparison(self, index: int, student: Pass, teacher: Pass, batch: Batch) -> Comparison:
        """One output of both networks."""
        pair = self.pairs[index]
        own = student.outputs[index]
        return Comparison(
            own,
            pair.aligned(teacher.outputs[pair.teacher_index], own),
            pair.student.activation,
            pair.teacher.activation,
            batch.temperature,
            self.part(batch.labels, index),
        )

    def part(self, structure, index: int):
        """What belongs to an output in labels or sample weights."""
        return part_of(structure, self.names, index)

    @property
    def names(self) -> list[str]:
        """Names of the student's outputs."""
        return [pair.student.name for pair in self.pairs]

    def _compare(self, loss, index, student, teacher, batch):
        values = loss.compare(self.comparison(index, student, teacher, batch))
        mask = getattr(student.outputs[index], "_keras_mask", None)
        return weighted_mean(values, self.part(batch.sample_weight, index), mask)

    def _compare_by_keras(self, loss, student, teacher):
        def view(run, layer, activations):
            if layer is not None:
                return run.features[layer]
            outputs = run.outputs
            if loss.wants_logits:
                outputs = [logits_of(*both) for both in zip(outputs, activations, strict=True)]
            return outputs if len(outputs) > 1 else outputs[0]

        pairs = self.pairs
        taught = Pass([teacher.outputs[pair.teacher_index] for pair in pairs], teacher.features)
        return loss.compare(
            view(student, loss.student_layer, [pair.student.activation for pair in pairs]),
            view(taught, loss.teacher_layer, [pair.teacher.activation for pair in pairs]),
        )

    def _check(self, loss) -> None:
        if isinstance(loss, OutputLoss):
            check_names([loss.output] if loss.output is not None else [], self.names, "output")
            for pair in self.pairs:
                if loss.output in (None, pair.student.name):
                    pair.check()

    def _shape(self, capture, layer, role) -> tuple:
        if layer is not None:
            return capture.shape(layer)
        if len(self.pairs) > 1:
            raise ValueError(
                f"Several outputs: name the layer of the {role} whose features are compared. Its outputs are "
                f"{[getattr(pair, role).name for pair in self.pairs]}."
            )
        return getattr(self.pairs[0], role).shape


def _compare_features(loss, adapter, student, teacher, batch):
    features = student.feature(loss.student_layer)
    mask = getattr(features, "_keras_mask", None)
    if adapter is not None:
        features = adapter(features)
    pair = (ops.cast(x, "float32") for x in (features, teacher.feature(loss.teacher_layer)))
    values = loss.compare(*(x if mask is None else _shown(x, mask) for x in pair))
    return weighted_mean(values, common_weights(batch.sample_weight), mask)


def _shown(features, mask):
    """Features with zeros where positions are masked, for losses that see all positions at once."""
    if len(features.shape) == len(mask.shape) + 1 and features.shape[1] == mask.shape[1]:
        return ops.where(mask[..., None], features, 0.0)
    return features


def _teacher_capture(teacher, layers: set[str]) -> Capture | StoredCapture:
    is_stored = isinstance(teacher, StoredTeacher)
    return StoredCapture(teacher, layers) if is_stored else Capture(teacher, layers, "teacher")


def _layers(losses, attribute: str) -> set[str]:
    return {getattr(loss, attribute, None) for loss in losses} - {None}


def _frozen(tensor):
    """Stops gradients; the logits Keras remembers of probabilities stay with them."""
    frozen = ops.stop_gradient(tensor)
    if hasattr(tensor, "_keras_logits"):
        frozen._keras_logits = ops.stop_gradient(tensor._keras_logits)
    return frozen
