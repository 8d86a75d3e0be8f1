"""What a user can get wrong when exporting, and the operations that cannot be exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.export.test_tflite import classifier, images
from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.export import exporter
from tfsqueeze.export.tflite import export_tflite


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    """An operation that runs Python, which no file can hold."""

    def call(self, inputs):
        result = tf.numpy_function(lambda array: array * 2, [inputs], tf.float32)
        result.set_shape(inputs.shape)
        return result


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, r'needs `representative_data`.*quantize="dynamic"'),
        (np.zeros((4, 8, 8, 3), np.float32), "all zeros"),
        (np.full((4, 8, 8, 3), np.nan, np.float32), r"must be finite.*4 of 4 examples"),
        (np.full((4, 8, 8, 3), np.inf, np.float32), "must be finite"),
        (np.ones((4, 8, 8, 1), np.float32), r"must have shape \(n, 8, 8, 3\).*Received: \(4, 8, 8, 1\)"),
        (np.ones((0, 8, 8, 3), np.float32), "empty"),
        ([], "empty"),
    ],
)
def test_calibration_data_is_checked_before_the_converter_sees_it(data, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_tflite(classifier(), tmp_path / "m.tflite", quantize="int8", representative_data=data)
    assert not list(tmp_path.iterdir())


def test_text_as_calibration_data(tmp_path):
    with pytest.raises(TypeError, match="must be numeric"):
        data = np.full((4, 8, 8, 3), "a")
        export_tflite(classifier(), tmp_path / "m.tflite", quantize="int8", representative_data=data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int9"}, "Did you mean 'int8'"),
        ({"backend": "onnx"}, "`backend` must be one of"),
        ({"io_dtype": "int8"}, "goes with io_dtype 'float32'.*use quantize='int8'"),
        ({"quantize": "float16", "io_dtype": "uint8"}, "goes with io_dtype 'float32'"),
        ({"quantize": "int8", "io_dtype": "int16"}, "use quantize='int16x8'"),
        ({"quantize": "int4", "backend": "converter"}, "no 4-bit weights"),
        ({"batch_size": 0}, "`batch_size` must be a number > 0"),
    ],
)
def test_options_that_do_not_fit(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_tflite(classifier(), tmp_path / "m.tflite", representative_data=images(), **options)


def test_unwritable_targets_are_refused_first(tmp_path):
    with pytest.raises(ValueError, match="Received a folder"):
        export_tflite(classifier(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Cannot write"):
        export_tflite(classifier(), tmp_path / "file" / "m.tflite")


def test_unbuilt_model_and_no_model(tmp_path):
    class Unbuilt(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(UnsupportedModelError, match=r"needs a built model.*model.build"):
        export_tflite(Unbuilt(), tmp_path / "m.tflite")
    with pytest.raises((TypeError, ValueError)):
        export_tflite(42, tmp_path / "m.tflite")


def test_unsupported_operation_names_the_layer(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(Doubled(name="in_python")(inputs)))
    with pytest.raises(UnsupportedModelError, match=r"tf.PyFunc.*in_python"):
        export_tflite(model, tmp_path / "m.tflite")


def test_select_operators_are_reported_or_refused(tmp_path):
    inputs = keras.Input((4, 4))
    positive = layers.Lambda(
        lambda t: tf.linalg.cholesky(t @ tf.transpose(t, [0, 2, 1]) + tf.eye(4)), name="root"
    )
    model = keras.Model(inputs, layers.Dense(2)(positive(inputs)))
    result = export_tflite(model, tmp_path / "m.tflite")
    assert result.select_ops == ["Cholesky"] and "Flex delegate" in str(result)
    with pytest.raises(UnsupportedModelError, match=r"tf.Cholesky.*allow_select_ops=True"):
        export_tflite(model, tmp_path / "m.tflite", allow_select_ops=False)


def test_strings_are_refused(tmp_path):
    text = keras.Input((1,), dtype="string")
    vectorize = layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3)
    model = keras.Model(text, layers.Embedding(10, 4)(vectorize(text)))
    with pytest.raises(UnsupportedModelError, match="takes strings"):
        export_tflite(model, tmp_path / "m.tflite")


def test_float_operators_contradict_integer_ends(tmp_path):
    volume = keras.Input((4, 6, 6, 2))
    x = layers.GlobalAveragePooling3D()(layers.Conv3D(3, 3, name="volume")(volume))
    model = keras.Model(volume, layers.Dense(2)(x))
    data = np.random.default_rng(0).normal(size=(20, 4, 6, 6, 2)).astype(np.float32)
    options = {"quantize": "int8", "io_dtype": "int8", "representative_data": data}
    with pytest.raises(ValueError, match=r"full-integer.*CONV_3D x1.*allow_float=True"):
        export_tflite(model, tmp_path / "m.tflite", **options)
    result = export_tflite(model, tmp_path / "m.tflite", allow_float=True, **options)
    assert result.float_ops == {"CONV_3D": 1}


def test_a_failed_export_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"old")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Doubled()(inputs))
    with pytest.raises(UnsupportedModelError):
        export_tflite(model, path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.tflite"]


@pytest.mark.parametrize("quantize", ["int8", "dynamic"])
def test_a_poor_match_warns_and_names_layers(quantize, tmp_path, monkeypatch):
    monkeypatch.setitem(exporter._LEAST_SNR_DB, quantize, 300)
    with pytest.warns(UserWarning, match="matches the model poorly.*Most is lost at.*'conv'"):
        export_tflite(classifier(), tmp_path / "m.tflite", quantize=quantize, representative_data=images())
