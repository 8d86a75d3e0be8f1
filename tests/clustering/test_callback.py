"""Training shared values: they stay shared, and what is shared learns, under everything `fit` offers."""

import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, residual, zoo_inputs, zoo_targets
from tfsqueeze.clustering.constraint import SharedValues
from tfsqueeze.clustering.latent import MOVED, LatentValues
from tfsqueeze.clustering.sharing import SharingRule
from tfsqueeze.clustering.targets import find_targets


def compiled(model, **kwargs):
    losses = {"kind": "mse", "score": "mae"} if model.name == "multi_output" else "mse"
    model.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": losses, **kwargs})
    return model


def fit(model, callbacks, *, count=16, epochs=1, batch_size=4, **kwargs):
    x, y = zoo_inputs(model, count), zoo_targets(model, count)
    return model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=callbacks, **kwargs)


def kernels(model):
    return [target.variable.numpy() for target in find_targets(model)[0]]


def assert_shared(model, clusters):
    assert max(np.unique(kernel).size for kernel in kernels(model)) <= clusters


def assert_same_groups(before, after):
    for old, new in zip(before, after, strict=True):
        groups = [np.unique(kernel, return_inverse=True)[1].ravel() for kernel in (old, new)]
        pairs = np.unique(np.stack(groups), axis=1).shape[1]
        assert pairs == np.unique(old).size == np.unique(new).size


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_every_model_keeps_its_groups_and_learns(name):
    model = tfs.cluster(compiled(ZOO[name]()), 5)
    before = kernels(model)
    history = fit(model, [tfs.ClusteringCallback()], epochs=2)
    assert_same_groups(before, kernels(model))
    assert all(np.abs(old - new).max() > 0 for old, new in zip(before, kernels(model), strict=True))
    assert history.history["clusters"][-1] <= 5


def one_layer(rate, **kwargs):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, use_bias=False)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    model.layers[0].kernel.assign([[1.0, 2.0], [1.0, 1.0]])
    return model


@pytest.mark.parametrize(("gradients", "times"), [("each", 1), ("mean", 1), ("sum", 3)])
def test_one_step_by_hand(gradients, times):
    model = one_layer(0.1)
    x, y = np.array([[1.0, 3.0]], "float32"), np.zeros((1, 2), "float32")
    # Outputs 4 and 5; the gradient of their mean square is (input * output).
    gradient = np.array([[4.0, 5.0], [12.0, 15.0]])
    model.fit(x, y, verbose=0, callbacks=[tfs.ClusteringCallback(gradients=gradients)])
    ones = 1 - 0.1 * times * (4 + 12 + 15) / 3
    expected = [[ones, 2 - 0.1 * gradient[0, 1]], [ones, ones]]
    np.testing.assert_allclose(model.layers[0].kernel.numpy(), expected, rtol=1e-5)


SETTINGS = {
    "steps_per_execution": {"steps_per_execution": 2},
    "jit_compile": {"jit_compile": True},
    "weight decay": {"optimizer": keras.optimizers.AdamW(0.01, weight_decay=0.1)},
    "gradient accumulation": {"optimizer": keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)},
    "loss scaling": {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))},
    "averages": {"optimizer": keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)},
    "eager": {"run_eagerly": True},
}
WAYS = {"each": {}, "sum": {"gradients": "sum"}, "reassigned": {"reassign": 3}}


FAST = {(setting, "each") for setting in SETTINGS} | {("loss scaling", "sum"), ("jit_compile", "reassigned")}


@pytest.mark.parametrize(
    ("setting", "way"),
    [
        pair if pair in FAST else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in itertools.product(SETTINGS, WAYS)
    ],
)
def test_values_stay_shared_under(setting, way):
    chosen = dict(SETTINGS[setting])
    if "optimizer" in chosen:
        chosen["optimizer"] = type(chosen["optimizer"]).from_config(chosen["optimizer"].get_config())
    model = compiled(ZOO["shared"](), **chosen)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = fit(model, [tfs.ClusteringCallback(4, **WAYS[way])], epochs=2)
    assert_shared(model, 4)
    assert history.history["clusters"] == [4, 4]
    assert "apply" not in vars(model.optimizer)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_values_stay_shared_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(ZOO["residual"]())
        fit(model, [tfs.ClusteringCallback(6, gradients="mean")])
    finally:
        keras.config.set_dtype_policy("float32")
    assert_shared(model, 6)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_values_stay_shared_on_two_devices(mirrored, way):
    with mirrored.scope():
        model = compiled(residual())
    fit(model, [tfs.ClusteringCallback(6, **WAYS[way])], epochs=2)
    assert_shared(model, 6)


def test_zeros_stay_zero_after_pruning():
    model = tfs.prune(compiled(ZOO["residual"]()), 0.7)
    zeros = [kernel == 0 for kernel in kernels(model)]
    for way in WAYS.values():
        fit(model, [tfs.ClusteringCallback(6, **way)], epochs=2)
        assert_shared(model, 6)
        for old, kernel in zip(zeros, kernels(model), strict=True):
            np.testing.assert_array_equal(old, kernel == 0)


@pytest.mark.slow
def test_pruning_and_clustering_in_one_training():
    for order in (1, -1):
        model = compiled(ZOO["residual"]())
        callbacks = [tfs.PruningCallback(0.5), tfs.ClusteringCallback(6)][::order]
        fit(model, callbacks, epochs=2)
        assert all((kernel == 0).mean() >= 0.45 for kernel in kernels(model))
        assert all(target.variable.constraint is None for target in find_targets(model)[0])


@pytest.mark.slow
def test_weights_move_to_other_values_only_when_reassigned():
    for reassign, moves in ((None, False), (2, True)):
        model = compiled(ZOO["residual"](), optimizer=keras.optimizers.Adam(0.05))
        start = kernels(tfs.cluster(model, 6))
        fit(model, [tfs.ClusteringCallback(6, reassign=reassign)], epochs=3)
        pairs = [
            np.unique(np.stack([np.unique(k, return_inverse=True)[1].ravel() for k in both]), axis=1).shape[1]
            for both in zip(start, kernels(model), strict=True)
        ]
        assert (max(pairs) > 6) == moves


@pytest.mark.parametrize("per_channel", [False, True])
def test_few_weights_change_values_at_a_time_those_pulled_furthest(per_channel):
    model = keras.Sequential([keras.Input((20,)), layers.Dense(50)])
    rule = SharingRule(8, per_channel=per_channel)
    (target,) = find_targets(model)[0]
    start = target.weights
    target.variable.assign(rule.share(target))
    before = target.weights
    latent = LatentValues(target, start, rule)
    pull = np.random.default_rng(0).normal(0, 0.1, before.shape).astype("float32")
    target.variable.assign(latent(before + pull))
    shared = target.weights
    gain = np.square(start + pull - shared) - np.square(
        start + pull - rule.nearest(target, start + pull, shared)
    )
    latent.reassign()
    moved = target.weights != shared
    assert moved.sum() == int(MOVED * before.size) == 10
    np.testing.assert_array_equal(moved, gain >= np.sort(gain.ravel())[-10])
    assert rule.distinct(target) <= 8
    latent.reassign()
    assert (target.weights != shared).sum() > 10


def test_codebooks_of_product_quantization_train():
    model = keras.Sequential([keras.Input((32,)), layers.Dense(64), layers.Dense(1)])
    small = tfs.product_quantize(compiled(model), 8, length=4)
    before = small.layers[0].kernel.numpy()
    x = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    small.fit(x, x[:, :1], verbose=0, callbacks=[tfs.ClusteringCallback()])
    after = small.layers[0].kernel.numpy()
    assert np.abs(before - after).max() > 0
    assert_same_groups([before], [after])


@pytest.mark.slow
def test_interrupted_training_resumes_to_the_same_weights(tmp_path):
    class PowerCut(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("power cut")

    def train(*more):
        keras.utils.set_random_seed(1)
        model = compiled(ZOO["residual"](), optimizer=keras.optimizers.SGD(0.05))
        fit(model, [tfs.ClusteringCallback(6), *more], epochs=4, shuffle=False)
        return model

    whole = train()
    with pytest.raises(RuntimeError, match="power cut"):
        train(keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False), PowerCut())
    resumed = train(keras.callbacks.BackupAndRestore(tmp_path))
    for expected, received in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(expected, received, rtol=1e-5, atol=1e-6)


def test_a_custom_training_step_that_ignores_constraints_is_held_with_a_warning():
    class Custom(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            for variable in self.trainable_variables:
                gradient = tape.gradient(loss, variable) if len(self.trainable_variables) == 1 else None
                variable.assign_sub(0.1 * gradient)
            return {"loss": loss}

    x = keras.Input((6,))
    model = compiled(Custom(x, layers.Dense(8, use_bias=False)(x)))
    inputs = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
    with pytest.warns(UserWarning, match="does not apply constraints"):
        model.fit(inputs, np.zeros((32, 8)), verbose=0, callbacks=[tfs.ClusteringCallback(4)])
    assert_shared(model, 4)


def test_nothing_is_left_behind():
    model = compiled(ZOO["sequential"]())
    config = model.get_config()
    fit(model, [tfs.ClusteringCallback(4)])
    assert model.get_config() == config
    assert model.get_layer("conv2").kernel.constraint is None
    fit(model, [])
    assert np.unique(model.get_layer("conv2").kernel.numpy()).size > 100


def test_the_mean_of_many_equal_weights_is_exact():
    variable = keras.Variable(np.repeat(np.array([0.1, -0.3], "float32"), 3_000_000))
    constraint = SharedValues(variable)
    np.testing.assert_array_equal(np.unique(constraint(variable.value)), np.array([-0.3, 0.1], "float32"))


def test_errors():
    with pytest.raises(ValueError, match="`clusters` is the number of distinct values"):
        tfs.ClusteringCallback(1)
    with pytest.raises(ValueError, match="`gradients` must be one of 'each', 'mean', 'sum'"):
        tfs.ClusteringCallback(gradients="total")
    with pytest.raises(ValueError, match="`reassign` needs `clusters` and gradients='each'"):
        tfs.ClusteringCallback(reassign=10)
    model = compiled(ZOO["residual"]())
    with pytest.raises(ValueError, match=r"No weights of model 'residual' share values yet.*tfs\.cluster"):
        fit(model, [tfs.ClusteringCallback()])
    with pytest.raises(ValueError, match="matches no layer: 'conv9'"):
        fit(model, [tfs.ClusteringCallback(4, select="conv9")])
    model.get_layer("stem").kernel.assign(model.get_layer("stem").kernel.numpy() * np.inf)
    with pytest.raises(ValueError, match="'stem/kernel' holds NaN or infinite weights"):
        fit(model, [tfs.ClusteringCallback(4)])
