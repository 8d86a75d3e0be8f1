"""Architecture search: changes inherit what fits, limits are checked before training, the best is kept."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, ZOO, zoo_inputs
from tfsqueeze.search.architectures.changes_space import ArchitectureSpace
from tfsqueeze.search.architectures.layer_changes import (
    activations,
    kernel_sizes,
    with_activation,
    with_kernel_size,
)
from tfsqueeze.search.architectures.limits import Limits


def outputs(model, x):
    return [np.asarray(value) for value in keras.tree.flatten(model(x, training=False))]


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_larger_kernels_compute_the_same_and_are_cut_back_exactly(name):
    model = ZOO[name]()
    x = zoo_inputs(model, 4)
    larger = with_kernel_size(model, 5)
    for old, new in zip(outputs(model, x), outputs(larger, x), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)
    for size in kernel_sizes(model):
        if kernel_sizes(model) == {3} == {size}:
            back = with_kernel_size(larger, 3)
            for old, new in zip(outputs(model, x), outputs(back, x), strict=True):
                np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("padding", ["same", "causal"])
def test_kernels_grow_where_they_do_not_move_the_output(padding):
    model = keras.Sequential([keras.Input((9, 2)), layers.Conv1D(3, 3, strides=2, padding=padding)])
    x = zoo_inputs(model, 2)
    larger = with_kernel_size(model, 7)
    assert larger.layers[0].kernel.shape == (7, 2, 3)
    np.testing.assert_allclose(outputs(larger, x)[0], outputs(model, x)[0], atol=1e-6)
    np.testing.assert_array_equal(outputs(with_kernel_size(larger, 3), x)[0], outputs(model, x)[0])


def test_activations_change_in_hidden_layers_alone():
    model = ZOO["sequential"]()
    changed = with_activation(model, "silu")
    assert activations(model) == {"relu"} and activations(changed) == {"silu"}
    assert changed.get_layer("head").activation.__name__ == "softmax"
    for old, new in zip(model.get_weights(), changed.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    same = with_activation(changed, "relu")
    x = zoo_inputs(model, 4)
    np.testing.assert_array_equal(outputs(same, x)[0], outputs(model, x)[0])


@pytest.mark.parametrize("name", ["residual", "nested", "depthwise", "shared"])
def test_unchanged_settings_are_the_network_itself_and_others_are_smaller(name):
    model = ZOO[name]()
    around = ArchitectureSpace(model)
    unchanged = {
        parameter: choice.decode(next(iter(choice.options)))
        for parameter, choice in around.space.parameters.items()
    }
    x = zoo_inputs(model, 4)
    for old, new in zip(outputs(model, x), outputs(around.build(unchanged), x), strict=True):
        np.testing.assert_array_equal(new, old)
    narrow = around.build({parameter: 0.5 for parameter in unchanged if parameter.startswith("width")})
    assert narrow.count_params() < model.count_params()


def test_stages_are_found_by_the_size_of_feature_maps():
    around = ArchitectureSpace(ZOO["residual"]())
    assert {"width 8x8", "blocks removed", "kernel", "operator", "resolution"} <= set(around.space.parameters)
    small = around.build({"resolution": 0.5, "operator": "separable", "kernel": 5, "blocks removed": 1})
    assert small.input_shape == (None, 4, 4, 4)
    assert {"separable", "inverted bottleneck x2"} < set(around.space.parameters["operator"].options)
    block = around.build({"operator": "inverted bottleneck x2", "activation": "hard_silu"})
    assert activations(block) == {"hard_silu"} and block.output_shape == (None, 3)
    with pytest.raises(ValueError, match=r"`changes` must be one of 'width'.*Did you mean 'width'"):
        ArchitectureSpace(ZOO["residual"](), ["widths"])
    with pytest.raises(ValueError, match="Nothing of model 'shared' can be changed by depth"):
        ArchitectureSpace(ZOO["shared"](), ["depth"])


def test_limits_tell_what_is_exceeded():
    model = ZOO["residual"]()
    costs = Limits().costs(model)
    assert costs["params"] == model.count_params() and set(costs) == {"macs", "params"}
    assert Limits(macs=costs["macs"], params=costs["params"]).exceeded(costs) == ""
    assert "macs" in Limits(macs=costs["macs"] - 1).exceeded(costs)
    assert Limits(latency_ms=1e-9, params=1).costs(model) == costs
    with pytest.raises(ValueError, match="`macs` must be a number > 0"):
        Limits(macs=-1)


@pytest.fixture
def task():
    """Two classes by the mean of the image, and a network that tells them apart."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 96)
    x = (rng.normal(size=(96, 8, 8, 1)) + 2 * y[:, None, None, None] - 1).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:64], y[:64], epochs=5, verbose=0)
    return model, (x[:64], y[:64]), (x[64:], y[64:])


def test_nothing_within_the_limits_is_no_network(task):
    model, train, validation = task
    options = {"macs": 1e-6, "changes": ["kernel", "activation"], "trials": 3, "progress": False}
    found = tfs.search_architecture(model, train, validation, **options)
    assert found.model is found.best is found.latency_correlation is None
    assert found.ranked == found.front == [] and len(found.trials) == 3
    assert all("macs" in trial.notes["beyond"] for trial in found.trials)
    assert "No network is within the limits" in str(found)
    assert found.to_dict()["latency_correlation"] is None


@pytest.mark.slow
def test_latency_is_predicted_and_timed(task, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, train, validation = task
    options = {"latency_ms": 100.0, "changes": ["kernel", "width"], "epochs": 1, "early_stopping": None}
    found = tfs.search_architecture(model, train, validation, trials=4, progress=False, **options)
    for trial in found.trials:
        assert trial.notes["predicted_ms"] > 0 and 0 < trial.notes["latency_ms"] <= 100
    assert -1 <= found.latency_correlation <= 1 and "rank correlation" in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("teach", [True, False])
def test_the_best_network_within_limits_is_trained_and_kept(task, teach, tmp_path):
    model, train, validation = task
    options = {"macs": 0.6, "trials": 6, "epochs": 1, "teach": teach, "output": tmp_path, "progress": False}
    found = tfs.search_architecture(model, train, validation, **options)
    assert found.best.notes["macs"] <= 0.6 * found.costs["macs"]
    assert found.model.evaluate(*_resized(found.model, validation), verbose=0)[1] == pytest.approx(
        found.best.score
    )
    for trial in found.trials:
        assert ("beyond" in trial.notes) == (trial.notes["macs"] > 0.6 * found.costs["macs"])
    assert "MACs" in str(found) and found.front[-1].score == found.best.score
    again = tfs.search_architecture(model, train, validation, **options)
    assert [trial.number for trial in again.trials] == [trial.number for trial in found.trials]
    np.testing.assert_array_equal(again.model.get_weights()[0], found.model.get_weights()[0])


def _resized(model, examples):
    x, y = examples
    return np.asarray(keras.ops.image.resize(x, model.input_shape[1:3], antialias=True)), y
