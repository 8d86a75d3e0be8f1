"""Graphs that are easily got wrong: models called twice, states handed on, masks, several axes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.pruning.channels.random_graphs import random_weights
from tests.pruning.channels.test_exactness import check_cut
from tfsqueeze.core.layer_info import macs
from tfsqueeze.core.trace import layer_calls


def siamese():
    image = keras.Input((8, 8, 3))
    y = layers.BatchNormalization()(layers.Conv2D(6, 3)(image))
    tower = keras.Model(image, {"a": layers.Conv2D(5, 3)(y), "b": layers.Flatten()(y)}, name="tower")
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    one, other = tower(left), tower(right)
    x = layers.Concatenate()([layers.Flatten()(one["a"]), other["b"], ops.abs(one["b"] - other["b"])])
    return keras.Model([left, right], layers.Dense(2)(x))


def nested_model_called_twice():
    inside = keras.Input((4, 4, 6))
    block = keras.Model(inside, layers.Conv2D(6, 1, activation="relu")(inside))
    image = keras.Input((4, 4, 3))
    x = block(block(layers.Conv2D(6, 1)(image)))
    return keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))


def states_handed_on():
    source, target = keras.Input((5, 3)), keras.Input((4, 3))
    _, *states = layers.LSTM(6, return_state=True)(source)
    y = layers.LSTM(6, return_sequences=True)(target, initial_state=states)
    return keras.Model([source, target], layers.Dense(2)(y))


def masked_and_stacked():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(20, 6, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    return keras.Model(tokens, layers.Dense(2)(layers.RNN(layers.GRUCell(3))(x)))


def volumes():
    return keras.Sequential(
        [
            keras.Input((6, 6, 6, 2)),
            layers.Conv3D(4, 3),
            layers.MaxPooling3D(),
            layers.Conv3DTranspose(3, 2),
            layers.GlobalAveragePooling3D(),
            layers.Dense(2),
        ]
    )


def frames():
    return keras.Sequential(
        [
            keras.Input((3, 8, 8, 2)),
            layers.TimeDistributed(layers.Conv2D(4, 3, activation="relu")),
            layers.ConvLSTM2D(3, 3),
            layers.Conv2D(4, 1),
            layers.GlobalMaxPooling2D(),
            layers.Dense(2),
        ]
    )


def channels_first():
    image = keras.Input((3, 8, 8))
    x = layers.Conv2D(4, 3, data_format="channels_first")(image)
    x = layers.ReLU()(layers.BatchNormalization(axis=1)(x))
    x = layers.Concatenate()(
        [layers.Flatten(data_format="channels_first")(x), layers.GlobalMaxPooling2D("channels_first")(x)]
    )
    return keras.Model(image, layers.Dense(2)(x))


def moved_about():
    vector = keras.Input((6,))
    x = layers.RepeatVector(3)(layers.Dense(8)(vector))
    x = layers.Permute((2, 1, 3))(layers.Reshape((3, 2, 4))(x))
    first, second = ops.split(layers.Reshape((-1, 4))(x), [2], axis=1)
    x = ops.stack([ops.mean(first, 1), ops.max(second, 1)], axis=1)
    return keras.Model(vector, layers.Dense(1)(ops.squeeze(x[:, :1], 1)))


GRAPHS = (
    *(siamese, nested_model_called_twice, states_handed_on, masked_and_stacked, volumes, frames),
    *(channels_first, moved_about),
)


@pytest.mark.parametrize("build", GRAPHS, ids=lambda build: build.__name__)
def test_special_graphs(build):
    model = random_weights(build(), np.random.default_rng(0))
    graph, _, pruned = check_cut(model, seed=4)
    assert pruned.count_params() < model.count_params()
    assert list(graph.pinned.values()) == ["an output of the model"]
    if build is not channels_first:
        calls = layer_calls(model)
        assert graph.macs() == sum(macs(c.layer, c.input_shapes, c.output_shapes) for c in calls)


def test_a_nested_model_called_on_what_cannot_be_cut_is_not_cut():
    inside = keras.Input((4, 4, 3))
    block = keras.Model(inside, layers.Conv2D(3, 1, name="conv")(inside), name="block")
    image = keras.Input((4, 4, 3))
    graph, _, _ = check_cut(keras.Model(image, layers.Flatten()(block(block(image)))))
    assert not graph.groups and "block/conv" in graph.pinned
