"""What stands for the teacher where its answers are stored."""

from collections.abc import Mapping

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="tfsqueeze")
class StoredTeacher(keras.Model):
    """A model whose inputs are stored logits and whose outputs are what the teacher made of them.

    Args:
        shape: of one example's logits.
        activation: "softmax", "sigmoid" or "linear", of the teacher's output.
        name: of this model.
    """

    def __init__(self, shape, activation: str, name: str = "stored_teacher"):
        logits = keras.Input(shape, name="logits")
        outputs = layers.Activation(activation, dtype="float32", name="output")(logits)
        super().__init__(inputs=logits, outputs=outputs, name=name)
        self._settings = {"shape": list(shape), "activation": activation}

    def get_config(self):
        """The constructor's arguments."""
        return {"name": self.name, **self._settings}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model again."""
        return cls(**config)

    @staticmethod
    def labels(targets):
        """The true labels in the targets of `SoftLabels.dataset`, or the targets themselves."""
        if isinstance(targets, Mapping) and "teacher" in targets:
            return targets.get("labels")
        return targets

    @staticmethod
    def logits(targets):
        """The stored logits in the targets of `SoftLabels.dataset`.

        Raises:
            ValueError: if there are none in them.
        """
        if not isinstance(targets, Mapping) or "teacher" not in targets:
            raise ValueError(
                "The teacher's answers are stored: fit on `labels.dataset(x, y, batch_size=...)`, which "
                "brings them along. The targets received hold none."
            )
        return targets["teacher"]
