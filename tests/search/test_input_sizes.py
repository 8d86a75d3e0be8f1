"""Sweeping the input size."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


def test_score_macs_and_latency_by_size(model):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 32)
    x = (rng.normal(size=(32, 16, 16, 1)) + 4 * y[:, None, None, None]).astype("float32")
    model.fit(x, y, epochs=3, verbose=0)
    found = tfs.sweep_input_sizes(model, [16, (8, 8)], (x, y), runs=5)
    whole, half = found.rows
    assert found.metric == "accuracy"
    assert whole.score == pytest.approx(model.evaluate(x, y, verbose=0)[1])
    assert whole.macs == 16 * 16 * 36 + 8 and half.macs == 8 * 8 * 36 + 8
    assert whole.latency_ms > 0 and half.latency_ms > 0
    assert "(8, 8)" in str(found) and found.to_dict()["sizes"][1]["size"] == (8, 8)


def test_a_function_scores_each_model(model):
    found = tfs.sweep_input_sizes(model, [8, 4], lambda sized: sized.input_shape[1], latency=False)
    assert [row.score for row in found.rows] == [8, 4]
    assert found.rows[0].latency_ms is None


def test_no_sizes(model):
    with pytest.raises(ValueError, match="`sizes` must name at least one"):
        tfs.sweep_input_sizes(model, [], lambda sized: 1.0)


def test_backbones_are_measured():
    found = tfs.backbones(["mobilenet", "MobileNetV2"], size=64, alpha=0.35)
    (first, second) = found.rows
    assert first.macs <= second.macs
    assert {row.name for row in found.rows} == {"MobileNet", "MobileNetV2"}
    assert next(row for row in found.rows if row.name == "MobileNetV2").features == (2, 2, 1280)
    assert "64x64" in str(found)
    with pytest.raises(ValueError, match="Unknown backbone 'MobileNetV9'"):
        tfs.backbones("MobileNetV9")
