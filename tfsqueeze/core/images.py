"""Images in the size that a network takes."""

from collections.abc import Mapping

import keras
from keras import ops

from tfsqueeze.core.data import input_specs, input_struct


def fit_images(model: keras.Model, inputs):
    """The inputs with every image resized to the height and width `model` is made for, see `resize_images`.

    Args:
        model: a built model.
        inputs: what it is to be called on; anything that is no image (4 axes) is handed on as it is.
    """
    struct = input_struct(model)
    expected = [] if struct is None else keras.tree.flatten(struct)
    if isinstance(inputs, Mapping) and expected:
        shapes = {spec.name: spec.shape for spec in input_specs(model)}
        return {name: _fit(value, shapes.get(name, ())) for name, value in inputs.items()}
    values = keras.tree.flatten(inputs)
    if len(expected) != len(values):
        return inputs
    fitted = [_fit(value, tensor.shape) for value, tensor in zip(values, expected, strict=True)]
    return keras.tree.pack_sequence_as(inputs, fitted)


def resize_images(images, size: tuple[int, int]):
    """Resizes images bilinearly; where they become smaller each pixel is the mean of all those it covers.

    The same as `tf.image.resize(images, size, antialias=True)`, as two products of matrices, which unlike
    TensorFlow's operation XLA compiles.

    Args:
        images: shape (batch, height, width, channels).
        size: the new height and width.

    Returns:
        A float tensor.
    """
    images = ops.cast(images, keras.config.floatx())
    rows, columns = (_weights(ops.shape(images)[axis], size[axis - 1]) for axis in (1, 2))
    return ops.einsum("wx,nhxc->nhwc", columns, ops.einsum("hy,nyxc->nhxc", rows, images))


def _weights(size, new: int):
    """How much each of `size` pixels counts in each of the `new` ones: a triangle around its centre."""
    step = ops.cast(size, "float32") / ops.cast(new, "float32")
    centres = (ops.arange(new, dtype="float32") + 0.5) * step
    places = ops.arange(size, dtype="float32") + 0.5
    distances = ops.abs(centres[:, None] - places[None]) / ops.maximum(step, 1.0)
    weights = ops.maximum(1.0 - distances, 0.0)
    return ops.cast(weights / ops.sum(weights, axis=1, keepdims=True), keras.config.floatx())


def _fit(value, shape):
    if len(shape) != 4 or len(value.shape) != 4 or None in shape[1:3] or value.shape[1:3] == shape[1:3]:
        return value
    return resize_images(value, tuple(shape[1:3]))
