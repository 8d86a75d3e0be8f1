"""Penalties push whole channels down, inside the compiled step, and leave no trace."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, ZOO, zoo_inputs, zoo_targets
from tfsqueeze.pruning.channels.graph import find_groups
from tfsqueeze.pruning.channels.regularization import GroupRegularization, _Penalty

JIT = pytest.param({"jit_compile": True}, marks=pytest.mark.slow)


def dense_model(regularizer=None):
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, name="wide", kernel_regularizer=regularizer),
            layers.BatchNormalization(name="normalization"),
            layers.ReLU(),
            layers.Dense(2, name="head"),
        ]
    )


def fit(model, callback, **settings):
    model.compile(keras.optimizers.SGD(0.05), "mse", **settings)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 3)).astype("float32"), rng.normal(size=(64, 2)).astype("float32")
    return model.fit(x, y, epochs=3, batch_size=16, callbacks=[callback], verbose=0)


def test_the_penalty_by_hand():
    model = dense_model()
    (group,) = find_groups(model).groups.values()
    parts = [part for part in group.slices if part.variable.trainable]
    penalty = _Penalty(group, parts, 0.5)
    wide, normalization, head = model.layers[0], model.layers[1], model.layers[3]
    squares = sum(
        np.square(values)
        for values in (
            np.linalg.norm(wide.kernel, axis=0),
            wide.bias.numpy(),
            normalization.gamma.numpy(),
            normalization.beta.numpy(),
            np.linalg.norm(head.kernel, axis=1),
        )
    )
    expected = 0.5 * np.sum(np.sqrt(3 + 1 + 1 + 1 + 2) * np.sqrt(squares))
    assert float(penalty(wide.kernel)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"steps_per_execution": 2}, JIT])
def test_training_shrinks_channels_and_leaves_the_model_clean(settings, tmp_path):
    model, free = dense_model("l2"), dense_model("l2")
    free.set_weights(model.get_weights())
    config, regularizer = model.get_config(), model.layers[0].kernel.regularizer
    history = fit(model, GroupRegularization(0.4), **settings)
    fit(free, keras.callbacks.Callback(), **settings)
    norms = [np.linalg.norm(m.layers[0].kernel) for m in (model, free)]
    assert norms[0] < 0.8 * norms[1]
    assert "thin_channels" in history.history
    assert model.get_config() == config
    assert model.layers[0].kernel.regularizer is regularizer
    loss = model.evaluate(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0) == pytest.approx(loss, rel=1e-5)


def test_slimming_acts_on_the_scales_alone():
    model = dense_model()
    gammas = model.layers[1].gamma.numpy()
    fit(model, GroupRegularization(0.5, penalty="bn_scale"))
    assert np.abs(model.layers[1].gamma).sum() < 0.8 * np.abs(gammas).sum()
    small = tfs.prune_channels(model, ratio=0.5, criterion="bn_scale")
    assert small.get_layer("wide").units == 2


@pytest.mark.parametrize("name", ["nested", pytest.param("attention", marks=pytest.mark.slow)])
def test_any_graph_trains_with_it(name):
    model = GRAPH_ZOO[name]()
    model.compile("adam", "mse")
    callback = GroupRegularization(1e-3)
    model.fit(zoo_inputs(model, 4), zoo_targets(model, 4), verbose=0, callbacks=[callback])
    assert not any(isinstance(variable.regularizer, _Penalty) for variable in model.trainable_variables)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = dense_model()
    finally:
        keras.config.set_dtype_policy("float32")
    fit(model, GroupRegularization(1e-3))
    assert np.isfinite(model.layers[0].kernel).all()


def test_two_devices_push_as_one(mirrored):
    with mirrored.scope():
        model = dense_model()
    single = dense_model()
    single.set_weights(model.get_weights())
    fit(single, GroupRegularization(0.4))
    with mirrored.scope():
        history = fit(model, GroupRegularization(0.4))
    assert "thin_channels" in history.history
    # Each replica normalises its own half of a batch, so the two are near but not equal.
    np.testing.assert_allclose(model.layers[0].kernel, single.layers[0].kernel, atol=0.1)
    assert not any(isinstance(variable.regularizer, _Penalty) for variable in model.trainable_variables)


def test_errors():
    with pytest.raises(ValueError, match="`strength` must be a number > 0"):
        GroupRegularization(0)
    with pytest.raises(ValueError, match="`penalty` must be one of"):
        GroupRegularization(penalty="lasso")
    model = ZOO["concat"]()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="No channel group"):
        callback = GroupRegularization(penalty="bn_scale")
        model.fit(zoo_inputs(model, 4), zoo_targets(model, 4), verbose=0, callbacks=[callback])
    model = ZOO["subclassed"]()
    model.compile("adam", "mse")
    with pytest.raises(tfs.UnsupportedModelError, match="subclassed"):
        model.fit(zoo_inputs(model, 4), zoo_targets(model, 4), verbose=0, callbacks=[GroupRegularization()])
