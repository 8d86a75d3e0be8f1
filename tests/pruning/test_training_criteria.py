"""Criteria that learn from the training: what the optimizer has seen, where weights have moved."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.pruning.test_callback import assert_sparse, compiled, fit
from tests.zoo import ZOO, residual

GRADUAL = tfs.schedules.Polynomial(0.0, 0.75, 0, 6, frequency=2)


def zeros(model):
    return np.mean(np.concatenate([layer.kernel.numpy().ravel() == 0 for layer in with_kernels(model)]))


def with_kernels(model):
    return [layer for layer in model.layers if isinstance(layer, (layers.Dense, layers.Conv2D))]


@pytest.mark.parametrize("criterion", ["taylor", "snip", "fisher", "movement"])
@pytest.mark.parametrize("name", ["residual", "recurrent", "subclassed", "shared"])
def test_no_data_is_needed_with_adam(name, criterion):
    model = compiled(ZOO[name]())
    fit(model, [tfs.PruningCallback(GRADUAL, criterion=criterion)], epochs=2)
    assert_sparse(model, 0.75)


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "lion": lambda: keras.optimizers.Lion(0.001),
    "averages": lambda: keras.optimizers.Adam(0.01, use_ema=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_gradients_come_from_the_optimizers_momentum(optimizer):
    model = compiled(residual(), optimizer=OPTIMIZERS[optimizer]())
    fit(model, [tfs.PruningCallback(GRADUAL, criterion="taylor", scope="global")], epochs=2)
    assert zeros(model) == pytest.approx(0.75, abs=0.01)


def test_gradients_come_from_two_devices(mirrored):
    with mirrored.scope():
        model = compiled(residual())
    fit(model, [tfs.PruningCallback(GRADUAL, criterion="fisher")], epochs=2)
    assert_sparse(model, 0.75)


def test_fisher_keeps_the_weights_the_loss_curves_along():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False, name="d")])
    model.compile(keras.optimizers.Adam(1e-4), "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)) * [1, 0.01, 1, 0.01]
    model.get_layer("d").kernel.assign([[0.3], [3.0], [0.3], [3.0]])
    schedule = tfs.schedules.Polynomial(0.0, 0.5, 0, 8, frequency=8)
    model.fit(
        x, np.zeros((64, 1)), 8, verbose=0, callbacks=[tfs.PruningCallback(schedule, criterion="fisher")]
    )
    np.testing.assert_array_equal(model.get_layer("d").kernel.numpy().ravel() != 0, [1, 0, 1, 0])


def test_movement_keeps_what_grew_and_not_what_is_large():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False, name="d")])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.get_layer("d").kernel.assign([[2.0], [0.1]])
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    schedule = tfs.schedules.Polynomial(0.0, 0.5, 0, 8, frequency=8)
    pruning = tfs.PruningCallback(schedule, criterion="movement")
    model.fit(x, x @ [[1.0], [0.8]], 8, verbose=0, callbacks=[pruning])
    np.testing.assert_array_equal(model.get_layer("d").kernel.numpy().ravel() != 0, [0, 1])


@pytest.mark.parametrize("criterion", ["taylor", "movement"])
def test_pruning_before_the_first_step_needs_data(criterion):
    with pytest.raises(ValueError, match="before the first training step"):
        fit(compiled(residual()), [tfs.PruningCallback(0.5, criterion=criterion)])


def test_an_optimizer_without_momentum_is_refused_before_training():
    model = compiled(residual(), optimizer=keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=r"SGD keeps no running mean of gradients.*Adam"):
        fit(model, [tfs.PruningCallback(GRADUAL, criterion="taylor")])
    assert int(model.optimizer.iterations.numpy()) == 0
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    with pytest.raises(ValueError, match="SGD keeps no running mean of squared gradients"):
        fit(model, [tfs.PruningCallback(GRADUAL, criterion="fisher")])


def test_negative_scores_do_not_go_with_lamp():
    with pytest.raises(ValueError, match="scope='global'"):
        fit(
            compiled(residual()), [tfs.PruningCallback(GRADUAL, criterion="movement", scope="lamp")], epochs=2
        )


def test_regrowth_by_the_optimizers_momentum():
    model = compiled(residual())
    steady = tfs.schedules.Polynomial(0.0, 0.8, 0, 2, frequency=1)
    regrowth = tfs.Regrowth("gradient", fraction=0.5, end_step=100)
    fit(model, [tfs.PruningCallback(steady, regrowth=regrowth)], epochs=2)
    assert_sparse(model, 0.8)


def test_averaged_weights_are_pruned_with_the_weights():
    class Seen(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            self.zeros = zeros(self.model)

    model = compiled(residual(), optimizer=keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9))
    seen = Seen()
    x, y = np.zeros((4, 8, 8, 4)), model.predict(np.zeros((4, 8, 8, 4)), verbose=0)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=False)
    fit(model, [tfs.PruningCallback(GRADUAL), swap, seen], epochs=2, validation_data=(x, y))
    assert seen.zeros == pytest.approx(0.75, abs=0.01)
    assert_sparse(model, 0.75)


def keras_distiller(student, teacher):
    return keras.distillation.Distiller(teacher, student, keras.distillation.LogitsDistillation())


@pytest.mark.parametrize("criterion", ["magnitude", "taylor"])
@pytest.mark.parametrize("distiller_of", [tfs.Distiller, keras_distiller])
def test_the_student_inside_a_distiller_is_pruned(distiller_of, criterion):
    student, teacher = residual(), residual()
    distiller = distiller_of(student, teacher)
    distiller.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 4)).astype("float32")
    y = teacher.predict(x, verbose=0)
    pruning = tfs.PruningCallback(GRADUAL, criterion=criterion, data=(x, y))
    distiller.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[pruning])
    assert_sparse(student, 0.75)
    assert zeros(teacher) == 0
