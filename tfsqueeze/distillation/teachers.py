"""Several teachers as one."""

from collections.abc import Sequence

import keras
from keras import ops

from tfsqueeze.core.checks import check_positive
from tfsqueeze.core.images import fit_images
from tfsqueeze.distillation.activations import logits_of
from tfsqueeze.distillation.output_pairs import outputs_of
from tfsqueeze.distillation.structures import placeholders
from tfsqueeze.distillation.student_model import check_models


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Teachers(keras.Model):
    """Several teachers, which a `tfs.Distiller` takes as one.

    Logits are averaged, which is the normalised geometric mean of the probabilities at every temperature;
    outputs that are no classes are averaged as they are. Outputs end as the first teacher's do.

    Args:
        teachers: two or more built models with outputs of the same structure and shapes. Image inputs may
            be of other sizes than the first one's.
        weights: a number > 0 for each teacher; None for equal ones. Their sum does not matter.
        by_confidence: whether each example (or position) is taught more by the teachers that are sure of
            it: weights are multiplied by exp(-entropy of the teacher's probabilities).
        activations: "softmax", "sigmoid" or "linear" for the outputs of all teachers; None to read them
            from their last layers.
        name: of this model.

    Raises:
        ValueError: if there are no two teachers, weights are not as many, or outputs differ in shape.

    Example:
        >>> distiller = tfs.Distiller(student, tfs.distillation.Teachers([large, other], weights=[2, 1]))

    Source: Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531,
    section 5 (averaging); Kwon et al., Adaptive Knowledge Distillation Based on Entropy, ICASSP 2020.
    """

    def __init__(
        self,
        teachers: Sequence[keras.Model],
        *,
        weights: Sequence[float] | None = None,
        by_confidence: bool = False,
        activations: str | None = None,
        name: str = "teachers",
    ):
        combined = CombinedTeachers(teachers, weights, by_confidence, activations, name="combined")
        inputs = placeholders(teachers[0])
        super().__init__(inputs=inputs, outputs=combined(inputs), name=name)
        self._settings = combined.settings()

    def get_config(self):
        """The constructor's arguments, the teachers included."""
        return {"name": self.name, **self._settings}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model again; weights follow when it is loaded from a file."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            teachers = [keras.saving.deserialize_keras_object(teacher) for teacher in config["teachers"]]
        return cls(**{**config, "teachers": teachers})


class CombinedTeachers(keras.Layer):
    """Runs every teacher in inference mode and combines what they say; arguments as of `Teachers`."""

    def __init__(self, teachers, weights, by_confidence, activations, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.teachers = check_models(teachers, "Teachers()")
        self.weights_of_teachers = _checked_weights(weights, len(self.teachers))
        self.by_confidence = by_confidence
        self._told = activations
        self._outputs = [outputs_of(teacher, activations) for teacher in self.teachers]
        _check_outputs(self.teachers, self._outputs)
        # Where a Distiller looks for what ends the network.
        self.output_activations = [output.activation for output in self._outputs[0]]

    def call(self, inputs):
        """The combined outputs, in the structure of the first teacher's."""
        answers = [teacher(fit_images(teacher, inputs), training=False) for teacher in self.teachers]
        flat = [keras.tree.flatten(answer) for answer in answers]
        combined = [self._combine(index, outputs) for index, outputs in enumerate(zip(*flat, strict=True))]
        return keras.tree.pack_sequence_as(answers[0], combined)

    def _combine(self, index: int, outputs):
        activations = [described[index].activation for described in self._outputs]
        logits = [logits_of(*both) for both in zip(outputs, activations, strict=True)]
        weights = [ops.convert_to_tensor(weight, "float32") for weight in self.weights_of_teachers]
        if self.by_confidence:
            is_sigmoid = "sigmoid" in activations or logits[0].shape[-1] == 1
            weights = [w * ops.exp(-_entropy(z, is_sigmoid)) for w, z in zip(weights, logits, strict=True)]
        total = sum(weights)
        mean = sum(weight / total * z for weight, z in zip(weights, logits, strict=True))
        return keras.activations.get(activations[0])(mean)

    def settings(self) -> dict:
        """Arguments of `Teachers`, ready for a file."""
        return {
            "teachers": [keras.saving.serialize_keras_object(teacher) for teacher in self.teachers],
            "weights": self.weights_of_teachers,
            "by_confidence": self.by_confidence,
            "activations": self._told,
        }


def _entropy(logits, is_sigmoid: bool):
    """Entropy in nats along the last axis, which is kept with size 1."""
    if is_sigmoid:
        yes, no = ops.sigmoid(logits), ops.sigmoid(-logits)
        return -ops.mean(
            yes * ops.log_sigmoid(logits) + no * ops.log_sigmoid(-logits), axis=-1, keepdims=True
        )
    return -ops.sum(ops.softmax(logits) * ops.log_softmax(logits), axis=-1, keepdims=True)


def _checked_weights(weights, count: int) -> list[float]:
    if count < 2:
        raise ValueError(f"Teachers() takes two or more teachers. Received: {count}. Pass one as it is.")
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ValueError(f"`weights` must list one number for each of {count} teachers. Received: {weights}.")
    return [float(check_positive("weights", weight)) for weight in weights]


def _check_outputs(teachers, outputs) -> None:
    first = [output.shape for output in outputs[0]]
    for teacher, described in zip(teachers, outputs, strict=True):
        shapes = [output.shape for output in described]
        if shapes != first:
            raise ValueError(
                f"All teachers must have outputs of the same shapes. {teachers[0].name!r} has {first}, "
                f"{teacher.name!r} {shapes}."
            )
