"""What is read from files, against what the Keras model is known to have."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.reporting.conftest import convert
from tests.zoo import ZOO
from tfsqueeze.reporting.keras_facts import keras_facts
from tfsqueeze.reporting.tflite_facts import float_names, tflite_facts
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.operators import is_integer_file


def test_weights_macs_and_memory_of_every_precision(contents, image_model):
    facts = {kind: tflite_facts(read(content)) for kind, content in contents.items()}
    # BatchNorm is folded into conv1, which gains its 6 biases and loses 24 numbers.
    parameters = image_model.count_params() - 24 + 6
    expected_macs = keras_facts(image_model).macs
    for kind, fact in facts.items():
        assert fact.parameters == parameters, kind
        assert fact.macs == expected_macs, kind
        assert fact.file_bytes == len(contents[kind])
        assert fact.gzip_bytes < fact.file_bytes
        assert not fact.notes
    assert facts[None].weight_bytes == 4 * parameters
    assert facts["float16"].weight_bytes == 2 * parameters
    biases = 6 + 8 + 4
    assert facts["int8"].weight_bytes == parameters - biases + 4 * biases
    # At conv1: the input, 8 x 8 x 3, beside its output, 8 x 8 x 6.
    assert facts[None].activation_bytes == 8 * 8 * 9 * 4


def test_operators_carry_their_types(contents):
    def types(kind):
        counts = tflite_facts(read(contents[kind])).operators
        return {(count.name, count.dtype, count.weights): count.count for count in counts}

    assert types(None)["CONV_2D", "float32", ""] == 2
    assert types("int8")["CONV_2D", "int8", ""] == 2
    assert types("int8")["FULLY_CONNECTED", "int8", ""] == 1


def test_float_operators_are_listed_for_integer_files_only(contents):
    assert not is_integer_file(read(contents[None]))
    assert float_names(read(contents[None])) == []
    assert is_integer_file(read(contents["int8"]))
    assert float_names(read(contents["int8"])) == []
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.ELU(), layers.Dense(4)])
    content = convert(model, "int8", np.random.default_rng(0).normal(size=(20, 8)).astype("float32"))
    assert [name.split()[0] for name in float_names(read(content))] == ["ELU"]


def test_zeros_are_counted_also_where_they_are_quantized(pruned_dense):
    data = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    for kind in (None, "float16", "int8"):
        (layer,) = tflite_facts(read(convert(pruned_dense, kind, data))).layers
        assert (layer.parameters, layer.nonzero) == (8, 3), kind
        assert layer.sparsity == 5 / 8
        assert layer.macs == 6


@pytest.mark.parametrize(
    "name", ["residual", "concat", "shared", "nested", "depthwise", "temporal", "decoder", "attention"]
)
def test_macs_agree_with_those_of_the_keras_model(name):
    model = ZOO[name]()
    facts = tflite_facts(read(convert(model)))
    assert facts.macs == keras_facts(model).macs
    assert facts.kind == "TFLite file"


def test_transposed_and_three_dimensional_convolutions():
    image = keras.Input((4, 4, 4, 2))
    x = layers.Conv3D(3, 2, padding="same")(image)
    x = layers.Conv3DTranspose(2, 2, strides=2, padding="same")(x)
    model = keras.Model(image, x)
    facts = tflite_facts(read(convert(model)))
    assert facts.macs == keras_facts(model).macs == 64 * 8 * 2 * 3 + 64 * 8 * 3 * 2


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_matrix_products_of_attention_are_counted(batch_size):
    sequence = keras.Input((6, 8), batch_size=batch_size)
    model = keras.Model(sequence, layers.MultiHeadAttention(2, 4)(sequence, sequence))
    projections = 4 * 6 * 8 * 8
    scores_and_values = 2 * 2 * 6 * 6 * 4
    assert tflite_facts(read(convert(model))).macs == projections + scores_and_values


def test_macs_are_per_example_for_a_fixed_batch():
    model = keras.Sequential([keras.Input((5,), batch_size=4), layers.Dense(3)])
    assert tflite_facts(read(convert(model))).macs == 15


def test_shapes_that_are_computed_in_the_file_are_followed():
    image = keras.Input((4, 6, 3))
    x = layers.Concatenate()([layers.UpSampling2D()(layers.MaxPooling2D()(image)), image])
    model = keras.Model(image, layers.Conv2D(2, 3)(layers.ReLU()(x)))
    file = read(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    assert any(-1 in tensor.shape[1:] for tensor in file.main.tensors)
    facts = tflite_facts(file)
    assert facts.macs == keras_facts(model).macs == 2 * 4 * 9 * 6 * 2
    assert facts.activation_bytes


def test_free_axes_leave_macs_unknown_and_say_so():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)])
    facts = tflite_facts(read(convert(model)))
    assert facts.macs is None and facts.activation_bytes is None
    assert "free axes" in facts.notes[0]
    assert facts.parameters == 56
