import keras
import numpy as np
import pytest
from keras import layers

from tfsqueeze.export.localize import first_mismatch, largest_drops, layer_of
from tfsqueeze.export.parity import output_parity, snr_db
from tfsqueeze.export.quiet import quiet
from tfsqueeze.export.tflite import export_tflite


def test_snr_by_hand():
    signal = np.array([3.0, 4.0])
    assert snr_db(signal, np.array([0.5, 0.0])) == pytest.approx(20.0)
    assert snr_db(signal, np.zeros(2)) == 200
    assert snr_db(np.zeros(2), np.ones(2)) == -200


def test_output_parity_by_hand():
    expected = np.array([[0.1, 0.9], [0.8, 0.2]])
    received = np.array([[0.6, 0.4], [0.8, 0.2]])
    parity = output_parity("scores", expected, received)
    assert parity.max_error == pytest.approx(0.5)
    assert parity.top1 == 0.5
    assert "top-1 agreement 50.0%" in str(parity)


def test_single_values_have_no_top1():
    assert output_parity("y", np.ones((3, 1)), np.ones((3, 1))).top1 is None


def test_nan_is_an_error_unless_the_model_gives_it_too():
    expected = np.array([[1.0, np.inf], [2.0, 3.0]])
    assert output_parity("y", expected, expected).max_error == 0
    with pytest.raises(ValueError, match=r"Output 'y'.*NaN or infinity where the model has none"):
        output_parity("y", expected, np.array([[1.0, 1.0], [np.nan, 3.0]]))


def test_other_shape_is_an_error():
    with pytest.raises(ValueError, match=r"has shape \(2, 3\), but the model gives \(2, 2\)"):
        output_parity("y", np.ones((2, 2)), np.ones((2, 3)))


def chain(scale=1.0):
    inputs = keras.Input((6,), name="x")
    x = layers.Dense(5, activation="tanh", name="first")(inputs)
    x = layers.Dense(4, activation="sigmoid", name="second")(x)
    model = keras.Model(inputs, layers.Dense(2, name="third")(x), name="chain")
    keras.utils.set_random_seed(1)
    model.set_weights(
        [np.random.default_rng(i).normal(size=w.shape) for i, w in enumerate(model.get_weights())]
    )
    model.get_layer("second").set_weights([w * scale for w in model.get_layer("second").get_weights()])
    return model


def test_the_layer_where_a_float_file_departs_is_found(tmp_path):
    x = {"x": np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)}
    export_tflite(chain(scale=2.0), tmp_path / "other.tflite")
    assert first_mismatch(chain(), tmp_path / "other.tflite", x)[0] == "second"
    export_tflite(chain(), tmp_path / "same.tflite")
    assert first_mismatch(chain(), tmp_path / "same.tflite", x) == []


def test_the_operator_that_loses_most_is_found(tmp_path):
    x = {"x": np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)}
    export_tflite(chain(), tmp_path / "a.tflite")
    export_tflite(chain(scale=2.0), tmp_path / "b.tflite")
    drops = largest_drops(tmp_path / "b.tflite", tmp_path / "a.tflite", x)
    names = [layer_of(name, chain()) for name, ratio in drops if ratio < 60]
    assert names[0] == "second" and "first" not in names


def test_quiet_collects_all_output_and_restores_it(capfd):
    with quiet() as chatter:
        print("chatter")
    print("heard")
    assert "chatter" in chatter.text
    assert capfd.readouterr().out == "heard\n"
