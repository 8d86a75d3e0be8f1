"""Segmentation that decides at a lower resolution."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO

X = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def unet(activation="softmax", separate=False, wide=True):
    """Two stages down and up again, with skip connections."""
    keras.utils.set_random_seed(0)
    widths = (4, 8) if wide else (8, 8)
    x = image = keras.Input((32, 32, 3), name="image")
    skips = []
    for width in widths:
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"down{len(skips)}")(x)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="bottom")(x)
    for width in reversed(widths):
        x = layers.Conv2DTranspose(width, 2, strides=2, name=f"up{len(skips)}")(x)
        x = layers.Concatenate()([x, skips.pop()])
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"decode{len(skips)}")(x)
    x = layers.Conv2D(5, 1, activation=None if separate else activation, name="mask")(x)
    if separate:
        x = layers.Softmax(name="classes")(x)
    model = keras.Model(image, x, name="unet")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def encoder_decoder():
    encoder = keras.Sequential(
        [keras.Input((32, 32, 3)), layers.Conv2D(4, 3, strides=4, padding="same")], name="encoder"
    )
    decoder = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu", name="half"),
            layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="sigmoid", name="mask"),
        ],
        name="decoder",
    )
    image = keras.Input((32, 32, 3))
    return keras.Model(image, decoder(encoder(image)))


@pytest.mark.parametrize("factor", [2, 4])
def test_stages_are_dropped_and_the_output_keeps_size_and_meaning(factor, tmp_path):
    model = unet()
    small = tfs.downsample_output(model, factor)
    outputs = small(X)
    assert outputs.shape == (2, 32, 32, 5)
    np.testing.assert_allclose(np.sum(outputs, -1), 1, atol=1e-5)
    names = {layer.name for layer in small.layers}
    assert "decode0" not in names and "bottom" in names
    assert ("decode1" in names) == (factor == 2)
    np.testing.assert_array_equal(
        small.get_layer("bottom").get_weights()[0], model.get_layer("bottom").get_weights()[0]
    )
    assert small.output_names == ["mask"]
    small.fit(X, np.zeros((2, 32, 32)), verbose=0)
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "small.keras")(X), small(X))


def test_the_last_convolution_keeps_its_weights_where_they_fit():
    model = unet(wide=False)
    small = tfs.downsample_output(model, 2)
    np.testing.assert_array_equal(
        small.get_layer("mask_scores").get_weights()[0], model.get_layer("mask").get_weights()[0]
    )
    assert tfs.explain(small).done["mask"]["weights"] == "kept"
    assert tfs.explain(tfs.downsample_output(unet(), 2)).done["mask"]["weights"] == "new"


def test_scores_are_interpolated_not_probabilities():
    small = tfs.downsample_output(unet(separate=True), 2)
    assert [layer.name for layer in small.layers[-3:]] == ["mask", "mask_upsampled", "classes"]
    logits = tfs.downsample_output(unet(activation=None), 2)
    assert [layer.name for layer in logits.layers[-2:]] == ["mask_scores", "mask"]
    assert float(np.min(logits(X))) < 0


def test_without_upsampling_the_output_is_smaller():
    assert tfs.downsample_output(unet(), 4, upsample=False).output_shape == (None, 8, 8, 5)


@pytest.mark.parametrize("factor", [2, 4])
def test_nested_decoders_are_opened(factor, tmp_path):
    small = tfs.downsample_output(encoder_decoder(), factor)
    assert small.output_shape == (None, 32, 32, 3)
    assert ("half" in {layer.name for layer in small.layers}) == (factor == 2)
    assert tfs.export_tflite(small, tmp_path / "small.tflite").max_error < 1e-5


def test_scores_that_were_upsampled_already_are_cut_earlier():
    x = image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, strides=8, padding="same", name="deep")(x)
    x = layers.UpSampling2D(2, name="first")(x)
    x = layers.Conv2D(3, 1, name="scores")(x)
    x = layers.UpSampling2D(4, interpolation="bilinear", name="second")(x)
    model = keras.Model(image, layers.Softmax()(x))
    small = tfs.downsample_output(model, 8)
    assert small.output_shape == (None, 16, 16, 3)
    assert "first" not in {layer.name for layer in small.layers}


def test_bad_input():
    with pytest.raises(ValueError, match=r"no features 8 times smaller.*for these factors: 2, 4"):
        tfs.downsample_output(unet(), 8)
    for factor in (1, 2.0, True):
        with pytest.raises(ValueError, match="`factor` must be a whole number >= 2"):
            tfs.downsample_output(unet(), factor)
    with pytest.raises(tfs.UnsupportedModelError, match="needs a model with one output"):
        tfs.downsample_output(GRAPH_ZOO["residual"](), 2)
    with pytest.raises(tfs.UnsupportedModelError, match="needs to know the size of the output"):
        tfs.downsample_output(tfs.with_input_size(unet(), (None, None)), 2)
