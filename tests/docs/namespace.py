"""What the examples of the documentation take for granted: a trained model and its data, both tiny.

`namespace(names)` makes those of the names it knows, such as `model`, `x_train` or `teacher`.
"""

import functools
import importlib

import keras
import numpy as np
from keras import layers

import tfsqueeze as tfs

CLASSES, SIZE = 10, 16


@functools.cache
def _data(count: int, seed: int):
    """Images of ten classes that are easy to tell apart: each has a colour, under noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    colours = np.random.default_rng(0).uniform(0, 1, (CLASSES, 1, 1, 3))
    images = colours[labels] + rng.normal(0, 0.1, (count, SIZE, SIZE, 3))
    return images.astype("float32"), labels


def _network(width: int, name: str):
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, name="conv1")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(2 * width, 3, strides=2, padding="same", name="conv2")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="block5_depthwise")(x)
    y = layers.Conv2D(2 * width, 1, name="block5_conv")(y)
    x = layers.ReLU(name="block5_out")(layers.Add()([x, y]))
    x = layers.Conv2D(2 * width, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="head")(x), name=name)


def _compiled(model):
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@functools.cache
def _trained_weights(width: int):
    model = _compiled(_network(width, "model"))
    model.fit(*_data(256, 1), epochs=10, verbose=0)
    return model.get_weights()


def _trained(width: int, name: str):
    model = _compiled(_network(width, name))
    model.set_weights(_trained_weights(width))
    return model


def _unet():
    image = keras.Input((SIZE, SIZE, 3))
    skips, x = [], image
    for width in (4, 8, 8):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    for skip in reversed(skips):
        x = layers.Concatenate()([layers.UpSampling2D()(x), skip])
        x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, layers.Conv2D(2, 1, activation="softmax", name="mask")(x), name="unet")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def _classifier():
    backbone = keras.applications.MobileNet(
        alpha=0.25, include_top=False, weights=None, input_shape=(64, 64, 3)
    )
    head = [layers.GlobalAveragePooling2D(), layers.Dense(CLASSES, activation="softmax")]
    return _compiled(keras.Sequential([keras.Input((64, 64, 3)), backbone, *head], name="classifier"))


def _mobile_network():
    """A network that XNNPACK's sparse kernels can run."""
    network = [
        keras.Input((SIZE, SIZE, 3)),
        layers.ZeroPadding2D(1),
        layers.Conv2D(8, 3, strides=2, activation="relu", name="stem"),
        layers.Conv2D(16, 1, activation="relu"),
        layers.DepthwiseConv2D(3, padding="same", activation="relu"),
        layers.Conv2D(16, 1, activation="relu"),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Dense(CLASSES, activation="softmax"),
    ]
    return _compiled(keras.Sequential(network))


def _overflowing_network():
    """A network whose scores exceed float16."""
    image = keras.Input((SIZE, SIZE, 3))
    score = layers.Dense(1, kernel_initializer=keras.initializers.Constant(200.0), name="score")
    return keras.Model(image, layers.Activation("tanh")(score(layers.Flatten()(image))))


def _fit(parameters):
    return -abs(np.log10(parameters["learning_rate"]) + 2)


_BUILDERS = {
    "model": lambda: _trained(4, "model"),
    "teacher": lambda: _trained(8, "teacher"),
    "large": lambda: _trained(8, "large"),
    "other": lambda: _trained(4, "other"),
    "student": lambda: _compiled(_network(4, "student")),
    "small": lambda: _compiled(_network(2, "small")),
    "unet": _unet,
    "masks": lambda: np.zeros((64, SIZE, SIZE, 1), "int32"),
    "classifier": _classifier,
    "mobile_network": lambda: _mobile_network,
    "overflowing_network": lambda: _overflowing_network,
    "content": lambda: b"",
    "build_model": lambda: lambda: _trained(4, "model"),
    "tflite": lambda: importlib.import_module("tfsqueeze.tflite.file"),
    "file": lambda: importlib.import_module("tfsqueeze.tflite.file").read("model.tflite"),
    "schedule": lambda: tfs.schedules.Constant(0.5),
    "fit": lambda: _fit,
    "epochs": lambda: 2,
    "keras": lambda: keras,
    "np": lambda: np,
    "tfs": lambda: tfs,
}
for _names, _count, _seed in (
    (("x", "y"), 64, 1),
    (("x_train", "y_train"), 256, 1),
    (("x_test", "y_test"), 32, 2),
    (("x_val", "y_val"), 64, 2),
    (("x_validation", "y_validation"), 32, 2),
):
    for _index, _name in enumerate(_names):
        _BUILDERS[_name] = functools.partial(lambda c, s, i: _data(c, s)[i], _count, _seed, _index)
_BUILDERS["images"] = _BUILDERS["x"]


def namespace(names) -> dict:
    """Values of those of `names` that the documentation takes for granted, made anew."""
    return {name: build() for name, build in _BUILDERS.items() if name in names}
