"""Pruning while training: exact zeros under everything Keras' `fit` offers."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, residual, zoo_inputs, zoo_targets
from tfsqueeze.models.legacy import import_tfmot
from tfsqueeze.pruning.targets import find_targets


def compiled(model, **kwargs):
    losses = {"kind": "mse", "score": "mae"} if model.name == "multi_output" else "mse"
    model.compile(**{"optimizer": keras.optimizers.Adam(0.01), "loss": losses, **kwargs})
    return model


def fit(model, callbacks, *, count=16, epochs=1, batch_size=4, **kwargs):
    x, y = zoo_inputs(model, count), zoo_targets(model, count)
    return model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=callbacks, **kwargs)


def assert_sparse(model, sparsity):
    for target in find_targets(model)[0]:
        kernel = target.variable.numpy()
        assert (kernel == 0).sum() == round(sparsity * kernel.size), target.path


@pytest.fixture
def model():
    return compiled(ZOO["sequential"]())


@pytest.mark.parametrize("name", ZOO)
def test_every_model_ends_at_the_exact_sparsity(name):
    model = compiled(ZOO[name]())
    history = fit(
        model, [tfs.PruningCallback(tfs.schedules.Polynomial(0.0, 0.75, 0, 6, frequency=2))], epochs=2
    )
    assert_sparse(model, 0.75)
    assert history.history["sparsity"][-1] == pytest.approx(0.75, abs=0.03)


SETTINGS = {
    "steps_per_execution": {"steps_per_execution": 2},
    "jit_compile": {"jit_compile": True},
    "SGD with momentum": {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)},
    "weight decay": {"optimizer": keras.optimizers.AdamW(0.01, weight_decay=0.1)},
    "gradient accumulation": {"optimizer": keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)},
    "loss scaling": {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))},
    "eager": {"run_eagerly": True},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_zeros_hold_under(setting):
    chosen = SETTINGS[setting]
    if "optimizer" in chosen:
        chosen = {"optimizer": type(chosen["optimizer"]).from_config(chosen["optimizer"].get_config())}
    model = compiled(ZOO["residual"](), **chosen)
    fit(model, [tfs.PruningCallback(0.5)], epochs=3)
    assert_sparse(model, 0.5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_zeros_hold_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(ZOO["residual"]())
        fit(model, [tfs.PruningCallback(0.5)], epochs=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert_sparse(model, 0.5)


def test_zeros_hold_on_two_devices(mirrored):
    with mirrored.scope():
        model = compiled(residual())
    fit(model, [tfs.PruningCallback(tfs.schedules.Polynomial(0.0, 0.75, 0, 4, frequency=1))], epochs=2)
    assert_sparse(model, 0.75)


def test_sample_weights_class_weights_and_a_custom_train_step():
    class Custom(keras.Model):
        def train_step(self, data):
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True), weights)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    x = keras.Input((6,))
    model = Custom(x, layers.Dense(3)(layers.Dense(8, activation="relu")(x)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(32, 6)), rng.integers(0, 3, 32)
    model.fit(inputs, labels, sample_weight=np.ones(32), verbose=0, callbacks=[tfs.PruningCallback(0.5)])
    model.fit(
        inputs, labels, class_weight={0: 1, 1: 2, 2: 3}, verbose=0, callbacks=[tfs.PruningCallback(0.5)]
    )
    assert_sparse(model, 0.5)


def test_no_schedule_keeps_todays_zeros():
    pruned = tfs.prune(compiled(ZOO["sequential"]()), 0.6)
    before = [target.variable.numpy() for target in find_targets(pruned)[0]]
    fit(pruned, [tfs.PruningCallback()], epochs=3)
    after = [target.variable.numpy() for target in find_targets(pruned)[0]]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old == 0, new == 0)
        assert np.abs(old - new).max() > 0


def test_a_model_fitted_before_is_pruned_too(model):
    fit(model, [])
    fit(model, [tfs.PruningCallback(0.5)])
    assert_sparse(model, 0.5)


def test_a_fit_without_the_callback_is_ordinary_again(model):
    fit(model, [tfs.PruningCallback(0.9)])
    kernel = model.get_layer("conv2").kernel
    assert kernel.constraint is None
    fit(model, [])
    assert (kernel.numpy() == 0).mean() < 0.5


def test_the_model_keeps_its_layers_names_and_files(model, tmp_path):
    config = model.get_config()
    fit(model, [tfs.PruningCallback(0.5), keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")])
    assert model.get_config() == config
    assert_sparse(keras.models.load_model(tmp_path / "1.keras"), 0.5)


def test_constraints_of_the_layer_still_apply():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(16, kernel_constraint="non_neg", name="positive"), layers.Dense(1)]
    )
    compiled(model)
    own = model.get_layer("positive").kernel.constraint
    fit(model, [tfs.PruningCallback(0.5)], epochs=3)
    assert (model.get_layer("positive").kernel.numpy() >= 0).all()
    assert model.get_layer("positive").kernel.constraint is own
    assert (model.get_layer("positive").kernel.numpy() == 0).mean() >= 0.5


def test_nothing_is_pruned_before_the_schedule_begins(model):
    history = fit(
        model, [tfs.PruningCallback(tfs.schedules.Constant(0.5, begin_step=6, frequency=1))], epochs=3
    )
    assert history.history["sparsity"][0] == 0
    assert history.history["sparsity"][-1] == pytest.approx(0.5, abs=0.01)


def test_a_second_fit_goes_on_with_the_schedule(model):
    schedule = tfs.schedules.Polynomial(0.0, 0.8, 0, 12, power=1, frequency=1)
    with pytest.warns(UserWarning, match="Training ends at step 4, before the schedule does"):
        first = fit(model, [tfs.PruningCallback(schedule)])
    with pytest.warns(UserWarning, match="Training ends at step 8"):
        second = fit(model, [tfs.PruningCallback(schedule)])
    assert first.history["sparsity"][-1] == pytest.approx(0.8 / 3, abs=0.02)
    assert second.history["sparsity"][-1] == pytest.approx(1.6 / 3, abs=0.02)


def test_a_schedule_that_was_over_before_training_began_is_announced(model):
    fit(model, [])
    schedule = tfs.schedules.Polynomial(0.0, 0.5, 0, 4, frequency=1)
    with pytest.warns(UserWarning, match=r"has made 4 steps already.*pruned to 0.5 at once. Compile"):
        fit(model, [tfs.PruningCallback(schedule)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, [tfs.PruningCallback(schedule)])


def test_a_training_cut_short_is_announced_at_its_end(model):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    schedule = tfs.schedules.Polynomial(0.0, 0.8, 0, 12, frequency=1)
    with pytest.warns(UserWarning, match="Training ended at step 4, before the schedule does"):
        fit(model, [tfs.PruningCallback(schedule), Stop()], epochs=3)


def test_interrupted_training_resumes_to_the_same_weights(tmp_path):
    schedule = tfs.schedules.Polynomial(0.0, 0.8, 0, 16, frequency=3)

    class PowerCut(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("power cut")

    def train(*more):
        keras.utils.set_random_seed(1)
        model = compiled(ZOO["residual"](), optimizer=keras.optimizers.SGD(0.05))
        fit(model, [tfs.PruningCallback(schedule), *more], epochs=5, shuffle=False)
        return model

    whole = train()
    with pytest.raises(RuntimeError, match="power cut"):
        train(keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False), PowerCut())
    resumed = train(keras.callbacks.BackupAndRestore(tmp_path))
    for expected, received in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_allclose(expected, received, rtol=1e-5, atol=1e-6)


def test_averaged_weights_are_pruned_too():
    optimizer = keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)
    model = compiled(ZOO["residual"](), optimizer=optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, [tfs.PruningCallback(tfs.schedules.Polynomial(0.0, 0.75, 0, 8, frequency=2))], epochs=3)
    assert_sparse(model, 0.75)


@pytest.mark.parametrize("order", ["stopping first", "pruning first"])
def test_restored_weights_are_pruned_again_with_a_warning(model, order):
    stopping = keras.callbacks.EarlyStopping("loss", mode="max", patience=5, restore_best_weights=True)
    pruning = tfs.PruningCallback(tfs.schedules.Constant(0.5, begin_step=10, frequency=1))
    callbacks = [stopping, pruning] if order == "stopping first" else [pruning, stopping]
    with pytest.warns(UserWarning, match="restored weights from before they were pruned"):
        fit(model, callbacks, epochs=4)
    assert_sparse(model, 0.5)


def test_interrupting_and_starting_again_works(model):
    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, [tfs.PruningCallback(0.9), Interrupt()])
    fit(model, [tfs.PruningCallback(0.9)])
    assert_sparse(model, 0.9)
    assert model.get_layer("conv2").kernel.constraint is None


def test_the_same_callback_can_be_used_again(model):
    callback = tfs.PruningCallback(0.5)
    fit(model, [callback])
    other = compiled(ZOO["residual"]())
    fit(other, [callback])
    assert_sparse(model, 0.5)
    assert_sparse(other, 0.5)
    assert "batch_normalization" in callback.skipped


def test_tfmot_schedules_are_taken_as_they_are(model):
    sparsity = import_tfmot().sparsity.keras
    fit(model, [tfs.PruningCallback(sparsity.PolynomialDecay(0.0, 0.75, 0, 6, frequency=2))], epochs=2)
    assert_sparse(model, 0.75)


def test_errors():
    with pytest.raises(ValueError, match=r"`schedule` must be in \[0, 1\). Received: schedule=1.5"):
        tfs.PruningCallback(1.5)
    with pytest.raises(TypeError, match=r"tfs\.schedules"):
        tfs.PruningCallback("fast")
    with pytest.raises(ValueError, match="`criterion` must be one of"):
        tfs.PruningCallback(0.5, criterion="best")
    with pytest.raises(ValueError, match="matches no layer: 'conv9'"):
        fit(compiled(ZOO["sequential"]()), [tfs.PruningCallback(0.5, select="conv9")])
    with pytest.raises(ValueError, match="holds NaN"):
        schedule = tfs.schedules.Constant(0.5, frequency=1)
        model = compiled(ZOO["residual"](), optimizer=keras.optimizers.SGD(1e30))
        fit(model, [tfs.PruningCallback(schedule)], epochs=3)
