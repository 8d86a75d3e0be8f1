"""Post-training repair: each means alone does what it says, and the result exports and trains on."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.quantization.test_aware import data_of
from tests.zoo import GRAPH_ZOO, ZOO, zoo_inputs
from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.quantization.equalization import equalize
from tfsqueeze.quantization.logit_ranges import quantizers_of_logits
from tfsqueeze.quantization.measuring import activation_quantizers
from tfsqueeze.quantization.wrapper import quantized_layers

BARE = {"equalize": False, "ranges": "min_max", "rounding": "nearest", "correct_bias": False}


def outputs(model, inputs):
    return [np.asarray(value) for value in keras.tree.flatten(model(inputs, training=False))]


def distance(model, other, inputs):
    pairs = zip(outputs(model, inputs), outputs(other, inputs), strict=True)
    return sum(float(np.square(first - second).mean()) for first, second in pairs)


def scaled_badly(model, seed=3):
    """The same function with channels of the first pair of kernels scaled apart by up to 1e4."""
    twin = rewrite(model)
    rng = np.random.default_rng(seed)
    norm, following = twin.get_layer("bn1"), twin.get_layer("conv2")
    factors = 10 ** rng.uniform(-2, 2, norm.gamma.shape)
    norm.gamma.assign(norm.gamma / factors)
    norm.beta.assign(norm.beta / factors)
    following.kernel.assign(following.kernel * factors[:, None])
    return twin


@pytest.mark.parametrize("name", ["residual", "depthwise"])
def test_repair_comes_nearer_to_the_float_model(name):
    model = ZOO[name]()
    data = data_of(model, 128)
    bare = tfs.calibrate(model, data, "int4", **BARE)
    repaired = tfs.calibrate(model, data, "int4")
    fresh = zoo_inputs(model, 64, seed=9)
    assert distance(model, repaired, fresh) < distance(model, bare, fresh)


@pytest.mark.parametrize(
    "name",
    ["shared", *(pytest.param(name, marks=pytest.mark.slow) for name in GRAPH_ZOO if name != "shared")],
)
def test_every_model_is_calibrated(name):
    model = ZOO[name]()
    quantized = tfs.calibrate(model, data_of(model, 32))
    assert all(quantizer.is_trained for quantizer in activation_quantizers(quantized))
    inputs = zoo_inputs(model, 32)
    for expected, given in zip(outputs(model, inputs), outputs(quantized, inputs), strict=True):
        assert np.square(given - expected).mean() < 0.05 * np.square(expected).mean()


def test_repair_outlives_badly_scaled_channels():
    model = ZOO["sequential"]()
    spoiled = scaled_badly(model)
    data, fresh = data_of(model, 256), zoo_inputs(model, 64, seed=9)
    assert distance(model, spoiled, fresh) < 1e-8
    bare = distance(model, tfs.calibrate(spoiled, data, **BARE), fresh)
    equalized = distance(model, tfs.calibrate(spoiled, data, **{**BARE, "equalize": True}), fresh)
    assert equalized < bare / 20


def test_equalization_ends_the_same_however_channels_were_scaled():
    model = ZOO["sequential"]()
    kernels = []
    for twin in (rewrite(model), scaled_badly(model)):
        equalize(twin, list(collect(zoo_inputs(model, 32), input_specs(model)).batches(32)))
        kernel = np.abs(twin.get_layer("conv2").kernel.numpy())
        kernels.append(kernel / kernel.mean())
    np.testing.assert_allclose(*kernels, rtol=0.05)


@pytest.mark.parametrize("name", ["sequential", "depthwise", "temporal", "decoder", "concat", "nested"])
def test_equalization_leaves_the_function_as_it_is(name):
    model = ZOO[name]()
    twin = rewrite(model)
    inputs = zoo_inputs(model, 32)
    factors = equalize(twin, list(collect(inputs, input_specs(model)).batches(16)))
    for expected, given in zip(outputs(model, inputs), outputs(twin, inputs), strict=True):
        np.testing.assert_allclose(given, expected, atol=1e-4)
    if name in ("sequential", "depthwise"):
        assert any(scale.max() / scale.min() > 1.05 for scale in factors.values())


@pytest.mark.parametrize("is_apart", [False, True])
def test_ranges_of_logits_are_chosen_by_the_probabilities(is_apart):
    rng = np.random.default_rng(0)
    features = keras.Input((16,))
    head = layers.Dense(10, activation=None if is_apart else "softmax")
    scores = head(features)
    model = keras.Model(features, layers.Softmax()(scores) if is_apart else scores)
    head.set_weights([rng.normal(size=(16, 10)) * 3, np.full(10, -20.0)])
    inputs = rng.normal(size=(768, 16)).astype("float32")
    spans, errors = {}, {}
    for ranges in ("min_max", "mse"):
        quantized = tfs.calibrate(model, inputs[:512], ranges=ranges)
        (quantizer,) = quantizers_of_logits(quantized)
        spans[ranges] = float(np.ptp(quantizer.bounds()))
        errors[ranges] = distance(model, quantized, inputs[512:])
    assert spans["mse"] < 0.7 * spans["min_max"]
    assert errors["mse"] < errors["min_max"]


def test_relu6_stays_and_cuts_the_same_values():
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="first")(image)
    x = layers.DepthwiseConv2D(3)(layers.ReLU(6.0)(x))
    model = keras.Model(image, layers.Conv2D(4, 1)(layers.ReLU(6.0)(x)))
    first = model.get_layer("first")
    first.kernel.assign(first.kernel * np.geomspace(0.01, 20, 8))
    twin = rewrite(model)
    inputs = np.random.default_rng(0).normal(size=(64, 6, 6, 3)).astype("float32")
    factors = equalize(twin, list(collect(inputs, input_specs(model)).batches(32)))
    np.testing.assert_allclose(twin(inputs), model(inputs), atol=1e-4)
    assert factors["first"].min() < 0.1 and factors["first"].max() == 1


def test_corrected_biases_give_outputs_their_mean():
    model = ZOO["shared"]()
    data, inputs = data_of(model, 512), zoo_inputs(model, 512)
    options = {**BARE, "config": {"weight_bits": 3, "first_and_last_bits": None}}
    (expected,) = outputs(model, inputs)
    (bare,) = outputs(tfs.calibrate(model, data, **options), inputs)
    (corrected,) = outputs(tfs.calibrate(model, data, **{**options, "correct_bias": True}), inputs)
    shift = np.abs((corrected - expected).mean(0)).max()
    assert shift < 0.2 * np.abs((bare - expected).mean(0)).max()


def test_rounded_weights_lie_on_the_grid_and_zeros_stay():
    model = tfs.prune(ZOO["residual"](), 0.5)
    quantized = tfs.calibrate(model, data_of(model, 64), "int4")
    for wrapper in quantized_layers(quantized):
        for kernel, variable in wrapper.kernels():
            baked = wrapper.baked()[kernel.attribute]
            np.testing.assert_allclose(baked, variable.numpy(), atol=1e-5)
            levels = {len(np.unique(channel)) for channel in np.moveaxis(baked, -1, 0)}
            assert max(levels) <= 2**wrapper.bits - 1
            before = model.get_layer(wrapper.layer.name).kernel.numpy()
            assert (baked[before == 0] == 0).all()


@pytest.mark.slow
def test_the_result_exports_trains_and_saves(tmp_path):
    model = ZOO["depthwise"]()
    model.compile("sgd", "mse")
    quantized = tfs.calibrate(model, data_of(model, 64))
    result = tfs.export_tflite(quantized, tmp_path / "int8.tflite", quantize="int8")
    assert not result.float_ops
    inputs = zoo_inputs(model)
    quantized.save(tmp_path / "quantized.keras")
    loaded = keras.models.load_model(tmp_path / "quantized.keras")
    np.testing.assert_array_equal(loaded(inputs), quantized(inputs))
    quantized.fit(inputs, np.zeros((4, 4), "float32"), verbose=0)
    assert "error" in str(tfs.explain(tfs.calibrate(model, data_of(model, 64))))


def test_a_layer_kept_in_float_is_float_in_the_file(tmp_path):
    model = ZOO["sequential"]()
    quantized = tfs.calibrate(model, data_of(model, 64), overrides={"conv2": "float"})
    assert "kept in float" in tfs.explain(quantized).skipped["conv2"]
    result = tfs.export_tflite(quantized, tmp_path / "mixed.tflite", quantize="int8")
    assert result.float_ops.get("CONV_2D") == 1 and "FULLY_CONNECTED" not in result.float_ops


def test_unknown_options_and_broken_data_are_told():
    model = ZOO["shared"]()
    data = data_of(model)
    with pytest.raises(ValueError, match="`ranges` must be one of"):
        tfs.calibrate(model, data, ranges="kl")
    with pytest.raises(ValueError, match="`rounding` must be one of"):
        tfs.calibrate(model, data, rounding="up")
    with pytest.raises(ValueError, match=r"NaN or infinity in input 'left'"):
        tfs.calibrate(model, ([np.full((4, 6), np.nan), np.ones((4, 6))],))
    with pytest.raises(tfs.UnsupportedModelError, match="quantization-aware already"):
        tfs.calibrate(tfs.calibrate(model, data), data)
    with pytest.raises(tfs.UnsupportedModelError, match="graph"):
        tfs.calibrate(ZOO["subclassed"](), np.ones((4, 6)))
