"""The exported file computes what the model computed in training, without calibration data."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsqueeze as tfs
from tests.quantization.test_aware import data_of
from tests.zoo import GRAPH_ZOO, ZOO
from tfsqueeze.core.data import collect, input_specs, pack_inputs
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.runner import Runner

FAST = ("concat", "depthwise", "attention")
FLOAT_INSIDE = ("temporal", "recurrent", "attention")


def steps_apart(qat, path, data):
    """How many steps of the output's grid the file is from the model, and both outputs, by output."""
    runner = Runner(path)
    inputs = collect(data, input_specs(qat)).inputs
    received = runner.run(inputs)
    expected = [np.asarray(y) for y in keras.tree.flatten(qat(pack_inputs(qat, inputs), training=False))]
    main = runner.file.main
    for port, array in zip(runner.outputs, expected, strict=True):
        (last,) = [operator for operator in main.operators if port.index in operator.outputs]
        step = main.tensors[last.inputs[0]].scale[0]
        yield np.round(np.abs(received[port.name] - array) / step), received[port.name], array


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in GRAPH_ZOO],
)
def test_the_file_agrees_with_the_model(name, tmp_path):
    model = ZOO[name]()
    data = data_of(model, 256)
    qat = tfs.quantize_aware(model, data=data)
    result = tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
    assert not result.float_ops or name in FLOAT_INSIDE
    for steps, received, expected in steps_apart(qat, result.path, data):
        assert (steps <= 1).mean() > 0.94
        assert (received.argmax(-1) == expected.argmax(-1)).mean() >= 0.995


def rows():
    """Reshapes at the end of a convolution or product part it from what follows."""
    sequence = keras.Input((16, 3))
    x = layers.Conv1D(6, 3, dilation_rate=2, padding="causal")(sequence)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Activation("relu")(layers.BatchNormalization()(layers.Dense(5)(x)))
    x = layers.BatchNormalization()(layers.SeparableConv1D(6, 3)(x))
    return keras.Model(sequence, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def normalised():
    """Affine layers that no kernel takes in."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3)(layers.Rescaling(0.5, offset=-0.5)(image))
    y = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(6, 3, padding="same")(y)])
    x = layers.Flatten()(ops.relu(layers.BatchNormalization()(x)))
    x = layers.PReLU()(layers.BatchNormalization()(layers.Dense(8)(x)))
    return keras.Model(image, layers.Dense(3, activation="softmax")(layers.BatchNormalization()(x)))


def gated():
    """Concatenations of nested, pooled, fixed and raw ranges; gates; activations apart from their kernels."""
    image = keras.Input((8, 8, 3))
    encoded = keras.Sequential([layers.Conv2D(4, 3, padding="same"), layers.ReLU()], name="encoder")(image)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(layers.MaxPooling2D()(encoded))
    x = layers.UpSampling2D()(x)
    x = layers.Concatenate()([x, encoded, image, layers.Conv2D(4, 1, activation="sigmoid")(x)])
    x = layers.Conv2D(4, 3, activation="hard_silu")(x)
    x = layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(x)])
    x = ops.concatenate([x, ops.max(x, axis=-1, keepdims=True)], -1)
    return keras.Model(image, layers.Conv2D(2, 1)(x))


def attending():
    """Attention with a mask and dropout, on looked-up vectors."""
    tokens = keras.Input((10,), dtype="int32")
    x = layers.Embedding(20, 8)(tokens)
    x = layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x, use_causal_mask=True)
    return keras.Model(tokens, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def upsampled():
    """Dilated convolutions must keep their normalisation; the output has the range of what gives it."""
    image = keras.Input((12, 16, 3))
    x = layers.Conv2D(4, 3, padding="same", dilation_rate=2, use_bias=False)(layers.Rescaling(0.5)(image))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, dilation_rate=(1, 3), activation="tanh")(x))
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, depth_multiplier=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    scores = layers.Conv2D(2, 1, name="scores")(layers.MaxPooling2D()(x))
    return keras.Model(image, layers.UpSampling2D(interpolation="bilinear", name="classes")(scores))


@pytest.mark.parametrize(
    "build",
    [normalised, upsampled, *(pytest.param(f, marks=pytest.mark.slow) for f in (rows, gated, attending))],
)
def test_every_operator_is_integer(build, tmp_path):
    model = build()
    for variable in model.weights:
        if variable.name in ("moving_variance", "gamma", "moving_mean", "beta"):
            variable.assign(np.random.default_rng(1).uniform(0.5, 1.5, variable.shape))
    data = data_of(model, 64)
    qat = tfs.quantize_aware(model, data=data)
    result = tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
    assert not result.float_ops
    assert list(result.outputs) == model.output_names
    ((steps, received, expected),) = steps_apart(qat, result.path, data)
    assert (steps <= 1).mean() > 0.94
    assert (received.argmax(-1) == expected.argmax(-1)).mean() >= 0.98


def test_integer_inputs_and_outputs_are_honoured(tmp_path):
    model = ZOO["residual"]()
    qat = tfs.quantize_aware(model, data=data_of(model))
    tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8", io_dtype="int8")
    types = {tensor.dtype for tensor in read(tmp_path / "qat.tflite").main.tensors}
    assert types <= {"INT8", "INT32"}


def test_other_variants_are_made_of_the_plain_model(tmp_path):
    model = ZOO["sequential"]()
    qat = tfs.quantize_aware(model, data=data_of(model))
    results = tfs.export_variants(qat, tmp_path, [None, "int8"])
    assert results["int8"].bytes < results["float32"].bytes
    assert not {t.dtype for t in read(results["float32"].path).main.tensors} & {"INT8"}
    with pytest.raises(ValueError, match="needs `representative_data`"):
        tfs.export_tflite(qat, tmp_path / "x.tflite", quantize="int16x8")


def test_untrained_and_broken_ranges_are_told(tmp_path):
    model = ZOO["shared"]()
    qat = tfs.quantize_aware(model)
    with pytest.warns(UserWarning, match="never trained"):
        tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
    quantizer = qat.get_layer("head")
    quantizer.maximum.assign([np.nan])
    with pytest.raises(ValueError, match=r"'head'.*NaN"):
        tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")


def standardized(normalization, channels=3):
    image = keras.Input((8, 8, channels))
    x = layers.Conv2D(4, 3, activation="relu")(normalization(image))
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize(
    "options",
    [
        {"axis": None, "mean": 2.0, "variance": 9.0},
        {"mean": [1.0, 2.0, 3.0], "variance": [1.0, 4.0, 9.0], "invert": True},
        {"mean": [1.0, 2.0, 3.0], "variance": [1.0, 0.0, 9.0]},
    ],
    ids=["scalar", "inverted", "constant_feature"],
)
def test_normalization_is_integer_whatever_its_form(options, tmp_path):
    model = standardized(layers.Normalization(**options))
    data = np.random.default_rng(0).normal(2, 3, (64, 8, 8, 3)).astype("float32")
    if options["variance"] == [1.0, 0.0, 9.0]:
        data[..., 1] = 2.0
    quantized = tfs.calibrate(model, data)
    result = tfs.export_tflite(quantized, tmp_path / "q.tflite", quantize="int8", representative_data=data)
    assert not result.float_ops
    expected = model.predict(data, verbose=0)
    (received,) = Runner(result.path).run(collect(data, input_specs(model)).inputs).values()
    assert np.square(received - expected).mean() < 1e-3 * np.square(expected).mean()
