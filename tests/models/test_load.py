"""What `load_model` makes of each kind of path: models, damaged files, other formats, wrong names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.models.load import load_model


def small_model():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)]
    )
    model.compile("adam", "mse", metrics=["mae"])
    return model


def saved(folder, name="model.keras", model=None):
    path = folder / name
    (model or small_model()).save(path)
    return path


def cut(path, fraction):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    return path


class Doubled(layers.Layer):
    def call(self, inputs):
        return inputs * 2


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.hdf5"])
def test_keras_3_files(name, tmp_path):
    model = small_model()
    loaded = load_model(saved(tmp_path, name, model))
    np.testing.assert_equal(loaded.get_weights(), model.get_weights())
    assert loaded.compiled and loaded.loss is not None


def test_metrics_of_a_keras_2_file_can_be_called(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.Adam(0.002), "categorical_crossentropy", metrics=["accuracy"])
    path = saved(tmp_path, "model.h5", model)
    accuracy = {"name": "accuracy", "dtype": "float32", "fn": "categorical_accuracy"}
    written = {"loss": "categorical_crossentropy", "weighted_metrics": None, "loss_weights": None}
    written["metrics"] = [[{"class_name": "MeanMetricWrapper", "config": accuracy}]]
    written["optimizer_config"] = {"class_name": "Adam", "config": {"name": "Adam", "learning_rate": 0.002}}
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = json.dumps(written)
    loaded = load_model(path)
    scores = loaded.evaluate(np.ones((6, 4)), np.eye(3)[[0, 1, 2] * 2], verbose=0, return_dict=True)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.002)


@pytest.mark.parametrize(("name", "other"), [("m.keras", "m.h5"), ("m.h5", "m.keras"), ("m.keras", "m.bin")])
def test_content_counts_not_the_name(name, other, tmp_path):
    path = saved(tmp_path, name).rename(tmp_path / f"renamed_{other}")
    assert isinstance(load_model(path), keras.Model)


def test_home_folder_and_strings(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path)
    assert isinstance(load_model("~/model.keras"), keras.Model)


def test_a_keras_model_is_returned_as_it_is():
    model = small_model()
    assert load_model(model) is model


@pytest.mark.parametrize("value", [3, None, np.zeros(3)])
def test_neither_path_nor_model(value):
    with pytest.raises(TypeError, match="expects a path"):
        load_model(value)


def test_missing_file_names_similar_ones(tmp_path):
    saved(tmp_path, "resnet.keras")
    with pytest.raises(ValueError, match=r"no file or folder .*Did you mean 'resnet.keras'\?"):
        load_model(tmp_path / "resnte.keras")
    with pytest.raises(ValueError, match="Neither is there a folder"):
        load_model(tmp_path / "nowhere" / "model.keras")


@pytest.mark.parametrize("fraction", [0.3, 0.98])
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_truncated_files(name, fraction, tmp_path):
    with pytest.raises(ValueError, match=r"damaged or cut short.*save the model again"):
        load_model(cut(saved(tmp_path, name), fraction))


def test_empty_file(tmp_path):
    (tmp_path / "model.h5").touch()
    with pytest.raises(ValueError, match="is empty"):
        load_model(tmp_path / "model.h5")


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(ValueError, match="no saved_model"):
        load_model(tmp_path)
    saved(tmp_path)
    with pytest.raises(ValueError, match="contains 'model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.tflite", b"\x1c\0\0\0TFL3" + bytes(40), "TFLite file.*tfs.report"),
        ("model.h5", b"\x1c\0\0\0TFL3" + bytes(40), "TFLite file"),
        ("model.onnx", b"\x08\x07\x12\x07pytorch", "ONNX model"),
        ("model.pt", b"\x80\x02}q", "PyTorch file"),
        ("model.pb", b"\n\x12\n\x01x", "frozen TensorFlow graph"),
        ("model.h5", b"hello", "does not start as such a file"),
        ("model.bin", b"hello", "no model that tfsqueeze knows"),
    ],
)
def test_other_formats(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / name)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_unknown_class_is_named(name, tmp_path):
    path = saved(tmp_path, name, keras.Sequential([keras.Input((4,)), Doubled()]))
    with pytest.raises(ValueError, match=r"uses 'Doubled'.*custom_objects=\{'Doubled': Doubled\}"):
        load_model(path)
    loaded = load_model(path, custom_objects={"Doubled": Doubled})
    np.testing.assert_array_equal(loaded(np.ones((1, 4))), np.full((1, 4), 2.0))


def test_unknown_loss_leaves_the_model_uncompiled(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.compile("adam", lambda expected, received: keras.ops.mean(expected - received))
    assert not load_model(saved(tmp_path, model=model)).compiled


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_bytecode_needs_permission(name, tmp_path):
    path = saved(tmp_path, name, keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)]))
    with pytest.raises(ValueError, match="safe_mode=False"):
        load_model(path)
    np.testing.assert_array_equal(load_model(path, safe_mode=False)(np.ones((1, 4))), np.full((1, 4), 2.0))


def test_saved_models_without_keras(tmp_path):
    folder = tmp_path / "exported"
    module = tf.Module()
    module.call = tf.function(lambda x: x * 2, input_signature=[tf.TensorSpec((1,))])
    tf.saved_model.save(module, folder)
    with pytest.raises(UnsupportedModelError, match=r"no Keras layers.*tfs\.export_tflite"):
        load_model(folder)
    with pytest.raises(ValueError, match="one part of a SavedModel"):
        load_model(folder / "saved_model.pb")
    cut(folder / "saved_model.pb", 0.5)
    with pytest.raises(ValueError, match="damaged or cut short"):
        load_model(folder)


def test_incomplete_saved_model(tmp_path):
    from tests.models.legacy_zoo import LEGACY_ZOO, save

    folder = Path(save(LEGACY_ZOO["normalized"](), tmp_path, "tf"))
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"cut")
    with pytest.raises(ValueError, match="could not be read as a Keras model"):
        load_model(folder)
    shutil.rmtree(folder / "variables")
    with pytest.raises(ValueError, match="not copied as a whole"):
        load_model(folder)


def test_keras_2_lambda_bytecode_needs_permission(tmp_path):
    from tests.models.legacy_zoo import layers as old_layers
    from tests.models.legacy_zoo import save, tf_keras

    model = tf_keras.Sequential([old_layers.Input((4,)), old_layers.Lambda(lambda x: x * 2)])
    for form in ("h5", "keras", "tf"):
        path = save(model, tmp_path, form)
        with pytest.raises(ValueError, match="safe_mode=False"):
            load_model(path)
        np.testing.assert_array_equal(
            load_model(path, safe_mode=False)(np.ones((1, 4))), np.full((1, 4), 2.0)
        )


def test_keras_3_classes_take_the_place_of_keras_2_classes(tmp_path):
    from tests.models.legacy_zoo import layers as old_layers
    from tests.models.legacy_zoo import save, tf_keras

    def scale_layer(base):
        def build(self, shape):
            self.fixed = self.add_weight(name="fixed", shape=(3,), initializer="ones", trainable=False)
            self.gain = self.add_weight(name="gain", shape=(3,), initializer="random_normal")

        def call(self, inputs):
            return inputs * self.gain + self.fixed

        return type("Scale", (base,), {"build": build, "call": call})

    old = tf_keras.Sequential(
        [old_layers.Input((8, 8, 3)), old_layers.DepthwiseConv2D(3), scale_layer(old_layers.Layer)()]
    )
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    for source in (old, *(save(old, tmp_path, form) for form in ("h5", "keras", "tf"))):
        with pytest.raises(ValueError, match=r"custom_objects=\{'Scale'"):
            load_model(source)
        new = load_model(source, custom_objects={"Scale": scale_layer(layers.Layer)})
        np.testing.assert_allclose(new(x), old(x), atol=1e-6)


@pytest.mark.slow
def test_loading_leaves_the_program_as_it_was(tmp_path):
    """In a fresh process: the order in which Keras 2 and 3 are first touched matters."""
    from tests.models.legacy_zoo import LEGACY_ZOO, save

    path = save(LEGACY_ZOO["convolutional"](), tmp_path, "h5")
    code = f"""
import logging, os, random, sys
from tfsqueeze.models.load import load_model
assert not {{"tf_keras", "tensorflow_model_optimization"}} & set(sys.modules)
import keras, tensorflow as tf
from absl import logging as absl_logging
def draw():
    return random.random(), float(tf.random.uniform(()))
keras.utils.set_random_seed(1); expected = draw(); keras.utils.set_random_seed(1)
before = absl_logging.get_verbosity(), tf.get_logger().level, logging.getLogger().level
load_model({path!r})
from tfsqueeze.models.legacy import import_tfmot
import_tfmot()
assert "tf_keras" in sys.modules and "tensorflow_model_optimization" in sys.modules
assert tf.keras.__version__.startswith("3") and "TF_USE_LEGACY_KERAS" not in os.environ
assert draw() == expected and keras.config.dtype_policy().name == "float32"
assert before == (absl_logging.get_verbosity(), tf.get_logger().level, logging.getLogger().level)
"""
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
