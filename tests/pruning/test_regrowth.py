"""Dynamic sparse training, optimizers that ignore constraints, and scalars for TensorBoard."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfsqueeze as tfs
from tests.pruning.test_callback import assert_sparse, compiled, fit
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze.pruning.targets import find_targets


def test_swap_by_hand():
    mask = np.array([True, True, False, False])
    kernel, gradient = np.array([5.0, 1.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.1, -3.0])
    swapped = tfs.Regrowth("gradient", fraction=0.5).swap(mask, kernel, gradient, 0)
    np.testing.assert_array_equal(swapped, [True, False, False, True])


@given(
    st.integers(0, 2**16), st.floats(0, 0.99), st.integers(0, 1200), st.sampled_from(["gradient", "random"])
)
def test_the_number_of_living_weights_never_changes(bits, fraction, step, by):
    rng = np.random.default_rng(bits)
    mask, kernel = rng.random((4, 6)) > rng.random(), rng.normal(size=(4, 6))
    swapped = tfs.Regrowth(by, fraction, end_step=1000).swap(mask, kernel, rng.normal(size=(4, 6)), step)
    assert swapped.sum() == mask.sum() and swapped.shape == mask.shape
    if step >= 1000:
        np.testing.assert_array_equal(swapped, mask)


def test_the_fraction_falls_along_a_cosine():
    growth = tfs.Regrowth(fraction=0.4, end_step=100)
    assert [growth.fraction_at(step) for step in (0, 50, 100, 200)] == pytest.approx([0.4, 0.2, 0, 0])


@pytest.mark.parametrize("by, with_data", [("gradient", True), ("gradient", False), ("random", False)])
def test_training_explores_other_weights_at_the_same_sparsity(by, with_data):
    model = compiled(ZOO["residual"]())
    x, y = zoo_inputs(model, 16), zoo_targets(model, 16)
    pruned = tfs.prune(model, 0.75)
    before = [target.variable.numpy() != 0 for target in find_targets(pruned)[0]]
    growth = tfs.Regrowth(by, 0.5, end_step=9)
    steady = tfs.schedules.Constant(0.75, frequency=2)
    data = (x, y) if with_data else None
    fit(pruned, [tfs.PruningCallback(steady, regrowth=growth, data=data)], epochs=3)
    after = [target.variable.numpy() != 0 for target in find_targets(pruned)[0]]
    assert_sparse(pruned, 0.75)
    assert sum((a & ~b).sum() for a, b in zip(after, before, strict=True)) > 10


def test_regrowth_needs_gradients_and_no_pattern():
    callback = tfs.PruningCallback(0.5, regrowth=tfs.Regrowth("gradient"))
    with pytest.raises(ValueError, match="SGD keeps no running mean"):
        fit(compiled(ZOO["residual"](), optimizer=keras.optimizers.SGD(0.1)), [callback])
    with pytest.raises(ValueError, match="`regrowth` goes with pattern='unstructured'"):
        tfs.PruningCallback(0.5, pattern="2:4", regrowth=tfs.Regrowth())
    with pytest.raises(ValueError, match="`by` must be one of 'gradient', 'random'"):
        tfs.Regrowth("luck")
    with pytest.raises(ValueError, match=r"`fraction` must be in \[0, 1\)"):
        tfs.Regrowth(fraction=2)


def test_a_step_that_ignores_constraints_is_detected_and_made_up_for():
    class ByHand(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            for variable, gradient in zip(
                self.trainable_variables, tape.gradient(loss, self.trainable_variables), strict=True
            ):
                variable.assign_sub(0.01 * gradient)
            self.optimizer.iterations.assign_add(1)
            return {"loss": loss}

    x = keras.Input((6,))
    model = ByHand(x, layers.Dense(3)(layers.Dense(8, activation="relu")(x)))
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="does not apply constraints"):
        model.fit(
            rng.normal(size=(32, 6)),
            rng.normal(size=(32, 3)),
            8,
            verbose=0,
            callbacks=[tfs.PruningCallback(0.5)],
        )
    assert_sparse(model, 0.5)


def test_a_map_of_sparsities_grows_with_the_schedule():
    model = compiled(ZOO["residual"]())
    schedule = tfs.schedules.Polynomial(0.0, 0.5, 0, 8, power=1, frequency=1)
    callback = tfs.PruningCallback(schedule, scope={"block_conv": 0.9})
    with pytest.warns(UserWarning, match="before the schedule does"):
        fit(model, [callback])
    assert (model.get_layer("block_conv").kernel.numpy() == 0).mean() == pytest.approx(0.45, abs=0.01)
    fit(model, [callback])
    assert (model.get_layer("block_conv").kernel.numpy() == 0).mean() == pytest.approx(0.9, abs=0.01)
    assert (model.get_layer("stem").kernel.numpy() != 0).all()


def test_scalars_are_written_for_tensorboard(tmp_path):
    fit(compiled(ZOO["residual"]()), [tfs.PruningCallback(0.5, log_dir=tmp_path)], epochs=2)
    values = [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for file in tmp_path.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert (1, "sparsity/stem/kernel", 0.5) in values
    assert {step for step, _, _ in values} == {0, 1}


@pytest.mark.parametrize("pattern", ["2:4", (2, 2), "columns"])
def test_patterns_hold_while_training(pattern):
    model = compiled(ZOO["residual"]())
    schedule = tfs.schedules.Polynomial(0.0, 0.5, 0, 6, frequency=2)
    fit(model, [tfs.PruningCallback(schedule, pattern=pattern)], epochs=2)
    matrix = model.get_layer("block_conv").kernel.numpy().reshape(-1, 8) != 0
    if pattern == "2:4":
        assert (matrix.reshape(-1, 4, 8).sum(1) == 2).all()
    elif pattern == "columns":
        assert (matrix.all(0) | ~matrix.any(0)).all()
    assert (~matrix).mean() == pytest.approx(0.5, abs=0.02)


def test_global_pruning_while_training():
    model = compiled(ZOO["residual"]())
    schedule = tfs.schedules.Polynomial(0.0, 0.8, 0, 6, frequency=2)
    history = fit(model, [tfs.PruningCallback(schedule, scope="lamp")], epochs=2)
    assert history.history["sparsity"][-1] == pytest.approx(0.8, abs=0.01)
