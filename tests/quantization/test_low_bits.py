"""Low-bit weights in files: packed where a kernel reads them, and computing what the model computed."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.quantization.test_aware import data_of
from tests.quantization.test_export import steps_apart
from tfsqueeze.tflite.file import read


def net():
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    x = layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(x)
    x = layers.Conv2DTranspose(6, 3, activation="relu", name="transposed")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="relu", name="dense")(x)
    return keras.Model(image, layers.Dense(4, name="head")(x), name="net")


def stored_types(path):
    main = read(path).main
    names = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
    return [(o.name, main.tensors[o.inputs[1]].dtype) for o in main.operators if o.name in names]


@pytest.mark.parametrize(
    ("preset", "dense"),
    [
        ("int4", "INT4"),
        ("ternary", "INT2"),
        pytest.param("binary", "INT2", marks=pytest.mark.slow),
    ],
)
def test_weights_are_packed_where_kernels_read_them(preset, dense, tmp_path):
    model = net()
    data = data_of(model, 128)
    qat = tfs.quantize_aware(model, preset, data=data)
    result = tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
    assert stored_types(result.path) == [
        ("CONV_2D", "INT8"),
        ("DEPTHWISE_CONV_2D", "INT4"),
        ("TRANSPOSE_CONV", "INT8"),
        ("FULLY_CONNECTED", dense),
        ("FULLY_CONNECTED", "INT8"),
    ]
    assert any("TRANSPOSE_CONV" in note and "if packed" in note for note in result.notes)
    ((steps, received, expected),) = steps_apart(qat, result.path, data)
    assert (steps <= 1).mean() > 0.9
    assert (received.argmax(-1) == expected.argmax(-1)).mean() >= 0.98
    baked = qat.get_layer("dense").baked()["kernel"]
    main = read(result.path).main
    kernels = [main.tensors[o.inputs[1]] for o in main.operators if o.name == "FULLY_CONNECTED"]
    (kernel,) = [tensor for tensor in kernels if tensor.dtype == dense]
    np.testing.assert_allclose(kernel.values() * kernel.scale[:, None], baked.T, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_eight_bit_weights_are_left_alone(tmp_path):
    model = net()
    qat = tfs.quantize_aware(model, data=data_of(model))
    result = tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
    assert {dtype for _, dtype in stored_types(result.path)} == {"INT8"}
    assert not result.notes
