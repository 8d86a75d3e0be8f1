"""Contracts of `export_tflite` on the zoo: parity, names, dtypes in the file, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.export.tflite import export_tflite, export_variants
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.runner import Runner


def classifier(name="classifier"):
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    x = layers.Conv2D(6, 3, activation="relu", name="conv2")(x)
    x = layers.Flatten()(x)
    return keras.Model(image, layers.Dense(4, activation="softmax", name="scores")(x), name=name)


def images(count=40, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ZOO)
def test_float_file_equals_the_model(name, tmp_path):
    model = ZOO[name]()
    result = export_tflite(model, tmp_path / "m.tflite", representative_data=zoo_inputs(model, 6))
    assert result.max_error < 1e-5
    assert result.bytes == (tmp_path / "m.tflite").stat().st_size
    assert not result.select_ops
    assert read(tmp_path / "m.tflite").has_checksum


QUICK = ("sequential", "shared", "multi_output", "subclassed")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ZOO if name not in (*QUICK, "recurrent")]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_int8_file_matches_the_model(name, tmp_path):
    model = ZOO[name]()
    result = export_tflite(
        model, tmp_path / "m.tflite", quantize="int8", representative_data=zoo_inputs(model, 32)
    )
    assert result.snr_db > 20
    assert set(result.float_ops) <= {"NEG"}
    assert len(result.candidates) >= 2


@pytest.mark.parametrize(
    ("quantize", "io_dtype", "weights"),
    [
        ("float16", "float32", "FLOAT16"),
        ("dynamic", "float32", "INT8"),
        ("int8", "int8", "INT8"),
        ("int8", "uint8", "INT8"),
        ("int16x8", "int16", "INT8"),
        ("int4", "float32", "INT4"),
    ],
)
def test_stored_types_are_what_was_asked_for(quantize, io_dtype, weights, tmp_path):
    result = export_tflite(
        classifier(),
        tmp_path / "m.tflite",
        quantize=quantize,
        io_dtype=io_dtype,
        representative_data=images(),
    )
    file = read(tmp_path / "m.tflite")
    assert result.inputs == {"image": io_dtype} and result.outputs == {"scores": io_dtype}
    assert any(tensor.is_constant and tensor.dtype == weights for tensor in file.main.tensors)
    if quantize in ("int8", "int16x8"):
        assert not result.float_ops
        assert not any(tensor.dtype == "FLOAT32" for tensor in file.main.tensors)


def test_runner_gives_what_predict_gives(tmp_path):
    model, x = classifier(), images(5, seed=1)
    export_tflite(model, tmp_path / "m.tflite")
    outputs = Runner(tmp_path / "m.tflite").run({"image": x})
    np.testing.assert_allclose(outputs["scores"], model.predict(x, verbose=0), atol=1e-5)


def test_flatten_does_not_compute_its_shape(tmp_path):
    export_tflite(classifier(), tmp_path / "m.tflite")
    names = [operator.name for operator in read(tmp_path / "m.tflite").main.operators]
    assert names == ["CONV_2D", "CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]


def test_names_survive_that_tensorflow_would_change(tmp_path):
    inputs = {"my a": keras.Input((4,), name="my a"), "b-in": keras.Input((3,), name="b-in")}
    x = layers.Concatenate()(list(inputs.values()))
    outputs = {"kind": layers.Dense(3)(x), "z.score": layers.Dense(1)(x)}
    model = keras.Model(inputs, outputs)
    result = export_tflite(model, tmp_path / "m.tflite")
    signature = read(tmp_path / "m.tflite").signature
    assert set(signature.inputs) == set(result.inputs) == {"my a", "b-in"}
    assert set(signature.outputs) == set(result.parity) == {"kind", "z.score"}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_exported_as_float32(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier()
    finally:
        keras.config.set_dtype_policy("float32")
    result = export_tflite(model, tmp_path / "m.tflite")
    assert result.max_error < 1e-5 and "exported as float32" in " ".join(result.notes)
    assert {tensor.dtype for tensor in read(tmp_path / "m.tflite").main.tensors} <= {"FLOAT32", "INT32"}
    assert model.get_layer("conv").dtype_policy.name == policy


def test_recurrent_model_gets_batch_one_and_a_note(tmp_path):
    model = ZOO["recurrent"]()
    result = export_tflite(model, tmp_path / "m.tflite")
    assert result.batch_size == 1
    assert "batch size 1" in result.notes[0]


def test_int8_of_an_unrolled_recurrent_layer(tmp_path):
    steps = keras.Input((5, 4))
    model = keras.Model(steps, layers.Dense(3)(layers.LSTM(6, unroll=True)(steps)))
    data = np.random.default_rng(0).normal(size=(30, 5, 4)).astype(np.float32)
    result = export_tflite(model, tmp_path / "m.tflite", quantize="int8", representative_data=data)
    assert result.snr_db > 25 and not result.float_ops


@pytest.mark.slow
def test_int8_of_a_rolled_recurrent_layer_is_an_error_and_not_a_crash(tmp_path):
    steps = keras.Input((5, 4))
    model = keras.Model(steps, layers.LSTM(6, name="memory")(steps))
    data = np.random.default_rng(0).normal(size=(30, 5, 4)).astype(np.float32)
    with pytest.raises(UnsupportedModelError, match=r"'memory' \(LSTM\).*unroll=True.*dynamic"):
        export_tflite(model, tmp_path / "m.tflite", quantize="int8", representative_data=data)


def test_fixed_batch(tmp_path):
    result = export_tflite(classifier(), tmp_path / "m.tflite", batch_size=2)
    assert result.batch_size == 2
    assert Runner(tmp_path / "m.tflite").run({"image": images(3)})["scores"].shape == (3, 4)


def test_saved_model_without_keras(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(np.eye(3, dtype=np.float32) * 2)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="features")])
    def serve(features):
        return {"doubled": features @ module.weight}

    module.serve = serve
    tf.saved_model.save(module, str(tmp_path / "folder"), signatures=serve)
    result = export_tflite(tmp_path / "folder", tmp_path / "m.tflite")
    assert result.inputs == {"features": "float32"} and list(result.parity) == ["doubled"]
    assert result.max_error < 1e-6


def test_saved_keras_file(tmp_path):
    classifier().save(tmp_path / "m.keras")
    assert export_tflite(tmp_path / "m.keras", tmp_path / "m.tflite").max_error < 1e-5


def test_variants_share_one_trace(tmp_path):
    results = export_variants(classifier(), tmp_path, [None, "dynamic", "int8"], representative_data=images())
    assert set(results) == {"float32", "dynamic", "int8"}
    assert results["int8"].bytes < results["float32"].bytes
    assert {path.name for path in tmp_path.iterdir()} == {"float32.tflite", "dynamic.tflite", "int8.tflite"}


def test_the_model_in_training_is_left_as_it_is(tmp_path):
    model = classifier()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = images(8), np.arange(8) % 4
    model.fit(x, y, verbose=0)
    before, optimizer = model.get_weights(), model.optimizer
    export_tflite(model, tmp_path / "m.tflite", quantize="dynamic")
    assert all(map(np.array_equal, before, model.get_weights())) and model.optimizer is optimizer
    model.fit(x, y, verbose=0)


def test_nothing_but_the_file_is_left_and_nothing_is_printed(tmp_path, capfd):
    export_tflite(classifier(), tmp_path / "m.tflite", quantize="int8", representative_data=images())
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "fully_quantize" not in captured.err and "artifact" not in captured.err


def test_result_prints_and_converts(tmp_path):
    result = export_tflite(classifier(), tmp_path / "m.tflite", quantize="int8", representative_data=images())
    text = str(result)
    assert f"{result.bytes:,} bytes" in text and "SNR" in text and "image float32" in text
    assert result.to_dict()["parity"]["scores"]["top1"] == result.parity["scores"].top1


@pytest.mark.parametrize("backend", ["converter", "litert-quantizer"])
def test_a_backend_can_be_chosen(backend, tmp_path):
    result = export_tflite(
        classifier(), tmp_path / "m.tflite", quantize="int8", backend=backend, representative_data=images()
    )
    assert result.backend == backend and result.snr_db > 20


def test_a_feature_that_never_varied_does_not_drown_the_others(tmp_path):
    table = np.random.default_rng(0).normal(5, 2, (64, 4)).astype("float32")
    table[:, 1] = 3.1
    normalization = layers.Normalization(name="norm")
    normalization.adapt(table)
    rows = [keras.Input((4,)), normalization, layers.Dense(8, activation="relu"), layers.Dense(3)]
    model = keras.Sequential(rows)
    results = export_variants(model, tmp_path, [None, "int8"], representative_data=table)
    assert results["int8"].snr_db > 25
    assert results["int8"].notes == ["Features that never varied are not scaled up: {'norm': [1]}."]
    assert results["float32"].max_error < 1e-5
    assert not results["float32"].notes


def test_up_sampling_leaves_no_shapes_to_compute(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(layers.Conv2D(4, 3, padding="same")(image))
    x = layers.Concatenate()([layers.UpSampling2D()(x), image])
    model = keras.Model(image, layers.Conv2D(2, 3)(x))
    result = export_tflite(model, tmp_path / "m.tflite", quantize="int8", representative_data=images())
    graph = read(result.path).main
    assert not {"SHAPE", "STRIDED_SLICE"} & {operator.name for operator in graph.operators}
    assert all(-1 not in tensor.shape[1:] for tensor in graph.tensors)
    assert result.snr_db > 25
