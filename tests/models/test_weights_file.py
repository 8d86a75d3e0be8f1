"""Files that hold only weights load into a copy of the architecture they belong to."""

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from keras.src.legacy.saving import legacy_h5_format

from tfsqueeze.models.load import load_model


def architecture():
    inner = keras.Sequential([keras.Input((5, 4)), layers.Conv1D(3, 2), layers.BatchNormalization()])
    x = keras.Input((5, 4))
    return keras.Model(x, layers.Dense(2)(layers.Bidirectional(layers.LSTM(3))(inner(x))))


def legacy_architecture():
    from tests.models.legacy_zoo import layers as old
    from tests.models.legacy_zoo import randomize, tf_keras

    inner = tf_keras.Sequential([old.Input((5, 4)), old.Conv1D(3, 2), old.BatchNormalization()])
    x = old.Input((5, 4))
    return randomize(tf_keras.Model(x, old.Dense(2)(old.Bidirectional(old.LSTM(3))(inner(x)))))


def keras_3_weights(folder):
    model = architecture()
    model.save_weights(folder / "w.weights.h5")
    return model, folder / "w.weights.h5"


def keras_2_style_weights(folder):
    model = architecture()
    with h5py.File(folder / "weights.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return model, folder / "weights.h5"


def checkpoint(folder):
    model = legacy_architecture()
    model.save_weights(str(folder / "ckpt"))
    return model, folder / "ckpt"


@pytest.mark.parametrize("write", [keras_3_weights, keras_2_style_weights, checkpoint])
def test_weights_go_into_a_copy(write, tmp_path):
    source, path = write(tmp_path)
    target = architecture()
    before = target.get_weights()
    loaded = load_model(path, architecture=target)
    x = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    np.testing.assert_allclose(loaded(x), source(x), atol=1e-6)
    np.testing.assert_equal(target.get_weights(), before)


@pytest.mark.parametrize("write", [keras_3_weights, keras_2_style_weights, checkpoint])
def test_the_error_says_what_is_missing(write, tmp_path):
    _, path = write(tmp_path)
    with pytest.raises(ValueError, match=r"holds only weights.*architecture=model"):
        load_model(path)


@pytest.mark.parametrize("write", [keras_3_weights, keras_2_style_weights, checkpoint])
def test_another_architecture_does_not_fit(write, tmp_path):
    _, path = write(tmp_path)
    other = keras.Sequential([keras.Input((4,)), layers.Dense(7)])
    with pytest.raises(ValueError, match="do not fit the architecture"):
        load_model(path, architecture=other)


def test_the_folder_of_a_checkpoint(tmp_path):
    source, _ = checkpoint(tmp_path)
    loaded = load_model(tmp_path, architecture=architecture())
    np.testing.assert_array_equal(loaded.layers[-1].kernel, source.layers[-1].kernel)


def test_a_subclassed_architecture(tmp_path):
    @keras.saving.register_keras_serializable(package="tests")
    class Twice(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(self.dense(inputs))

    model = Twice()
    model(np.zeros((1, 3)))
    model.save_weights(tmp_path / "w.weights.h5")
    other = Twice()
    other(np.zeros((1, 3)))
    loaded = load_model(tmp_path / "w.weights.h5", architecture=other)
    np.testing.assert_equal(loaded.get_weights(), model.get_weights())
