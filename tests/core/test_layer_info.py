"""Kernels and MACs of layers, by hand and against published figures."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.zoo import ZOO
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.trace import layer_calls, model_macs


def single(layer, *shape, dtype="float32"):
    x = keras.Input(shape, dtype=dtype)
    return model_macs(keras.Model(x, layer(x)))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Dense(5), (7,), 35),
        (layers.Dense(5), (4, 7), 4 * 35),
        (layers.Conv2D(8, 3, padding="same"), (10, 10, 4), 100 * 9 * 4 * 8),
        (layers.Conv2D(8, 3, strides=2), (11, 11, 4), 25 * 9 * 4 * 8),
        (layers.Conv2D(8, 3, groups=2, padding="same"), (10, 10, 4), 100 * 9 * 2 * 8),
        (layers.Conv1D(6, 5, padding="causal"), (20, 3), 20 * 5 * 3 * 6),
        (layers.Conv3D(2, 2), (3, 3, 3, 1), 8 * 8 * 2),
        (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), (10, 10, 4), 100 * 9 * 4 * 2),
        (layers.SeparableConv2D(8, 3, padding="same"), (10, 10, 4), 100 * (9 * 4 + 4 * 8)),
        (layers.Conv2DTranspose(6, 3, strides=2, padding="same"), (5, 5, 4), 25 * 9 * 4 * 6),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (4, 5), 4 * 5 * 6),
        (layers.EinsumDense("...x,xy->...y", 6), (4, 5), 4 * 5 * 6),
        (layers.LSTM(4), (7, 3), 7 * (3 * 16 + 4 * 16)),
        (layers.Bidirectional(layers.GRU(4)), (7, 3), 2 * 7 * (3 * 12 + 4 * 12)),
        (layers.RNN([layers.SimpleRNNCell(4), layers.SimpleRNNCell(2)]), (7, 3), 7 * (12 + 16 + 8 + 4)),
        (layers.ConvLSTM2D(2, 3, padding="same"), (5, 6, 6, 1), 5 * 36 * 9 * (1 * 8 + 2 * 8)),
        (layers.TimeDistributed(layers.Dense(5)), (6, 3), 6 * 15),
        (layers.BatchNormalization(), (6, 3), 0),
        (layers.Embedding(10, 4), (6,), 0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_macs_by_hand(layer, shape, expected):
    assert single(layer, *shape) == expected


def test_attention_counts_projections_scores_and_values():
    x = keras.Input((6, 8))
    model = keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x))
    projections = 4 * 6 * 8 * 8
    assert model_macs(model) == projections + 2 * 6 * 6 * (4 + 4)


def test_graph_operations_and_shared_layers_count_each_call():
    x, y = keras.Input((3, 4)), keras.Input((4, 5))
    assert model_macs(keras.Model([x, y], ops.matmul(x, y))) == 3 * 4 * 5
    assert model_macs(ZOO["shared"]()) == 2 * 6 * 8 + 8 * 2


def test_subclassed_and_nested_models_are_seen_through():
    assert model_macs(ZOO["subclassed"]()) == 6 * 8 + 8 * 3
    assert model_macs(ZOO["nested"]()) == 36 * 27 * 4 + 16 * 36 * 4 + 4 * 3


@pytest.mark.parametrize("name", ZOO)
def test_tracing_leaves_no_trace(name):
    model = ZOO[name]()
    weights = [w.numpy() for w in model.weights]
    assert layer_calls(model)
    assert not any("call" in vars(layer) for layer in model._flatten_layers())
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.weights, strict=True))


@pytest.mark.parametrize(
    ("name", "published"), [("MobileNet", 569e6), ("MobileNetV2", 300e6), ("ResNet50", 3.86e9)]
)
def test_macs_agree_with_published_figures(name, published):
    model = getattr(keras.applications, name)(weights=None)
    assert model_macs(model) == pytest.approx(published, rel=0.005)


def test_kernel_axes():
    model = ZOO["attention"]()
    axes = {
        layer.name: (kernel.inputs, kernel.outputs)
        for layer in model._flatten_layers()
        for kernel, _ in kernels(layer)
    }
    assert axes["query"] == ((0,), (1, 2))
    assert axes["attention_output"] == ((0, 1), (2,))
    assert axes["head"] == ((0,), (1,))


def test_subclasses_inherit_what_is_known_of_their_class():
    class MyDense(layers.Dense):
        pass

    layer = MyDense(3)
    layer.build((None, 4))
    assert [kernel.attribute for kernel, _ in kernels(layer)] == ["kernel"]
    assert kernels(layers.Dense(3)) == []
