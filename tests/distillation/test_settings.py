import keras
import numpy as np
import pytest
import tensorflow as tf

import tfsqueeze as tfs
from tests.distillation.networks import convnet
from tfsqueeze.distillation.settings import check_alpha, check_temperature, pack, unpack, value_at

SCHEDULES = [
    tfs.schedules.Polynomial(0.9, 0.1, 10, 60),
    tfs.schedules.Cosine(0.0, 0.8, 0, 50),
    tfs.schedules.Exponential(0.5, 0.9, 5, 40),
    tfs.schedules.Steps({3: 0.5, 20: 0.25}),
    tfs.schedules.Constant(0.3, begin_step=7),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("jit", [False, True])
def test_schedules_have_their_values_in_the_graph(schedule, jit):
    compiled = tf.function(lambda step: value_at(schedule, step), jit_compile=jit)
    steps = range(0, 80)
    values = [float(compiled(tf.constant(step, tf.int64))) for step in steps]
    np.testing.assert_allclose(values, [schedule(step) for step in steps], atol=1e-6)


def test_long_schedules_are_interpolated_closely():
    schedule = tfs.schedules.Cosine(0.9, 0.1, 100, 1_000_000)
    steps = [0, 100, 101, 5_000, 400_123, 999_999, 2_000_000]
    values = [float(value_at(schedule, tf.constant(step, tf.int64))) for step in steps]
    np.testing.assert_allclose(values, [schedule(step) for step in steps], atol=1e-5)


def test_settings_of_keras_and_numbers():
    decay = keras.optimizers.schedules.PolynomialDecay(8.0, 100, 1.0)
    assert float(value_at(decay, tf.constant(50))) == 4.5
    assert float(value_at(3.0, tf.constant(50))) == 3.0
    for setting in (decay, 0.5, {"a": 0.5, "b": SCHEDULES[0]}):
        assert pack(unpack(pack(setting))) == pack(setting)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, "high", True, float("nan")])
def test_alpha_must_be_a_share(alpha):
    with pytest.raises(ValueError, match=r"`alpha` is the weight .* in \[0, 1\]"):
        check_alpha(alpha)


@pytest.mark.parametrize("temperature", [0, -1, float("inf"), "hot"])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=r"`temperature` must be a number > 0. Received"):
        check_temperature(temperature)


def test_endless_schedules_are_refused():
    class Endless(tfs.schedules.Schedule):
        def __call__(self, step):
            return 1 / (1 + step)

    with pytest.raises(ValueError, match=r"`alpha` needs a schedule with an end"):
        check_alpha(Endless())


def test_alpha_follows_the_steps_of_the_optimizer():
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    alpha = tfs.schedules.Steps({0: 0.5, 2: 0.25})
    distiller = tfs.Distiller(convnet(), convnet(8), alpha=alpha)
    distiller.compile(keras.optimizers.SGD(0.0))
    own = float(sum(distiller.student.losses))
    shares = []
    for _ in range(4):
        logs = distiller.fit(x, verbose=0).history
        shares.append((logs["loss"][0] - own) / logs["distillation_loss"][0])
    np.testing.assert_allclose(shares, [0.5, 0.5, 0.25, 0.25], rtol=1e-3)
