"""Each low-bit estimator on numbers worked out by hand, and what holds for all of them."""

import numpy as np
import pytest
import tensorflow as tf

from tfsqueeze.quantization import estimators, rounding
from tfsqueeze.quantization.methods import METHODS

AXES = (0,)
KERNEL = tf.constant([[1.0, -0.2], [-3.0, 0.4], [0.1, -0.6], [2.0, 0.0]])
KEEPS_ZERO = {name for name in METHODS if not name.startswith(("binary", "dorefa"))}


def scales(name, kernel=KERNEL, bits=4):
    return {key: start(kernel, AXES, bits) for key, start in METHODS[name].trained.items()}


def apply(name, kernel=KERNEL, bits=4, **options):
    if METHODS[name].needs_curvature:
        options["curvature"] = tf.ones_like(kernel)
    return METHODS[name].round(kernel, AXES, bits, **scales(name, kernel, bits), **options)


def test_uniform_puts_the_greatest_magnitude_on_the_last_level():
    expected = np.array([[2, -2], [-7, 5], [0, -7], [5, 0]]) * np.array([3.0, 0.6]) / 7
    np.testing.assert_allclose(rounding.uniform(KERNEL, AXES, 4), expected, rtol=1e-6)


def test_clipping_never_has_a_greater_error_than_the_full_range():
    kernel = tf.random.stateless_normal((200, 5), (1, 2))
    error = [np.square(f(kernel, AXES, 4) - kernel).sum() for f in (rounding.clipped, rounding.uniform)]
    assert error[0] < error[1]


def test_learned_step_gradient():
    kernel, step = tf.constant([[0.3], [5.0]]), tf.Variable([[np.log(0.5)]], dtype="float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(kernel)
        total = tf.reduce_sum(rounding.learned_step(kernel, AXES, 4, step))
    # Inside: round(w/s) - w/s = 1 - 0.6; outside: the last level, 7; both times s / sqrt(2 * 7).
    np.testing.assert_allclose(tape.gradient(total, step), [[0.5 * 7.4 / np.sqrt(14)]], rtol=1e-5)
    np.testing.assert_array_equal(tape.gradient(total, kernel), [[1.0], [0.0]])


def test_ternarize():
    # mean|w| 1.525 and 0.3, thresholds 1.0675 and 0.21: kept 3, 2 and 0.4, 0.6.
    expected = [[0, 0], [-2.5, 0.5], [0, -0.5], [2.5, 0]]
    np.testing.assert_allclose(estimators.ternarize(KERNEL, AXES), expected, rtol=1e-6)


def test_ternarize_fixed():
    expected = [[0, 0], [-3, 0.6], [0, -0.6], [3, 0]]
    np.testing.assert_allclose(estimators.ternarize_fixed(KERNEL, AXES), expected, rtol=1e-6)


def test_ternarize_trained_learns_both_scales():
    positive, negative = tf.Variable([[2.0, 1.0]]), tf.Variable([[4.0, 3.0]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(KERNEL)
        rounded = estimators.ternarize_trained(KERNEL, AXES, positive=positive, negative=negative)
        total = tf.reduce_sum(rounded)
    np.testing.assert_allclose(rounded, [[2, -3], [-4, 1], [0, -3], [2, 0]], rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(total, positive), [[2, 1]])
    np.testing.assert_array_equal(tape.gradient(total, negative), [[-1, -2]])
    np.testing.assert_array_equal(tape.gradient(total, KERNEL), [[2, 3], [4, 1], [1, 3], [2, 1]])


def test_binarize_and_where_its_gradient_passes():
    kernel = tf.constant([[0.5], [-1.0], [0.0], [-30.0]])
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        rounded = estimators.binarize(kernel, AXES)
    np.testing.assert_allclose(rounded, np.array([[1], [-1], [1], [-1]]) * 7.875, rtol=1e-6)
    np.testing.assert_array_equal(tape.gradient(rounded, kernel), [[1], [1], [1], [0]])


def test_binarize_trained_takes_the_nearer_constant():
    low, high = tf.Variable([[-1.0]]), tf.Variable([[3.0]])
    kernel = tf.constant([[0.5], [1.5], [4.0], [2.0]])
    with tf.GradientTape() as tape:
        rounded = estimators.binarize_trained(kernel, AXES, low=low, high=high)
    np.testing.assert_allclose(rounded, [[-1], [3], [3], [3]], rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(rounded, high), [[1.0]], rtol=1e-6)


def test_loss_aware_rounding_weighs_by_curvature():
    kernel, curvature = tf.constant([[1.0], [-3.0], [0.1]]), tf.constant([[3.0], [1.0], [0.0]])
    binary = estimators.binarize_loss_aware(kernel, AXES, curvature=curvature)
    np.testing.assert_allclose(binary, [[1.5], [-1.5], [1.5]], rtol=1e-6)
    ternary = estimators.ternarize_loss_aware(kernel, AXES, curvature=curvature)
    np.testing.assert_allclose(ternary, [[1.5], [-1.5], [0]], rtol=1e-6)


def test_dorefa_levels():
    rounded = estimators.dorefa(KERNEL, AXES, 2).numpy()
    levels = rounded / np.abs(KERNEL).max(0)
    assert set(np.round(np.unique(levels) * 3).astype(int)) <= {-3, -1, 1, 3}


def test_stochastic_rounding_is_right_on_average():
    kernel = tf.fill((20000, 1), 0.25)
    kernel = tf.concat([kernel, [[1.0]]], 0)
    tf.random.set_seed(1)
    ternary = estimators.ternarize_stochastic(kernel, AXES, training=True).numpy()
    assert set(np.unique(ternary)) == {0.0, 1.0}
    assert ternary[:-1].mean() == pytest.approx(0.25, abs=0.02)
    np.testing.assert_array_equal(
        estimators.binarize_stochastic(kernel, AXES), estimators.binarize(kernel, AXES)
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method(name):
    kernel = tf.random.stateless_normal((64, 3), (1, 2)) * tf.cast(tf.range(64) % 4 > 0, tf.float32)[:, None]
    options = {"training": True} if METHODS[name].is_stochastic else {}
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        rounded = apply(name, kernel, **options)
    values = max(np.unique(column).size for column in rounded.numpy().T)
    assert values <= {1: 2, 2: 3, None: 16}[METHODS[name].bits]
    assert np.isfinite(tape.gradient(rounded, kernel)).all()
    if name in KEEPS_ZERO:
        assert (rounded.numpy()[kernel.numpy() == 0] == 0).all()
    assert np.isfinite(apply(name, tf.zeros((4, 2)), **options)).all()
