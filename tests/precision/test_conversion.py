"""Models in another precision."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, residual, zoo_inputs, zoo_targets


def flat(outputs):
    return [np.asarray(output, "float32") for output in keras.tree.flatten(outputs)]


def assert_close(first, second, tolerance):
    for one, other in zip(flat(first), flat(second), strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)


@pytest.mark.parametrize("name", ZOO)
def test_there_and_back(name, tmp_path):
    model = ZOO[name]()
    x = zoo_inputs(model)
    half = tfs.with_precision(model, "bfloat16")
    assert "bfloat16" in {layer.compute_dtype for layer in half._flatten_layers(include_self=False)}
    assert {variable.dtype for variable in model.weights} == {variable.dtype for variable in half.weights}
    assert all(output.dtype == "float32" for output in keras.tree.flatten(half(x)))
    assert_close(half(x), model(x), 0.02)
    back = tfs.with_precision(half, "float32")
    assert {layer.compute_dtype for layer in back._flatten_layers()} <= {"float32", "int32"}
    assert_close(back(x), model(x), 0)
    half.save(tmp_path / "half.keras")
    assert_close(
        keras.models.load_model(tmp_path / "half.keras")(x), half(x), 0.02 if name == "subclassed" else 0
    )


@pytest.mark.parametrize("name", ["sequential", "multi_output", "subclassed"])
def test_it_trains_and_the_way_back_keeps_what_was_learned(name):
    model = ZOO[name]()
    x, y = zoo_inputs(model, 8), zoo_targets(model, 8)
    model.compile(keras.optimizers.SGD(0.01), "mse", steps_per_execution=2)
    half = tfs.with_precision(model, "bfloat16")
    before = half.get_weights()
    half.fit(x, y, batch_size=4, verbose=0)
    assert any(not np.array_equal(a, b) for a, b in zip(before, half.get_weights(), strict=True))
    back = tfs.with_precision(half, "float32")
    for a, b in zip(half.get_weights(), back.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert_close(back(x), half(x), 0.05)


def test_it_trains_under_a_strategy(mirrored):
    with mirrored.scope():
        model = residual()
        model.compile("sgd", "mse")
        half = tfs.with_precision(model, "bfloat16")
    half.fit(zoo_inputs(model, 8), zoo_targets(model, 8), batch_size=4, verbose=0)
    assert np.isfinite(half.get_weights()[0]).all()


@pytest.mark.filterwarnings("ignore:float16 is many times slower")
def test_float16_scales_the_loss_also_after_loading(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8), layers.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"])
    half = tfs.with_precision(model, "float16")
    assert isinstance(half.optimizer, keras.optimizers.LossScaleOptimizer)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer)
    loaded.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
    assert isinstance(tfs.with_precision(half, "float32").optimizer, keras.optimizers.Adam)


def test_operations_at_the_end_are_cast_and_inputs_stay_exact():
    tokens = keras.Input((3,), name="tokens")
    x = layers.Embedding(1000, 4)(tokens)
    model = keras.Model(tokens, keras.ops.mean(layers.Dense(4)(x), axis=1) * 3.0)
    half = tfs.with_precision(model, "bfloat16")
    assert half.output.dtype == "float32"
    # 999 has no bfloat16 of its own: rounded ids would look up other rows, or none.
    ids = np.array([[997.0, 999.0, 1.0]], "float32")
    assert_close(half(ids), model(ids), 0.02)


def test_inputs_are_prepared_in_float32():
    model = keras.Sequential(
        [keras.Input((2,)), layers.Normalization(mean=1e6, variance=1.0), layers.Dense(4), layers.Dense(1)]
    )
    half = tfs.with_precision(model, "bfloat16")
    x = np.array([[1e6 + 1, 1e6 - 1]])
    assert_close(half(x), model(x), 0.02)
    assert "prepares inputs" in tfs.explain(half).skipped["normalization"]


def test_select_and_wrapped_layers():
    model = ZOO["recurrent"]()
    half = tfs.with_precision(model, "bfloat16", select=tfs.Select(skip="gru"))
    both = half.get_layer("both_ways")
    assert {both.forward_layer.cell.compute_dtype, both.backward_layer.cell.compute_dtype} == {"bfloat16"}
    assert half.get_layer("gru").cell.compute_dtype == "float32"
    assert tfs.explain(half).skipped["gru/gru_cell"] == "left out by `skip`"
    with pytest.raises(ValueError, match="matches no layer: 'gro'"):
        tfs.with_precision(model, "bfloat16", select="gro")


@keras.saving.register_keras_serializable(package="test_precision")
class OnlyFloat32(layers.Layer):
    """Multiplies by a constant of a fixed dtype."""

    def call(self, inputs):
        return inputs * keras.ops.convert_to_tensor(np.float32(2)) if inputs.dtype == "float32" else 1 / 0


def test_own_layers_that_fail_in_half_stay_in_float32():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), OnlyFloat32(), layers.Dense(2)])
    half = tfs.with_precision(model, "bfloat16")
    assert [layer.compute_dtype for layer in half.layers] == ["bfloat16", "float32", "float32"]
    assert "a layer of your own" in tfs.explain(half).skipped["only_float32"]


def test_layers_that_others_make_are_paired_whatever_their_names():
    sequence = keras.Input((4, 8))
    x = layers.MultiHeadAttention(2, 4)(sequence, sequence)
    layers.Softmax()
    model = keras.Model(sequence, layers.Dense(2)(layers.MultiHeadAttention(2, 4)(x, x)))
    half = tfs.with_precision(model, "bfloat16")
    parts = [part for part in half._flatten_layers() if "softmax" in part.name]
    assert {part.compute_dtype for part in parts} == {"bfloat16"} and len(parts) == 2
    assert tfs.find_overflows(model, np.ones((2, 4, 8), "float32")) == {}


def test_export_after_the_way_back(tmp_path):
    model = ZOO["depthwise"]()
    half = tfs.with_precision(model, "bfloat16")
    result = tfs.export_tflite(tfs.with_precision(half, "float32"), tmp_path / "model.tflite")
    assert result.max_error < 1e-5
