"""Images in the size that a network takes, so that student and teacher may differ in it."""

import keras
from keras import ops

from tfsqueeze.core.data import input_struct


def fit_images(model: keras.Model, inputs):
    """The inputs with every image resized to the height and width `model` is made for (bilinearly).

    Args:
        model: a built model.
        inputs: what it is to be called on; anything that is no image (4 axes) is handed on as it is.
    """
    struct = input_struct(model)
    expected = [] if struct is None else keras.tree.flatten(struct)
    values = keras.tree.flatten(inputs)
    if len(expected) != len(values):
        return inputs
    fitted = [_fit(value, tensor.shape) for value, tensor in zip(values, expected, strict=True)]
    return keras.tree.pack_sequence_as(inputs, fitted)


def _fit(value, shape):
    if len(shape) != 4 or len(value.shape) != 4 or None in shape[1:3] or value.shape[1:3] == shape[1:3]:
        return value
    size = tuple(shape[1:3])
    return ops.image.resize(ops.cast(value, keras.config.floatx()), size, data_format="channels_last")
