"""A small convolutional net with something to save, and inputs for it."""

import keras
import numpy as np
from keras import layers


def convolutional(filters=16):
    """Layers of several kinds on correlated inputs, so that there is something to save."""
    image = keras.Input((10, 10, 4))
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name="conv1")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="bn1")(x))
    x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu", name="conv2")(x)
    x = layers.Conv2D(2 * filters, 1, use_bias=False, name="pointwise")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="bn2")(x))
    x = layers.Dense(24, activation="relu", name="dense")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(5, name="head")(x))


def correlated_images(count=64, seed=0):
    """Four channels that are mixtures of two."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, 10, 10, 2)) @ rng.normal(size=(2, 4))
    return (mixed + 0.05 * rng.normal(size=mixed.shape)).astype("float32")


def flat(outputs):
    return np.concatenate([np.ravel(value) for value in keras.tree.flatten(outputs)])


def assert_close(outputs, expected, tolerance=1e-6):
    expected = flat(expected)
    np.testing.assert_allclose(flat(outputs), expected, atol=tolerance * np.abs(expected).max())
