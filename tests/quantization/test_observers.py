"""Ranges of activations found from one batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, zoo_inputs
from tfsqueeze.quantization.observers import BINS, FRACTIONS, OBSERVERS

VALUES = np.random.default_rng(0).standard_t(4, size=(64, 20, 20)).astype("float32")


def squared_error(low, high, bits=8):
    step = (high - low) / (2**bits - 1)
    return np.square(np.round(np.clip(VALUES, low, high) / step) * step - VALUES).sum()


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("percentile", [99.0, 99.9, 100.0])
def test_a_percentile_is_that_of_all_values(percentile, is_compiled):
    observe = tf.function(OBSERVERS["percentile"], jit_compile=is_compiled)
    low, high = map(float, observe(VALUES, percentile, 8))
    outside, bin_width = (100 - percentile) / 200, np.ptp(VALUES) / BINS
    assert np.mean(low - bin_width > VALUES) <= outside <= np.mean(low + bin_width >= VALUES)
    assert np.mean(high + bin_width < VALUES) <= outside <= np.mean(high - bin_width <= VALUES)


@pytest.mark.parametrize("bits", [3, 8])
def test_least_squares_is_the_best_fraction_for_all_values(bits):
    low, high = map(float, OBSERVERS["mse"](VALUES, 99.9, bits))
    errors = {f: squared_error(f * VALUES.min(), f * VALUES.max(), bits) for f in FRACTIONS}
    assert squared_error(low, high, bits) <= min(errors.values()) * 1.02
    assert squared_error(low, high, bits) <= errors[1.0]


@pytest.mark.parametrize("name", list(OBSERVERS))
def test_values_that_are_all_zero_have_no_range(name):
    assert [float(end) for end in OBSERVERS[name](tf.zeros((3, 4)), 99.9, 8)] == [0.0, 0.0]


@pytest.mark.parametrize("name", list(OBSERVERS))
def test_every_way_measures_data_and_trains(name):
    model = GRAPH_ZOO["residual"]()
    x = np.asarray(zoo_inputs(model))
    qat = tfs.quantize_aware(model, tfs.QuantizationConfig(ranges=name), data=x)
    np.testing.assert_allclose(qat.predict(x, verbose=0), model.predict(x, verbose=0), atol=0.3)
    qat.compile("sgd", "mse")
    history = qat.fit(x, np.zeros((len(x), *qat.output_shape[1:])), epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert keras.models.clone_model(qat).count_params() == qat.count_params()
