"""What stands for the teacher where its answers are stored."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from keras import layers
from keras.src.trainers.data_adapters.tf_dataset_adapter import make_class_weight_map_fn

from tfsqueeze.core.checks import did_you_mean


@keras.saving.register_keras_serializable(package="tfsqueeze")
class StoredTeacher(keras.Model):
    """A model whose inputs are stored logits and whose outputs are what the teacher made of them.

    Args:
        outputs: name, shape of one example and activation ("softmax", "sigmoid" or "linear") of each output.
        features: shape of one example's features, by layer.
        name: of this model.
    """

    def __init__(
        self,
        outputs: Sequence[tuple[str, Sequence[int], str]],
        features: Mapping[str, Sequence[int]],
        name: str = "stored_teacher",
    ):
        logits = [keras.Input(shape, name=f"{output}_logits") for output, shape, _ in outputs]
        ends = [
            layers.Activation(activation, dtype="float32", name=output)(values)
            for (output, _, activation), values in zip(outputs, logits, strict=True)
        ]
        super().__init__(inputs=logits, outputs=ends if len(ends) > 1 else ends[0], name=name)
        self._settings = {
            "outputs": [[output, list(shape), activation] for output, shape, activation in outputs],
            "features": {layer: list(shape) for layer, shape in features.items()},
        }

    def get_config(self):
        """The constructor's arguments."""
        return {"name": self.name, **self._settings}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model again."""
        return cls(**config)

    @property
    def feature_shapes(self) -> dict[str, list[int]]:
        """Shape of one example's stored features, by layer."""
        return dict(self._settings["features"])

    @staticmethod
    def labels(targets):
        """The true labels in the targets of `SoftLabels.dataset`, or the targets themselves."""
        if isinstance(targets, Mapping) and "teacher" in targets:
            return targets.get("labels")
        return targets

    @staticmethod
    def weighted(data: tf.data.Dataset, class_weight: Mapping[int, float]) -> tf.data.Dataset:
        """What `SoftLabels.dataset` gives, with `class_weight` as weights of the examples.

        Raises:
            ValueError: if `data` is no such dataset, or has no single labels or has weights already.
        """
        targets = data.element_spec[1] if isinstance(data, tf.data.Dataset) else None
        if not isinstance(targets, Mapping) or "labels" not in targets:
            raise ValueError(
                "`class_weight` needs the labels: fit on `labels.dataset(x, y, batch_size=...)`. The data "
                f"received, a {type(data).__name__}, hold none."
            )
        weigh = make_class_weight_map_fn(class_weight)
        return data.map(lambda x, y, *weight: (x, y, weigh(x, y["labels"], *weight)[-1]))

    @staticmethod
    def answers(targets):
        """What is stored of the teacher, in the targets of `SoftLabels.dataset`.

        Raises:
            ValueError: if there is none in them.
        """
        if not isinstance(targets, Mapping) or "teacher" not in targets:
            raise ValueError(
                "The teacher's answers are stored: fit on `labels.dataset(x, y, batch_size=...)`, which "
                "brings them along. The targets received hold none."
            )
        return targets["teacher"]


class StoredCapture:
    """The stored features of a teacher, in the place of `Capture`.

    Args:
        teacher: what stands for the teacher.
        wanted: names of layers.

    Raises:
        ValueError: if the features of one of them are not stored.
    """

    def __init__(self, teacher: StoredTeacher, wanted: set[str]):
        self._teacher = teacher
        self._shapes = teacher.feature_shapes
        for layer in sorted(wanted - self._shapes.keys()):
            raise ValueError(
                f"The features of layer {layer!r} are not stored with the soft labels. "
                f"{did_you_mean(layer, self._shapes)} Stored are: {sorted(self._shapes) or 'none'}. Name "
                "them when writing: SoftLabels.write(..., features=[...])."
            )

    def shape(self, layer: str) -> tuple:
        """Shape of a layer's features, batch axis first."""
        return (None, *self._shapes[layer])

    def __call__(self, answers, training: bool):
        """The outputs, and the features by layer."""
        features = dict(zip(self._shapes, answers.get("features", ()), strict=True))
        return self._teacher(list(answers["outputs"]), training=training), features
