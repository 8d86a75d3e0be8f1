"""The largest batch that fits."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO
from tfsqueeze.precision.batch_size import search


@given(st.integers(0, 5000), st.integers(1, 2000))
def test_search_is_right_to_an_eighth_and_tries_few(largest, limit):
    tried = []

    def fits(size):
        tried.append(size)
        return size <= largest

    found = search(fits, limit)
    best = min(largest, limit)
    assert best * 7 / 8 - 1 < found <= best
    assert max(tried) <= limit and len(tried) <= 16


def memory_hungry():
    """One example of its training takes about 25 MB for activations, with little to compute."""
    model = keras.Sequential(
        [
            keras.Input((512, 512, 1)),
            layers.Conv2D(8, 1, activation="relu"),
            layers.Conv2D(8, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse", metrics=["mae"])
    return model


@pytest.mark.slow
def test_more_memory_fits_more_and_training_less_than_prediction():
    model = memory_hungry()
    before = model.get_weights()
    small = tfs.largest_batch(model, memory=1.0e9, limit=64)
    large = tfs.largest_batch(model, memory=1.8e9, limit=64)
    assert 1 <= small < large
    assert tfs.largest_batch(model, memory=1.0e9, limit=64, training=False) > small
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_limit_ends_the_search_with_dict_data_and_too_little_memory_is_said():
    model = ZOO["multi_output"]()
    model.compile("adam", {"kind": "sparse_categorical_crossentropy", "score": "mse"})
    x = {"first": np.ones((4, 5), "float32"), "second": np.ones((4, 7), "float32")}
    y = {"kind": np.zeros((4,), "int32"), "score": np.ones((4, 1), "float32")}
    assert tfs.largest_batch(model, (x, y), limit=4) == 4
    with pytest.raises(ValueError, match=r"Not even a batch of 1 fits in 1e\+08 bytes"):
        tfs.largest_batch(model, (x, y), memory=1e8)


def test_bad_input():
    model = ZOO["residual"]()
    with pytest.raises(ValueError, match=r"not compiled.*training=False"):
        tfs.largest_batch(model, training=True)
    with pytest.raises(ValueError, match=r"`limit` must be a whole number >= 1. Received: limit=0"):
        tfs.largest_batch(model, limit=0)
    with pytest.raises(ValueError, match=r"`memory` is in bytes, 4e9 for 4 GB. Received: memory=4"):
        tfs.largest_batch(model, memory=4)
