"""Small models and the files TensorFlow's own converter makes of them, built once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.zoo import ZOO

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(40, 8, 8, 3)).astype("float32")
CLASSES = rng.integers(0, 4, 40)


def convert(model, quantize=None, data=IMAGES):
    """The bytes of a `.tflite` file, straight from the converter."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        converter.representative_dataset = lambda: ([sample[None]] for sample in data)
    return converter.convert()


@pytest.fixture(scope="session")
def image_model():
    return ZOO["sequential"]()


@pytest.fixture(scope="session")
def contents(image_model):
    """The same model as float32, float16, dynamic-range and int8 files."""
    return {kind: convert(image_model, kind) for kind in (None, "float16", "dynamic", "int8")}


@pytest.fixture(scope="session")
def files(contents, tmp_path_factory):
    """Paths of the float32 and int8 files by name."""
    folder = tmp_path_factory.mktemp("files")
    paths = {"float": folder / "float.tflite", "int8": folder / "int8.tflite"}
    paths["float"].write_bytes(contents[None])
    paths["int8"].write_bytes(contents["int8"])
    return paths


@pytest.fixture
def pruned_dense():
    """A dense layer of 6 weights and 2 biases, of which 4 weights and 1 bias are zero."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="pruned")
    model.layers[0].set_weights([np.array([[0, 1], [0, 0], [0, 2]], "float32"), np.array([0, 3], "float32")])
    return model
