"""Quantization-aware training: what is rounded, what is kept, and that it trains, saves and goes back."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, ZOO, zoo_inputs, zoo_targets
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.measuring import activation_quantizers
from tfsqueeze.quantization.wrapper import QuantizedLayer

TRAINED = ("multi_output",)


def compiled(model, **options):
    loss = {"kind": "mse", "score": "mae"} if model.name == "multi_output" else "mse"
    model.compile("adam", loss, **options)
    return model


def data_of(model, count=32):
    inputs = zoo_inputs(model, count)
    return (inputs,) if isinstance(inputs, list) else inputs


def outputs(model, inputs):
    return [np.asarray(y) for y in keras.tree.flatten(model(inputs))]


def wrapped(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, QuantizedLayer)]


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_every_model_is_quantized_saves_and_goes_back(name, tmp_path):
    model = compiled(ZOO[name]())
    inputs = zoo_inputs(model, 32)
    before = [weight.numpy() for weight in model.weights]
    qat = tfs.quantize_aware(model, data=data_of(model))
    for old, new in zip(outputs(model, inputs), outputs(qat, inputs), strict=True):
        assert np.abs(old - new).max() < 0.05 * np.abs(old).max()

    qat.save(tmp_path / "qat.keras")
    loaded = keras.models.load_model(tmp_path / "qat.keras")
    for old, new in zip(outputs(qat, inputs), outputs(loaded, inputs), strict=True):
        np.testing.assert_array_equal(old, new)
    assert getattr(loaded, "output_names", None) == getattr(model, "output_names", None)

    plain = tfs.strip_quantization(qat)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in model.layers]
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


@pytest.mark.parametrize(
    "name",
    [name if name in TRAINED else pytest.param(name, marks=pytest.mark.slow) for name in GRAPH_ZOO],
)
def test_every_model_trains(name):
    model = compiled(ZOO[name]())
    inputs, targets = zoo_inputs(model, 16), zoo_targets(model, 16)
    qat = tfs.quantize_aware(model)
    before = [kernel.numpy() for layer in wrapped(qat) for _, kernel in layer.kernels()]
    history = qat.fit(inputs, targets, epochs=2, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = [kernel.numpy() for layer in wrapped(qat) for _, kernel in layer.kernels()]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))
    assert all(quantizer.is_trained for quantizer in activation_quantizers(qat))


def test_weights_are_on_their_grids_and_strip_bakes_them():
    model = ZOO["sequential"]()
    qat = tfs.quantize_aware(model, data=data_of(model))
    plain = tfs.strip_quantization(qat)
    kernel = plain.get_layer("conv2").kernel.numpy()
    step = np.abs(model.get_layer("conv2").kernel.numpy()).max((0, 1, 2)) / 127
    np.testing.assert_allclose(kernel / step, np.round(kernel / step), atol=1e-3)
    assert np.abs(kernel - model.get_layer("conv2").kernel.numpy()).max() <= step.max() / 2 + 1e-7


def test_batch_norm_and_relu_behind_a_kernel_share_its_range():
    qat = tfs.quantize_aware(ZOO["sequential"]())
    quantizers = [layer.name for layer in qat.layers if isinstance(layer, ActivationQuantizer)]
    assert "conv1_range" not in quantizers
    assert "bn1_range" not in quantizers
    assert len(quantizers) == 4


def test_concatenated_tensors_share_one_range_that_spans_them_all():
    model = ZOO["concat"]()
    qat = tfs.quantize_aware(model, data=data_of(model))
    (shared,) = [q for q in activation_quantizers(qat) if q.slots == 2]
    assert shared.bounds()[1] == pytest.approx(shared.maximum.numpy().max())
    assert (shared.maximum.numpy() > 0).all()


def test_an_already_quantized_model_is_refused():
    qat = tfs.quantize_aware(ZOO["sequential"]())
    with pytest.raises(tfs.UnsupportedModelError, match="quantization-aware already"):
        tfs.quantize_aware(qat)


def test_models_without_a_graph_or_weights_are_refused():
    with pytest.raises(tfs.UnsupportedModelError, match="subclassed"):
        tfs.quantize_aware(ZOO["subclassed"]())
    with pytest.raises(tfs.UnsupportedModelError, match="no weights yet"):
        tfs.quantize_aware(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(tfs.UnsupportedModelError, match="not quantization-aware"):
        tfs.strip_quantization(ZOO["sequential"]())


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ("int7", ValueError, "must be one of 'int8'"),
        ({"weight_bits": 1}, ValueError, "from 2 to 8"),
        ({"activation_bits": 17}, ValueError, "from 2 to 16"),
        ({"ranges": "mean"}, ValueError, "must be one of"),
        ({"wieght_bits": 4}, ValueError, "weight_bits"),
        (8, TypeError, "takes a preset"),
    ],
)
def test_bad_configurations(config, error, message):
    with pytest.raises(error, match=message):
        tfs.quantize_aware(ZOO["sequential"](), config)
