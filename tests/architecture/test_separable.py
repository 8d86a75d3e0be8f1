"""to_separable: exact where the layer is separable, the best approximation where not, settings kept."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.architecture.replacing import Costs
from tfsqueeze.architecture.separable_form import SeparableForm

CONVOLUTIONAL = [
    "sequential",
    "residual",
    "nested",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("concat", "depthwise", "decoder")),
]


def small_net():
    image = keras.Input((12, 12, 6))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv1")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="bn1")(x))
    x = layers.Conv2D(20, 3, strides=2, activation="relu", name="conv2")(x)
    x = layers.Conv2D(8, 1, name="pointwise")(x)
    return keras.Model(image, layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x)))


def images(count=64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 12, 12, 3)) @ rng.normal(size=(3, 6))).astype("float32")


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_zoo(name, tmp_path):
    model = ZOO[name]()
    x, before = zoo_inputs(model), model.get_weights()
    light = tfs.to_separable(model)
    done = tfs.explain(light).done
    assert Costs(light).total < Costs(model).total
    saved = sum(row["macs_before"] - row["macs_after"] for row in done.values())
    assert Costs(model).total - Costs(light).total == saved
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    light.save(tmp_path / "light.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "light.keras")(x), light(x), rtol=1e-6)


SETTINGS = {
    "same": {"padding": "same"},
    "strided": {"strides": 2, "padding": "same", "activation": "relu"},
    "valid": {"use_bias": False},
    "dilated": {"dilation_rate": 2, "padding": "same"},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kind", [layers.Conv2D, layers.Conv1D])
def test_what_is_separable_is_reproduced(kind, settings):
    rank = 2 if kind is layers.Conv2D else 1
    layer = kind(16, 3, name="conv", bias_initializer="normal", **SETTINGS[settings])
    model = keras.Sequential([keras.Input((*[9] * rank, 5)), layer])
    rng = np.random.default_rng(0)
    depthwise, pointwise = rng.normal(size=(*[3] * rank, 5, 1)), rng.normal(size=(5, 16))
    layer.kernel.assign(depthwise * pointwise)
    light = tfs.to_separable(model)
    names = ["conv_depthwise", "conv_pointwise"] if rank == 2 else ["conv_separable"]
    assert [layer.name for layer in light.layers] == names
    x = rng.normal(size=(3, *[9] * rank, 5))
    np.testing.assert_allclose(light(x), model(x), atol=1e-4)


def test_causal_convolutions_are_padded_before():
    layer = layers.Conv1D(16, 3, padding="causal", dilation_rate=2, name="conv")
    model = keras.Sequential([keras.Input((9, 5)), layer])
    rng = np.random.default_rng(0)
    layer.kernel.assign(rng.normal(size=(3, 5, 1)) * rng.normal(size=(5, 16)))
    light = tfs.to_separable(model)
    assert [layer.name for layer in light.layers] == ["conv_padding", "conv_separable"]
    x = rng.normal(size=(3, 9, 5))
    np.testing.assert_allclose(light(x), model(x), atol=1e-4)


def test_the_error_is_that_of_each_input_channels_discarded_singular_values():
    layer = layers.Conv2D(16, 3)
    layer.build((None, 8, 8, 5))
    kernel = np.asarray(layer.kernel).reshape(9, 5, 16).transpose(1, 0, 2)
    values = np.linalg.svd(kernel, compute_uv=False)
    for multiplier in (1, 2, 4):
        form = SeparableForm(layer, multiplier)
        kernels = form.kernels()
        product = form.before(kernels)[0] @ kernels[1].reshape(-1, 16)
        error = np.square(product - form.weights[0]).sum()
        np.testing.assert_allclose(error, np.square(values[:, multiplier:]).sum(), rtol=1e-5)


def test_as_many_filters_as_the_window_has_places_are_exact():
    layer = layers.Conv2D(16, 3)
    layer.build((None, 8, 8, 5))
    form = SeparableForm(layer, form_full(layer))
    kernels = form.kernels()
    product = form.before(kernels)[0] @ kernels[1].reshape(-1, 16)
    np.testing.assert_allclose(product, form.weights[0], atol=1e-6)


def form_full(layer):
    return SeparableForm(layer).full


def test_more_filters_per_channel_lose_less():
    model = small_net()
    errors = [
        tfs.explain(tfs.to_separable(model, depth_multiplier=m)).done["conv2"]["error"] for m in (1, 2, 3)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_data_lowers_the_error_of_the_outputs():
    model, x = small_net(), images(256)
    blind, aware = tfs.to_separable(model), tfs.to_separable(model, data=x)
    test = images(seed=1)
    errors = [float(np.square(light(test) - model(test)).mean()) for light in (blind, aware)]
    assert errors[1] < errors[0]
    for row in tfs.explain(aware).done.values():
        assert row["output_error_refitted"] <= row["output_error"]
    assert not np.array_equal(aware.get_layer("bn1").moving_mean, model.get_layer("bn1").moving_mean)


def test_where_picks_by_what_is_saved_and_lost():
    model = small_net()
    candidates = []
    tfs.to_separable(model, where=lambda candidate: candidates.append(candidate) or True)
    assert [candidate.path for candidate in candidates] == ["conv1", "conv2"]
    most = max(candidates, key=lambda candidate: candidate.macs_saved)
    light = tfs.to_separable(model, where=lambda candidate: candidate.macs_saved >= most.macs_saved)
    assert list(tfs.explain(light).done) == [most.path]
    assert tfs.explain(light).done[most.path]["macs_after"] == most.macs_after
    with pytest.raises(ValueError, match="`where` left no layer"):
        tfs.to_separable(model, where=lambda candidate: candidate.error < 0)


def test_skips_what_gains_nothing_and_says_so():
    skipped = tfs.explain(tfs.to_separable(ZOO["depthwise"]())).skipped
    assert "1x1" in skipped["pointwise"] and skipped["depthwise"] == "already depthwise"
    assert "grouped" in tfs.explain(tfs.to_separable(ZOO["concat"]())).skipped["grouped"]
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, name="stem")(image)
    x = layers.Conv2D(1, 3, name="narrow")(layers.Conv2D(16, 3, name="wide")(x))
    explanation = tfs.explain(tfs.to_separable(keras.Model(image, x)))
    assert list(explanation.done) == ["wide"]
    assert "stem" in explanation.skipped["stem"] and "not get cheaper" in explanation.skipped["narrow"]
    assert "stem" in tfs.explain(tfs.to_separable(keras.Model(image, x), select="stem")).done


def test_settings_stay():
    settings = {"data_format": "channels_first", "dtype": "mixed_bfloat16", "kernel_regularizer": "l2"}
    model = keras.Sequential(
        [keras.Input((6, 8, 8)), layers.Conv2D(12, 3, name="c", trainable=False, **settings)]
    )
    depthwise, pointwise = tfs.to_separable(model).layers
    for layer in (depthwise, pointwise):
        assert layer.data_format == "channels_first" and layer.dtype_policy.name == "mixed_bfloat16"
        assert not layer.trainable
    assert depthwise.depthwise_regularizer is not None and pointwise.kernel_regularizer is not None
    assert pointwise.use_bias and not depthwise.use_bias


def test_is_compiled_as_before_and_trains():
    model = small_net()
    model.compile(keras.optimizers.SGD(0.02), "mse", metrics=["mae"])
    light = tfs.to_separable(model, select="conv2")
    history = light.fit(images(16), np.zeros((16, 4)), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0] and "mae" in history


@pytest.mark.slow
def test_keras_applications():
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)
    light = tfs.to_separable(model)
    assert Costs(light).total < 0.7 * Costs(model).total
    assert all("conv" in path for path in tfs.explain(light).done)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"depth_multiplier": 0}, "whole number >= 1.*depth_multiplier=0"),
        ({"depth_multiplier": 1.5}, "depth_multiplier=1.5"),
        ({"select": "pointwise"}, "1x1"),
        ({"select": "head"}, "neither Conv2D nor Conv1D"),
        ({"select": "conv3"}, "Did you mean 'conv"),
        ({"data": images(2)}, "at least 4 examples"),
    ],
)
def test_errors_say_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfs.to_separable(small_net(), **arguments)


def test_needs_a_graph():
    with pytest.raises(tfs.UnsupportedModelError, match="graph"):
        tfs.to_separable(ZOO["subclassed"]())
