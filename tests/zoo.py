"""Tiny models of every shape a user may bring; each technique is tested on all of them.

`ZOO[name]()` gives a freshly built model with seeded weights whose BatchNorm statistics are not trivial.
"""

import keras
import numpy as np
from keras import layers, ops

from tfsqueeze.core.data import input_specs, pack_inputs


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(6, 3, padding="same", use_bias=False, name="conv1"),
            layers.BatchNormalization(name="bn1"),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(8, 3, activation="relu", kernel_regularizer="l2", name="conv2"),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(4, activation="softmax", name="head"),
        ],
        name="sequential",
    )


def residual():
    image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
    y = layers.BatchNormalization()(x)
    y = layers.Activation("relu")(y)
    y = layers.Conv2D(8, 3, padding="same", name="block_conv")(y)
    y = layers.BatchNormalization()(y)
    x = layers.ReLU(max_value=6.0)(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(3, name="head")(x), name="residual")


def concat():
    image = keras.Input((8, 8, 3), name="image")
    a = layers.Conv2D(4, 1, activation="relu", name="a")(image)
    b = layers.Conv2D(5, 3, padding="same", activation="swish", name="b")(image)
    x = layers.Concatenate()([a, b])
    x = layers.Conv2D(6, 3, strides=2, groups=3, padding="same", name="grouped")(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x), name="concat")


def shared():
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    tower = layers.Dense(8, activation="relu", name="tower")
    difference = layers.Subtract()([tower(left), tower(right)])
    return keras.Model([left, right], layers.Dense(2, name="head")(difference), name="shared")


def nested():
    image = keras.Input((8, 8, 3), name="image")
    inner_input = keras.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, name="inner_conv")(inner_input)
    backbone = keras.Model(inner_input, layers.LeakyReLU()(y), name="backbone")
    neck = keras.Sequential(
        [layers.Conv2D(4, 3, activation="relu", name="neck_conv"), layers.GlobalAveragePooling2D()],
        name="neck",
    )
    return keras.Model(image, layers.Dense(3, name="head")(neck(backbone(image))), name="nested")


def depthwise():
    return keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            layers.ZeroPadding2D(1),
            layers.Conv2D(6, 3, strides=2, use_bias=False, name="stem"),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise"),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.Conv2D(8, 1, name="pointwise"),
            layers.SeparableConv2D(8, 3, padding="same", name="separable"),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(),
            layers.Dense(4, activation="softmax", name="head"),
        ],
        name="depthwise",
    )


def multi_output():
    first, second = keras.Input((5,), name="first"), keras.Input((7,), name="second")
    x = layers.Concatenate()([layers.Dense(6, activation="gelu", name="d1")(first), second])
    x = layers.Dense(8, activation="tanh", name="trunk")(x)
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(x),
        "score": layers.Dense(1, name="score")(x),
    }
    return keras.Model({"first": first, "second": second}, outputs, name="multi_output")


class Perceptron(keras.Model):
    """A subclassed model: no graph to walk."""

    def __init__(self, units=8, classes=3, **kwargs):
        super().__init__(**kwargs)
        self.units, self.classes = units, classes
        self.hidden = layers.Dense(units, activation="relu", name="hidden")
        self.normalization = layers.BatchNormalization()
        self.head = layers.Dense(classes, name="head")

    def call(self, inputs, training=False):
        return self.head(self.normalization(self.hidden(inputs), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "classes": self.classes}


keras.saving.register_keras_serializable(package="zoo")(Perceptron)


def subclassed():
    model = Perceptron(name="subclassed")
    model(np.zeros((1, 6), "float32"))
    return model


def temporal():
    return keras.Sequential(
        [
            keras.Input((16, 3)),
            layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu", name="conv1"),
            layers.SeparableConv1D(6, 3, name="separable"),
            layers.MaxPooling1D(2),
            layers.LayerNormalization(),
            layers.TimeDistributed(layers.Dense(5, activation="relu"), name="each_step"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, name="head"),
        ],
        name="temporal",
    )


def recurrent():
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 6, name="embedding")(tokens)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both_ways")(x)
    x = layers.GRU(5, name="gru")(x)
    return keras.Model(tokens, layers.Dense(2, activation="softmax", name="head")(x), name="recurrent")


def attention():
    sequence = keras.Input((6, 8), name="sequence")
    y = layers.MultiHeadAttention(2, 4, name="attention")(sequence, sequence)
    x = layers.LayerNormalization()(sequence + y)
    y = layers.EinsumDense("abc,cd->abd", (None, 12), bias_axes="d", activation="gelu", name="expand")(x)
    x = layers.Add()([x, layers.Dense(8, name="contract")(y)])
    x = ops.mean(x, axis=1) * 0.5
    return keras.Model(sequence, layers.Dense(3, name="head")(x), name="attention")


def decoder():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="down")(image)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(x))
    return keras.Model(image, layers.Conv2D(2, 1, activation="sigmoid", name="mask")(x), name="decoder")


MODELS = (
    sequential,
    residual,
    concat,
    shared,
    nested,
    depthwise,
    multi_output,
    subclassed,
    temporal,
    recurrent,
    attention,
    decoder,
)
ZOO = {build.__name__: lambda build=build: _seeded(build) for build in MODELS}
GRAPH_ZOO = {name: build for name, build in ZOO.items() if name != "subclassed"}


def _seeded(build, seed=7):
    """Builds a model reproducibly, with non-trivial biases and BatchNorm statistics."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = build()
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("moving_variance", "gamma"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("moving_mean", "beta", "bias"):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


def zoo_inputs(model, count=4, seed=0):
    """Random inputs in the structure `model` is called on."""
    rng = np.random.default_rng(seed)

    def draw(spec):
        shape = (count, *spec.shape[1:])
        if spec.dtype.startswith("int"):
            return rng.integers(0, 20, shape).astype(spec.dtype)
        return rng.normal(size=shape).astype(spec.dtype)

    return pack_inputs(model, {spec.name: draw(spec) for spec in input_specs(model)})


def zoo_targets(model, count=4, seed=0):
    """Random regression targets in the structure of the model's outputs."""
    rng = np.random.default_rng(seed)
    outputs = model(zoo_inputs(model, count))
    return keras.tree.map_structure(lambda y: rng.normal(size=y.shape).astype("float32"), outputs)
