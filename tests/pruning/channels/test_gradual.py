"""Gradual pruning meets its target by rounds and goes on where it was interrupted."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tfsqueeze.pruning.channels.gradual import prune_channels_gradually
from tfsqueeze.pruning.channels.graph import find_groups


def small_model():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.Dense(16, activation="relu", name="second"),
            layers.Dense(2, name="head"),
        ]
    )
    model.compile("sgd", "mse")
    return model


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 5)).astype("float32"), RNG.normal(size=(32, 2)).astype("float32")


def train(model):
    return model.fit(X, Y, batch_size=16, shuffle=False, verbose=0)


@pytest.mark.parametrize("target", [{"macs": 0.3}, {"params": 0.4}, {"ratio": 0.6}])
def test_the_target_is_met_by_rounds(target):
    model = small_model()
    before = [value.copy() for value in model.get_weights()]
    sizes = []

    def watched(student):
        sizes.append(find_groups(student).macs())
        return train(student)

    small = prune_channels_gradually(model, watched, **target, rounds=3)
    ((name, value),) = target.items()
    graphs = find_groups(model), find_groups(small)
    if name == "ratio":
        assert graphs[1].size <= 0.4 * graphs[0].size
    else:
        whole, left = (getattr(graph, name)() for graph in graphs)
        assert 0.7 * value <= left / whole <= value
    assert len(sizes) == 3 and sizes[0] > sizes[1] > sizes[2]
    rows = tfs.explain(small).done
    assert rows["first"]["channels"] == 16 and rows["first"]["kept"] == small.get_layer("first").units
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_interrupted_search_goes_on(tmp_path):
    model, calls = small_model(), []
    expected = prune_channels_gradually(model, train, macs=0.4, rounds=3)

    def interrupted(student):
        calls.append(student)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(student)

    with pytest.raises(KeyboardInterrupt):
        prune_channels_gradually(model, interrupted, macs=0.4, rounds=3, storage=tmp_path)
    found = prune_channels_gradually(model, interrupted, macs=0.4, rounds=3, storage=tmp_path)
    assert len(calls) == 4
    np.testing.assert_allclose(found(X), expected(X), rtol=1e-5, atol=1e-6)
    again = prune_channels_gradually(model, interrupted, macs=0.4, rounds=3, storage=tmp_path)
    assert len(calls) == 4
    np.testing.assert_array_equal(again(X), found(X))


def test_other_work_and_damage_are_refused(tmp_path):
    model = small_model()
    prune_channels_gradually(model, train, macs=0.6, rounds=1, storage=tmp_path)
    with pytest.raises(ValueError, match=r"target: macs=0\.6 there, macs=0\.5 now"):
        prune_channels_gradually(model, train, macs=0.5, rounds=1, storage=tmp_path)
    (tmp_path / "rounds.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        prune_channels_gradually(model, train, macs=0.6, rounds=1, storage=tmp_path)


def test_errors():
    model = small_model()
    with pytest.raises(ValueError, match="exactly one target"):
        prune_channels_gradually(model, train)
    with pytest.raises(ValueError, match="`rounds` must be"):
        prune_channels_gradually(model, train, macs=0.5, rounds=0)
    with pytest.raises(TypeError, match=r"called as train\(model\)"):
        prune_channels_gradually(model, lambda: None, macs=0.5)
    with pytest.raises(TypeError, match="not \\['criterium'\\]"):
        prune_channels_gradually(model, train, macs=0.5, criterium="l1")
