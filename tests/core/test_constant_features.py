"""Features without variance are divided by 1, not by next to nothing."""

import keras
import numpy as np
import pytest
from keras import layers

from tfsqueeze.core.constant_features import (
    constant_features,
    constant_features_settled,
    settle_constant_features,
)

VALUES = np.random.default_rng(0).normal(5, 2, (64, 4)).astype("float32")
VALUES[:, 1] = 3.1


def adapted():
    layer = layers.Normalization(name="norm")
    layer.adapt(VALUES)
    return layer


def given():
    return layers.Normalization(mean=VALUES.mean(0), variance=VALUES.var(0), name="norm")


def model_of(layer):
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.Sequential([layer])(inputs))


@pytest.mark.parametrize("make", [adapted, given])
def test_the_constant_feature_alone_changes_and_stays_changed_in_files(make, tmp_path):
    model = model_of(make())
    before = np.asarray(model(VALUES))
    assert constant_features(model) == {"norm": [1]}
    settle_constant_features(model)
    assert constant_features(model) == {}
    after = np.asarray(model(VALUES))
    np.testing.assert_array_equal(after[:, [0, 2, 3]], before[:, [0, 2, 3]])
    np.testing.assert_allclose(after[:, 1], 0, atol=1e-5)
    np.testing.assert_allclose(np.asarray(model(VALUES + 0.5))[:, 1], 0.5, atol=1e-5)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(np.asarray(loaded(VALUES)), after)


def test_the_block_puts_the_variance_back():
    model = model_of(adapted())
    before = np.asarray(model(VALUES + 0.5))
    with constant_features_settled(model):
        assert np.abs(np.asarray(model(VALUES + 0.5))).max() < 10
    np.testing.assert_array_equal(np.asarray(model(VALUES + 0.5)), before)


def test_a_variance_that_is_rounding_of_the_mean_counts_as_none():
    layer = layers.Normalization(mean=[1000.0, 1000.0], variance=[1e-9, 1e-2], name="norm")
    model = keras.Sequential([keras.Input((2,)), layer])
    assert constant_features(model) == {"norm": [0]}


def test_one_variance_for_all_features_may_be_none_too():
    layer = layers.Normalization(mean=2.0, variance=0.0, name="norm")
    model = keras.Sequential([keras.Input((2,)), layer])
    settle_constant_features(model)
    assert layer.get_config()["variance"] == 1.0
    np.testing.assert_array_equal(np.asarray(model(np.full((1, 2), 2.5))), 0.5)
