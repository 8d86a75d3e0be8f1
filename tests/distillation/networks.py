"""Small students and teachers."""

import keras
import numpy as np
from keras import layers


def convnet(width=4, classes=3, size=8, activation="softmax", name=None, dropout=0.0):
    """Two convolutions, normalisation, pooling and a head, with a regulariser."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.Conv2D(width, 3, activation="relu", name="conv1")(image)
    x = layers.Conv2D(width, 3, activation="relu", kernel_regularizer="l2", name="conv2")(x)
    x = layers.BatchNormalization(name="normalization")(x)
    x = layers.Dropout(dropout, seed=1)(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(classes, activation=activation, name="head")(x), name=name)


def images(count=32, classes=3, size=8, seed=0):
    """Random images whose class shows in their brightness."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    pixels = rng.normal(size=(count, size, size, 3)) + labels[:, None, None, None]
    return pixels.astype("float32"), labels
