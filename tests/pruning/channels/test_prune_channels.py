"""The verb: targets, options, what the result can do, and wrong input."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, ZOO, zoo_inputs, zoo_targets
from tfsqueeze.pruning.channels.graph import find_groups

CRITERIA = ("l1", "l2", "bn_scale", "geometric_median", "random", "apoz", "mean", "entropy")


def wide():
    """A chain with room for exact targets."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(32, 3, padding="same", name="a"),
            layers.BatchNormalization(),
            layers.Conv2D(48, 3, padding="same", activation="relu", name="b"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name="head"),
        ]
    )


def channels(model, field="kept"):
    return {path: row[field] for path, row in tfs.explain(model).done.items()}


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_the_result_is_an_ordinary_model(name, tmp_path):
    model = GRAPH_ZOO[name]()
    model.compile("sgd", "mse")
    before = [variable.numpy() for variable in model.variables]
    pruned = tfs.prune_channels(model, ratio=0.3)
    inputs, targets = zoo_inputs(model), zoo_targets(model)
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert pruned.count_params() < model.count_params()
    expected = pruned(inputs)
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    keras.tree.map_structure(np.testing.assert_array_equal, loaded(inputs), expected)
    assert np.isfinite(pruned.train_on_batch(inputs, targets)).all()
    again = tfs.prune_channels(pruned, ratio=0.2)
    assert keras.tree.map_structure(np.shape, again(inputs)) == keras.tree.map_structure(np.shape, expected)
    assert all(np.array_equal(one, two) for one, two in zip(before, model.variables, strict=True))


def test_nothing_to_remove_is_the_same_model():
    for target in ({"ratio": 0.0}, {"macs": 1.0}, {"params": 1}):
        model = ZOO["residual"]()
        pruned = tfs.prune_channels(model, **target)
        np.testing.assert_array_equal(pruned(zoo_inputs(model)), model(zoo_inputs(model)))
        assert pruned.get_config() == model.get_config()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("target", ["ratio", "macs", "params"])
@pytest.mark.parametrize("value", [0.3, 0.5, 0.7])
def test_targets_are_met_within_one_channel(scope, target, value):
    model = wide()
    graph = find_groups(tfs.prune_channels(model, scope=scope, **{target: value}))
    whole = find_groups(model)
    if target == "ratio":
        assert graph.size == whole.size - np.ceil(value * whole.size - 1e-6)
        return
    measure = type(graph).macs if target == "macs" else type(graph).params
    goal = value * measure(whole)
    steps = []
    for name, group in graph.groups.items():
        flags = np.ones(group.size + 1, bool)
        wider = graph.groups[name].size
        grown = np.ones(graph.size + 1, bool)
        grown[group.start] = False
        steps.append((measure(graph) - measure(graph, grown)) * (wider + 1) / wider + flags[0])
    assert goal - 1.1 * max(steps) <= measure(graph) <= goal


def test_layers_lose_alike_by_layer_and_by_score_globally():
    model = wide()
    assert channels(tfs.prune_channels(model, ratio=0.5, scope="layer")) == {"a": 16, "b": 24, "head": 5}
    weak = np.where(np.arange(48) < 40, 1e-4, 1.0)
    model.get_layer("b").kernel.assign(model.get_layer("b").kernel * weak)
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel * weak[:, None])
    found = channels(tfs.prune_channels(model, ratio=0.5))
    assert found["b"] < 16 < found["a"]


def test_the_least_important_channels_go():
    model = wide()
    kernel = model.get_layer("a").kernel
    strong = np.arange(32) % 2 == 0
    kernel.assign(kernel * np.where(strong, 10.0, 0.1))
    model.get_layer("b").kernel.assign(model.get_layer("b").kernel * np.where(strong, 10.0, 0.1)[:, None])
    pruned = tfs.prune_channels(model, ratio=0.5, scope="layer", criterion="l2")
    np.testing.assert_array_equal(pruned.get_layer("a").kernel, np.asarray(kernel)[..., strong])


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_on_a_net_of_many_kinds(criterion):
    model = ZOO["depthwise"]()
    data = zoo_inputs(model, 16)
    pruned = tfs.prune_channels(model, ratio=0.4, criterion=criterion, data=data, repair=False)
    again = tfs.prune_channels(model, ratio=0.4, criterion=criterion, data=data, repair=False)
    assert channels(pruned) == channels(again)
    assert find_groups(pruned).size == find_groups(model).size - 9


def test_dead_channels_go_first_by_activation():
    model = wide()
    bias = np.where(np.arange(48) % 3 == 0, -100.0, 100.0)
    model.get_layer("b").bias.assign(bias)
    data = np.random.default_rng(0).normal(size=(8, 8, 8, 3))
    for criterion in ("apoz", "mean"):
        pruned = tfs.prune_channels(
            model, params=0.8, criterion=criterion, data=data, select="b", repair=False
        )
        assert (pruned.get_layer("b").bias.numpy() > 0).sum() == 32


def test_taylor_needs_labels_and_a_loss():
    model = wide()
    data = (np.ones((8, 8, 8, 3)), np.zeros((8, 5)))
    with pytest.raises(ValueError, match="compile model"):
        tfs.prune_channels(model, ratio=0.5, criterion="taylor", data=data)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Received: data=None"):
        tfs.prune_channels(model, ratio=0.5, criterion="taylor")
    model.get_layer("b").bias.assign(np.full(48, 50.0))
    model.get_layer("head").kernel.assign(np.where(np.arange(48) < 24, 1.0, 0.0)[:, None] * np.ones((48, 5)))
    pruned = tfs.prune_channels(
        model, ratio=0.5, criterion="taylor", data=data, scope="layer", select="b", repair=False
    )
    assert (pruned.get_layer("head").kernel.numpy() == 1).all()


def test_a_criterion_of_the_users_sees_the_group():
    pruned = tfs.prune_channels(
        wide(), ratio=0.5, scope="layer", criterion=lambda group: np.arange(group.size, dtype=float)
    )
    assert channels(pruned)["a"] == 16
    with pytest.raises(ValueError, match="must return 32 finite scores for group 'a'"):
        tfs.prune_channels(wide(), ratio=0.5, criterion=lambda group: np.ones(3))


def test_rounding_and_floors():
    rounded = channels(tfs.prune_channels(wide(), macs=0.4, round_to=8))
    assert rounded["a"] % 8 == 0 and rounded["b"] % 8 == 0
    assert (
        find_groups(tfs.prune_channels(wide(), macs=0.4, round_to=8)).macs()
        <= 0.4 * find_groups(wide()).macs()
    )
    floored = channels(tfs.prune_channels(wide(), macs=0.08, min_channels=6))
    assert floored["a"] >= 6 and floored["b"] >= 6


def test_protected_layers_keep_their_channels():
    pruned = tfs.prune_channels(wide(), ratio=0.5, select=tfs.Select(skip="a"))
    assert channels(pruned) == {"a": 32, "b": 24, "head": 5}
    assert tfs.explain(pruned).skipped["a"] == "not selected"


def test_data_repairs_the_weights():
    model = wide()
    data = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
    errors = []
    for repair in (False, True):
        pruned = tfs.prune_channels(model, ratio=0.5, data=data, repair=repair)
        errors.append(float(np.square(np.asarray(pruned(data)) - np.asarray(model(data))).mean()))
    assert errors[1] < 0.5 * errors[0]


def test_the_explanation_tells_channels_and_reasons():
    pruned = tfs.prune_channels(ZOO["concat"](), ratio=0.4)
    explanation = tfs.explain(pruned)
    assert explanation.verb == "prune_channels"
    assert explanation.done["grouped"]["channels"] == 6
    assert explanation.done["grouped"]["kept"] == pruned.get_layer("grouped").filters
    assert explanation.skipped == {"head": "an output of the model"}


def test_dtype_policy_frozen_flags_and_compile_settings_stay():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = wide()
    finally:
        keras.config.set_dtype_policy("float32")
    model.get_layer("a").trainable = False
    model.compile("adam", "mse", metrics=["mae"])
    pruned = tfs.prune_channels(model, ratio=0.5)
    assert pruned.get_layer("b").dtype_policy.name == "mixed_bfloat16"
    assert not pruned.get_layer("a").trainable
    assert len(pruned.trainable_weights) == len(model.trainable_weights)
    assert type(pruned.optimizer) is keras.optimizers.Adam and pruned.loss == "mse"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one target.*Received: none"),
        ({"ratio": 0.5, "macs": 0.5}, r"exactly one target.*'ratio': 0.5, 'macs': 0.5"),
        ({"ratio": 1.0}, r"`ratio` must be in \[0, 1\)"),
        ({"macs": 0}, r"`macs` is the fraction kept and must be in \(0, 1\]. Received: macs=0"),
        ({"params": 1.5}, r"`params` is the fraction kept"),
        ({"ratio": 0.5, "criterion": "tailor"}, "`criterion` must be one of.*Did you mean 'taylor'"),
        ({"ratio": 0.5, "scope": "galaxy"}, "`scope` must be one of"),
        ({"ratio": 0.5, "round_to": 0}, "`round_to` must be a whole number >= 1"),
        ({"ratio": 0.5, "min_channels": 2.5}, "`min_channels` must be a whole number >= 1"),
        ({"ratio": 0.5, "select": "head"}, "'head' .* selected by name.*an output of the model"),
        ({"ratio": 0.5, "select": "conv9"}, "matches no layer"),
        ({"ratio": 0.5, "criterion": "apoz"}, "needs `data`"),
        ({"ratio": 0.5, "criterion": "mean", "data": np.ones((4, 5))}, "must have shape"),
        ({"ratio": 0.999}, r"`ratio`=0.999 cannot be reached: it goes as far as 0.9750"),
        ({"macs": 1e-6}, r"`macs`=1e-06 cannot be reached: it goes as far as 0.00.*head"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfs.prune_channels(wide(), **arguments)


def test_models_that_cannot_be_pruned():
    with pytest.raises(tfs.UnsupportedModelError, match="weight pruning"):
        tfs.prune_channels(ZOO["subclassed"](), ratio=0.5)
    with pytest.raises(TypeError, match=r"keras\.Model"):
        tfs.prune_channels("model.keras", ratio=0.5)
    broken = wide()
    broken.get_layer("a").bias.assign(np.full(32, np.nan))
    with pytest.raises(ValueError, match="'a' holds NaN or infinity in 'bias'"):
        tfs.prune_channels(broken, ratio=0.5)
