"""Lets `tf_keras` read files with a user's own Keras 3 layers in them, by stand-ins that run those layers."""

import inspect
from collections.abc import Mapping

import keras
import tensorflow as tf

from tfsqueeze.models.port_layers import known_config


def with_stand_ins(custom_objects: Mapping) -> dict:
    """The objects by name that `tf_keras` can use: Keras 3 layer classes replaced, the rest as they are.

    Args:
        custom_objects: the user's classes and functions by name. Keras 3 classes registered with
            `keras.saving.register_keras_serializable` are added.
    """
    objects = {**keras.saving.get_custom_objects(), **custom_objects}
    return {
        name: _stand_in(item, name) if _is_keras_3_layer(item) else item for name, item in objects.items()
    }


def _is_keras_3_layer(item) -> bool:
    return inspect.isclass(item) and issubclass(item, keras.layers.Layer)


def _stand_in(kind: type, name: str) -> type:
    import tf_keras

    class StandIn(tf_keras.layers.Layer):
        """Has the weights of a Keras 3 layer under the same names, and computes what it computes."""

        def __init__(self, twin_config, **kwargs):
            super().__init__(**kwargs)
            object.__setattr__(self, "_twin_config", twin_config)
            # Set past tf_keras, which would look for the twin's own variables in the file.
            object.__setattr__(self, "_hidden", {"twin": make_twin(self)})

        @classmethod
        def from_config(cls, config):
            own = {
                key: config[key]
                for key in ("name", "trainable", "dtype", "batch_input_shape")
                if key in config
            }
            return cls(dict(config), **own)

        def build(self, input_shape):
            twin = self._hidden["twin"]
            if not twin.built:
                twin.build(_as_tuples(input_shape))
            self._hidden["mirrors"] = [self._mirror(twin, weight) for weight in twin.weights]
            super().build(input_shape)

        def _mirror(self, twin, weight):
            mirror = self.add_weight(
                weight.name, tuple(weight.shape), weight.dtype, trainable=weight.trainable
            )
            attribute = next((name for name, value in vars(twin).items() if value is weight), None)
            if attribute and not hasattr(self, attribute):
                setattr(self, attribute, mirror)
            return mirror

        def call(self, inputs, **kwargs):
            twin = self._hidden["twin"]
            values = [tf.convert_to_tensor(mirror) for mirror in self._hidden["mirrors"]]
            with keras.StatelessScope(state_mapping=list(zip(twin.weights, values, strict=True))):
                return twin(inputs, **kwargs)

        def get_config(self):
            return {**self._twin_config, "name": self.name}

    def make_twin(layer):
        return kind.from_config(known_config(kind, layer.get_config()))

    # Keras 2 files address a layer's weights by the name of its class.
    StandIn.__name__ = name.split(">")[-1]
    StandIn.make_twin = make_twin
    return StandIn


def is_stand_in(layer) -> bool:
    """Whether a `tf_keras` layer stands in for a Keras 3 layer."""
    return hasattr(layer, "make_twin") and "twin" in getattr(layer, "_hidden", {})


def _as_tuples(shape):
    if isinstance(shape, tf.TensorShape):
        return tuple(shape.as_list())
    if isinstance(shape, Mapping):
        return {key: _as_tuples(value) for key, value in shape.items()}
    if isinstance(shape, (list, tuple)) and not all(size is None or isinstance(size, int) for size in shape):
        return [_as_tuples(value) for value in shape]
    return tuple(shape)
