"""Keras' own distillation losses among ours."""

import keras

from tfsqueeze.distillation.loss import DistillationLoss


@keras.saving.register_keras_serializable(package="tfsqueeze")
class KerasLoss(DistillationLoss):
    """A `keras.distillation` loss; `tfs.Distiller` wraps them by itself.

    `LogitsDistillation` gets logits, also of networks that end with a softmax. These losses return one
    number per batch, so sample weights and masks do not reach them.

    Args:
        loss: a `keras.distillation.DistillationLoss`.
    """

    def __init__(self, loss: keras.distillation.DistillationLoss):
        self.loss = loss

    @property
    def name(self):
        return keras.src.utils.naming.to_snake_case(type(self.loss).__name__)

    @property
    def student_layer(self) -> str | None:
        """The student's layer the loss looks at, or None for the outputs."""
        return getattr(self.loss, "student_layer_name", None)

    @property
    def teacher_layer(self) -> str | None:
        """The teacher's layer the loss looks at, or None for the outputs."""
        return getattr(self.loss, "teacher_layer_name", None)

    @property
    def wants_logits(self) -> bool:
        """Whether outputs are handed over as logits."""
        return isinstance(self.loss, keras.distillation.LogitsDistillation)

    def compare(self, student, teacher):
        """The loss of the batch, a scalar."""
        self.loss.validate_outputs(teacher, student)
        return self.loss.compute_loss(teacher, student)

    def get_config(self):
        return {"loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["loss"]))
