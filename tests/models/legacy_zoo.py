"""Tiny Keras 2 models, one for each thing that differs between Keras 2 and Keras 3."""

import warnings
from collections.abc import Callable

import numpy as np
import tensorflow as tf

_ = tf.keras.layers  # before tf_keras, so that tf.keras stays Keras 3

import tf_keras  # noqa: E402
from tf_keras import layers  # noqa: E402

LEGACY_ZOO: dict[str, Callable[[], tf_keras.Model]] = {}

# Keras 2 itself cannot write or read these in that format.
UNSAVABLE = {
    "h5": {"lookups", "lambdas", "activations"},
    "keras": {"lambdas", "activations", "tensorflow_calls"},
    "tf": {"lambdas", "activations"},
}


def legacy(build):
    LEGACY_ZOO[build.__name__] = build
    return build


def save(model, folder, form: str) -> str:
    """Saves a Keras 2 model as "h5", "keras" or "tf" (a SavedModel folder) and returns the path."""
    path = str(folder / {"h5": "model.h5", "keras": "model.keras", "tf": "saved"}[form])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path, save_format=form)
    return path


def randomize(model):
    """Gives every weight another value, so that biases and moving statistics count."""
    rng = np.random.default_rng(0)
    learned = (layers.Normalization, layers.StringLookup, layers.TextVectorization)
    for layer in model._flatten_layers():
        if not layer._self_tracked_trackables and not isinstance(layer, learned):
            for weight in layer.weights:
                weight.assign(rng.uniform(0.2, 1.0, weight.shape))
    return model


@legacy
def convolutional():
    return tf_keras.Sequential(
        [
            layers.Input((8, 8, 3), name="image"),
            layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2", kernel_constraint="non_neg"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.LeakyReLU(0.1),
            layers.SeparableConv2D(4, 3, padding="same"),
            layers.Conv2DTranspose(3, 3, strides=2, output_padding=1),
            layers.PReLU(shared_axes=[1, 2]),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(),
            layers.Dense(3, activation=tf.nn.softmax),
        ]
    )


@legacy
def built_by_a_call():
    model = tf_keras.Sequential([layers.Dense(4, activation=layers.LeakyReLU(0.3)), layers.Dense(2)])
    model(np.zeros((2, 5), "float32"))
    return model


@legacy
def tensorflow_calls():
    x = layers.Input((4, 6))
    joined = tf.concat([x[:, 0] * 2.0 + 1.0, tf.nn.relu(x[:, 1]), 1.0 - x[..., 2, :]], axis=-1)
    pooled = tf.reduce_mean(tf.reshape(joined, [-1, 3, 6]), axis=1)
    shape = tf.shape(x)
    flat = tf.reshape(x, [shape[0], shape[1] * shape[2]])
    first, second = tf.split(x, 2, axis=1)
    scaled = x * np.arange(6.0) / tf.norm(x)
    return tf_keras.Model(
        x, [pooled, flat, first - second, scaled, tf.cumsum(x, 1), tf.math.reduce_std(x, 1)]
    )


@legacy
def recurrent():
    return tf_keras.Sequential(
        [
            layers.Input((5, 4)),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.GRU(3, return_sequences=True),
            layers.Bidirectional(layers.GRU(3, reset_after=False, return_sequences=True), merge_mode="sum"),
            layers.LSTM(3, recurrent_activation="hard_sigmoid", return_sequences=True),
            layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)]),
        ]
    )


@legacy
def states():
    x = layers.Input((5, 4))
    sequence, hidden, cell = layers.LSTM(3, return_state=True, return_sequences=True)(x)
    return tf_keras.Model(x, layers.LSTM(3)(sequence, initial_state=[hidden, cell]))


@legacy
def masked():
    x = layers.Input((5,), dtype="int32")
    embedded = layers.Dropout(0.3)(layers.Embedding(5, 4, mask_zero=True)(x))
    return tf_keras.Model(x, layers.LSTM(3)(layers.GRU(3, return_sequences=True)(embedded)))


@legacy
def stateful():
    x = layers.Input(batch_shape=(2, 5, 4))
    return tf_keras.Model(x, layers.LSTM(3, stateful=True)(x))


@legacy
def attention():
    x = layers.Input((5, 8))
    y, scores = layers.MultiHeadAttention(2, 4)(x, x, return_attention_scores=True, use_causal_mask=True)
    y = layers.LayerNormalization()(y + x)
    y = layers.Attention(use_scale=True)([y, x])
    return tf_keras.Model(x, [layers.MultiHeadAttention(2, 4, value_dim=3)(query=y, value=x, key=y), scores])


@legacy
def time_distributed():
    inner = tf_keras.Sequential(
        [layers.Input((6, 6, 2)), layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Conv2D(2, 3)]
    )
    x = layers.Input((4, 6, 6, 2))
    return tf_keras.Model(x, layers.TimeDistributed(inner)(x))


@legacy
def named_inputs_and_outputs():
    a, b = layers.Input((4,), name="a"), layers.Input((3,), name="b")
    shared = layers.Dense(5, name="block/shared")
    x = layers.Add()([shared(a), shared(layers.Dense(4)(b))])
    return tf_keras.Model(
        {"a": a, "b": b}, {"p": layers.Dense(2, name="p")(x), "q": layers.Dense(1, name="q")(x)}
    )


@legacy
def siamese_with_frozen_base():
    image = layers.Input((8, 8, 3))
    features = layers.BatchNormalization()(layers.Conv2D(4, 3)(image))
    base = tf_keras.Model(image, layers.GlobalAveragePooling2D()(features), name="base")
    base.trainable = False
    a, b = layers.Input((8, 8, 3)), layers.Input((8, 8, 3))
    head = tf_keras.Sequential([layers.Input((1,)), layers.Dense(3), layers.Dense(2)])
    return tf_keras.Model([a, b], head(layers.Dot(1)([base(a, training=False), base(b, training=False)])))


@legacy
def normalized():
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(3, 2, (50, 4)))
    x = layers.Input((4,))
    given = layers.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 2, 3, 4])
    return tf_keras.Model(x, [adapted(x), given(x), layers.Rescaling(1 / 255.0, offset=0.5)(x)])


@legacy
def lookups():
    words, text = layers.StringLookup(output_mode="multi_hot"), layers.TextVectorization(output_mode="tf_idf")
    words.adapt([["a"], ["q"], ["b"]])
    text.adapt(["the cat sat", "a dog", "b"])
    x = layers.Input((1,), dtype=tf.string)
    return tf_keras.Model(x, [words(x), text(x)])


@legacy
def activations():
    x = layers.Input((6,))
    names = [
        "gelu",
        "swish",
        "hard_sigmoid",
        "elu",
        "exponential",
        tf.nn.leaky_relu,
        tf.nn.relu6,
        lambda t: t * 2,
    ]
    outputs = [layers.Dense(4, activation=name)(x) for name in names]
    return tf_keras.Model(x, [*outputs, layers.ThresholdedReLU(0.5)(x), layers.ReLU(6.0, 0.1, 0.2)(x)])


@legacy
def lambdas():
    x = layers.Input((4,))
    y = layers.Lambda(lambda t, plus=1: tf.nn.relu(t) + plus, arguments={"plus": 3})(x)
    return tf_keras.Model(x, layers.Dense(2)(y))


@legacy
def half_precision():
    policy = tf_keras.mixed_precision.Policy("mixed_float16")
    x = layers.Input((8, 8, 3))
    y = layers.BatchNormalization(dtype=policy)(layers.Conv2D(4, 3, dtype=policy)(x))
    return tf_keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D(dtype=policy)(y)))
