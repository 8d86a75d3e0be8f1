"""What belongs together, computed by hand, and what is pinned and why."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, ZOO
from tfsqueeze.core.trace import layer_calls
from tfsqueeze.pruning.channels.graph import find_groups


def sizes(graph):
    return {name: group.size for name, group in graph.groups.items()}


def consumers(graph, name):
    return {part.path: part.units.tolist() for part in graph.groups[name].consumers}


def test_a_residual_sum_couples_its_terms():
    graph = find_groups(ZOO["residual"]())
    group = graph.groups["stem"]
    assert sizes(graph) == {"stem": 8}
    assert [part.path for part in group.producers] == ["stem", "block_conv"]
    assert {part.variable.name for part in group.followers} == {
        *("bias", "gamma", "beta", "moving_mean", "moving_variance")
    }
    assert [part.path for part in group.consumers] == ["block_conv", "head"]
    assert graph.pinned == {"head": "an output of the model"}


def test_concatenation_shifts_positions():
    image = keras.Input((4, 4, 3))
    x = layers.Concatenate()(
        [layers.Conv2D(2, 1, name="a")(image), image, layers.Conv2D(3, 1, name="b")(image)]
    )
    graph = find_groups(keras.Model(image, layers.Conv2D(1, 1, name="head")(x)))
    assert consumers(graph, "a") == {"head": [0, 1, -1, -1, -1, -1, -1, -1]}
    assert consumers(graph, "b") == {"head": [-1, -1, -1, -1, -1, 0, 1, 2]}


def test_flatten_spreads_a_channel_over_positions():
    model = keras.Sequential([keras.Input((2, 2, 1)), layers.Conv2D(3, 1), layers.Flatten(), layers.Dense(1)])
    (group,) = find_groups(model).groups.values()
    assert group.consumers[0].units.tolist() == [0, 1, 2] * 4
    assert group.consumers[0].positions(1).tolist() == [1, 4, 7, 10]


def test_groups_of_a_convolution_keep_as_many_channels():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(6, 1, name="a"),
            layers.Conv2D(4, 1, groups=2, name="b"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    graph = find_groups(model)
    assert sizes(graph) == {"a": 3, "b": 2}
    assert graph.groups["a"].producers[0].units.tolist() == [0, 1, 2, 0, 1, 2]
    assert graph.groups["b"].producers[0].units.tolist() == [0, 1, 0, 1]
    assert consumers(graph, "a") == {"b": [0, 1, 2]}


def test_recurrent_units_are_cut_with_all_gates():
    graph = find_groups(ZOO["recurrent"]())
    assert sizes(graph) == {"embedding": 6, "both_ways/forward_lstm": 4, "gru": 5}
    both = graph.groups["both_ways/forward_lstm"]
    assert both.producers[0].units.tolist() == [0, 1, 2, 3] * 4
    assert consumers(graph, both.name)["gru"] == [0, 1, 2, 3] * 2


def test_heads_are_units():
    graph = find_groups(ZOO["attention"]())
    heads = graph.groups["attention/query"]
    assert heads.size == 2
    assert [part.path.split("/")[-1] for part in heads.consumers] == ["attention_output"]
    assert "cannot be cut" in graph.pinned["attention/attention_output"]


def test_a_gate_couples_what_it_scales():
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, name="trunk")(image)
    gate = layers.Dense(6, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D()(x))
    x = x * ops.reshape(gate, (-1, 1, 1, 6))
    graph = find_groups(keras.Model(image, layers.Dense(2, name="head")(layers.Flatten()(x))))
    assert sizes(graph) == {"trunk": 6}
    assert [part.path for part in graph.groups["trunk"].producers] == ["trunk", "gate"]


def test_consumers_know_the_tensors_they_sum_over():
    model = ZOO["shared"]()
    (group,) = find_groups(model).groups.values()
    (part,) = group.consumers
    assert part.path == "head" and [tuple(tensor.shape) for tensor in part.tensors] == [(None, 8)]
    values = keras.Model(model.inputs, part.tensors)([np.ones((2, 6)), np.zeros((2, 6))])
    assert np.asarray(keras.tree.flatten(values)[0]).shape == (2, 8)


def test_normalisation_over_channels_is_marked_inexact():
    graph = find_groups(ZOO["temporal"]())
    assert graph.groups["separable"].inexact == ("layer_normalization",)
    assert graph.groups["conv1"].inexact == ()


@keras.saving.register_keras_serializable(package="channel_tests")
class Scale(layers.Layer):
    """A layer of a user's own with one weight per channel and its width in the configuration."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.scale = self.add_weight(shape=(width,), name="scale", initializer="random_normal")

    def call(self, inputs):
        return inputs * self.scale

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable(package="channel_tests")
class Mix(Scale):
    """Looks alike, but mixes channels."""

    def call(self, inputs):
        return inputs * ops.roll(self.scale, 1)


def with_layer(layer):
    vector = keras.Input((5,))
    x = layer(layers.Dense(6, name="hidden")(vector))
    return keras.Model(vector, layers.Dense(2, name="head")(x))


def test_a_users_channelwise_layer_is_recognised_by_trial():
    model = with_layer(Scale(6, name="own"))
    graph = find_groups(model)
    assert [part.path for part in graph.groups["hidden"].followers] == ["hidden", "own"]
    small = tfs.prune_channels(model, ratio=0.5)
    assert small.get_layer("own").width == 3
    assert small(np.ones((1, 5))).shape == (1, 2)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Mix(6, name="mix"), "'mix' .* not known to treat channels one by one"),
        (layers.Softmax(name="soft"), "'soft' .* mixes them"),
        (
            layers.Lambda(lambda x: x - ops.mean(x, -1, keepdims=True), name="centre"),
            "'centre' .* mixes them",
        ),
        (layers.Lambda(lambda x: ops.cumsum(x, -1), name="sums"), "'sums' .* mixes them"),
        (layers.UnitNormalization(name="unit"), "'unit' .* mixes them"),
        (
            layers.Dense(6, activation="softmax", name="probabilities"),
            "activation 'softmax' .* mixes channels",
        ),
    ],
    ids=lambda value: getattr(value, "name", "reason"),
)
def test_what_mixes_channels_pins_them(layer, reason):
    graph = find_groups(with_layer(layer))
    path = "probabilities" if layer.name == "probabilities" else "hidden"
    assert path not in graph.groups
    assert re.search(reason, graph.pinned[path]), graph.pinned


def test_functions_that_treat_channels_one_by_one_pass_them():
    for function in (lambda x: ops.relu(x) ** 2, lambda x: ops.where(x > 0, x, 0.1 * x)):
        assert "hidden" in find_groups(with_layer(layers.Lambda(function))).groups


def test_a_selection_pins_the_rest():
    graph = find_groups(ZOO["sequential"](), select="conv2")
    assert list(graph.groups) == ["conv2"]
    assert graph.pinned["conv1"] == "not selected"


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_macs_are_those_of_a_run(name):
    model = GRAPH_ZOO[name]()
    calls = layer_calls(model)
    expected = sum(call.macs for call in calls)
    assert find_groups(model).macs() == expected


def test_a_layer_called_on_what_cannot_be_cut_is_not_cut():
    vector = keras.Input((6,))
    twice = layers.Dense(6, activation="relu", name="twice")
    x = twice(twice(vector))
    graph = find_groups(keras.Model(vector, layers.Dense(1, name="head")(x)))
    assert not graph.groups
    assert "also works on channels that cannot be cut" in graph.pinned["twice"]
