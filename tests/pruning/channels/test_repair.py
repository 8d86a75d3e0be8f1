"""Repair brings layers back to what they gave, never further away, and leaves exact ones alone."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.zoo import GRAPH_ZOO, zoo_inputs
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.pruning.channels.cut import cut
from tfsqueeze.pruning.channels.graph import find_groups
from tfsqueeze.pruning.channels.repair import repair


def halved(model):
    graph = find_groups(model)
    keep = {name: np.arange(group.size) < (group.size + 1) // 2 for name, group in graph.groups.items()}
    return graph, keep, cut(model, graph, keep)


def distance(one, other, inputs):
    """Mean squared difference of the outputs, summed over them."""
    pairs = zip(keras.tree.flatten(one(inputs)), keras.tree.flatten(other(inputs)), strict=True)
    return float(sum(np.mean(np.square(np.asarray(a) - np.asarray(b))) for a, b in pairs))


@pytest.mark.parametrize("name", ["residual", "shared", "nested", "depthwise", "attention", "decoder"])
def test_repaired_models_are_nearer_to_the_original(name):
    model = GRAPH_ZOO[name]()
    graph, keep, pruned = halved(model)
    inputs, other = zoo_inputs(model, 128), zoo_inputs(model, 64, seed=9)
    before, weights = distance(model, pruned, other), model.get_weights()
    result = repair(graph, pruned, keep, inputs)
    assert all(after <= start for start, after in result.errors.values())
    assert distance(model, pruned, other) <= before * 1.02
    for one, two in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_channels_that_others_can_replace_are_replaced_exactly():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, name="wide"), layers.ReLU(), layers.Dense(3, name="head")]
    )
    kernel, bias = (value.numpy() for value in model.get_layer("wide").weights)
    kernel[:, 4:], bias[4:] = 2 * kernel[:, :4], 2 * bias[:4]
    model.get_layer("wide").set_weights([kernel, bias])
    graph, keep, pruned = halved(model)
    x = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")
    result = repair(graph, pruned, keep, x)
    assert result.errors["head"][1] < 1e-3
    assert distance(model, pruned, x) < 1e-4
    np.testing.assert_array_equal(pruned.get_layer("wide").kernel, kernel[:, :4])


def test_an_uncut_model_is_left_bit_by_bit():
    model = GRAPH_ZOO["residual"]()
    graph = find_groups(model)
    pruned = rewrite(model)
    result = repair(graph, pruned, {}, zoo_inputs(model, 64))
    assert result.errors == {} and result.skipped == {}
    for one, two in zip(model.get_weights(), pruned.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_missing_bias_is_made_good_by_the_normalisation_behind():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="wide"),
            layers.Dense(5, use_bias=False, name="narrow"),
            layers.BatchNormalization(name="normalization"),
            layers.Dense(2, name="head"),
        ]
    )
    graph = find_groups(model, "wide")
    keep = {"wide": np.arange(8) != 0}
    pruned = cut(model, graph, keep)
    x = np.random.default_rng(0).normal(1, 1, (400, 6)).astype("float32")
    repair(graph, pruned, keep, x)
    stages = [
        keras.Model(m.inputs, m.get_layer("normalization").output)(x).numpy().mean(0) for m in (model, pruned)
    ]
    np.testing.assert_allclose(*stages, atol=0.02)


def test_a_later_term_of_a_sum_makes_good_for_the_first():
    vector = keras.Input((6,))
    first = layers.Dense(8, activation="relu", name="first")(vector)
    lossy = layers.Dense(4, name="lossy", activation="tanh")(first)
    second = layers.Dense(4, name="second")(layers.Dense(16, activation="relu", name="rich")(vector))
    model = keras.Model(vector, layers.Add(name="sum")([lossy, second]))
    graph = find_groups(model, "first")
    keep = {"first": np.arange(8) < 2}
    pruned = cut(model, graph, keep)
    x = np.random.default_rng(0).normal(size=(500, 6)).astype("float32")
    result = repair(graph, pruned, keep, x)
    assert set(result.errors) == {"lossy", "second"}
    assert result.errors["second"][1] < 0.8 * result.errors["second"][0]


def test_what_is_no_product_is_reported_and_data_are_checked():
    model = GRAPH_ZOO["recurrent"]()
    graph, keep, pruned = halved(model)
    result = repair(graph, pruned, keep, zoo_inputs(model, 8))
    assert any("no matrix product" in reason for reason in result.skipped.values())
    with pytest.raises(ValueError, match="at least 4 examples"):
        repair(graph, pruned, keep, zoo_inputs(model, 3))
    with pytest.raises(ValueError, match="must have shape"):
        repair(graph, pruned, keep, np.zeros((8, 3), "int32"))
