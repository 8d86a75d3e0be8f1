"""Other backbones under the same head."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tfsqueeze.architecture.backbone_families import family_of, find_constructor, preprocessing_of

SIZE = 64
X = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype("float32")


def tiny(name, channels, scale=1.0):
    """A backbone of one's own: features of a half, a quarter and an eighth of the size."""
    image = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(scale)(image)
    for index, width in enumerate(channels):
        x = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu", name=f"stage{index}")(x)
    return keras.Model(image, x, name=name)


def classifier(backbone):
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 255, name="scale")(image)))
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    model = keras.Model(image, layers.Dense(3, name="head")(x), name="classifier")
    model.compile("adam", "mse")
    return model


@pytest.fixture(scope="module")
def mobile():
    """A classifier on MobileNet, whose family expects -1..1."""
    base = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), alpha=0.25
    )
    return classifier(base)


def test_the_head_is_attached_again_and_keeps_what_fits(tmp_path):
    model = classifier(tiny("large", (8, 16, 32)))
    before = [weight.numpy() for weight in model.weights]
    small = tfs.swap_backbone(model, tiny("small", (4, 8, 16)))
    assert small.get_layer("small").count_params() < model.get_layer("large").count_params()
    assert small(X).shape == (2, 3)
    np.testing.assert_array_equal(
        small.get_layer("head").get_weights()[0], model.get_layer("head").get_weights()[0]
    )
    assert tfs.explain(small).skipped == {"hidden": "starts anew: (32, 8) -> (16, 8)"}
    same = tfs.swap_backbone(model, model.get_layer("large"))
    np.testing.assert_allclose(same(X), model(X), atol=1e-6)
    small.fit(X, np.zeros((2, 3)), verbose=0)
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "small.keras")(X), small(X))
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_features_of_several_stages_are_matched_by_size():
    def several(backbone):
        stages = [backbone.get_layer(f"stage{index}").output for index in range(3)]
        return keras.Model(backbone.input, stages, name=backbone.name)

    image = keras.Input((SIZE, SIZE, 3))
    half, quarter, eighth = several(tiny("large", (8, 16, 32)))(image)
    x = layers.Concatenate()([layers.UpSampling2D()(eighth), quarter])
    x = layers.Concatenate()([layers.UpSampling2D()(x), half])
    model = keras.Model(image, layers.Conv2D(2, 1, name="mask")(x))
    small = tfs.swap_backbone(model, tiny("small", (4, 6, 8)))
    assert [tensor.shape[-1] for tensor in small.get_layer("small").outputs] == [4, 6, 8]
    assert small(X).shape == (2, 32, 32, 2)
    with pytest.raises(
        tfs.UnsupportedModelError, match=r"needs features of size \(8, 8\).*'shallow' has none"
    ):
        tfs.swap_backbone(model, tiny("shallow", (4, 6)))


def test_a_backbone_inside_a_nested_model():
    inner = classifier(tiny("large", (4, 8)))
    image = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(image, layers.Softmax()(inner(image)))
    small = tfs.swap_backbone(model, tiny("small", (2, 4)), backbone="classifier/large")
    assert small(X).shape == (2, 3)
    assert small.get_layer("classifier").get_layer("small") is not None


def test_a_network_of_keras_applications(mobile, tmp_path):
    small = tfs.swap_backbone(mobile, "MobileNetV2", weights=None, alpha=0.35)
    assert small.get_layer("hidden").kernel.shape == (1280, 8)
    facts = next(iter(tfs.explain(small).done.values()))
    assert facts["preprocessing"].startswith("unchanged: RGB from [-1.0")
    assert small.optimizer is not None


@pytest.mark.slow
def test_inputs_are_brought_to_what_the_family_expects(mobile, tmp_path):
    small = tfs.swap_backbone(mobile, "MobileNetV3Small", weights=None, minimalistic=True)
    facts = next(iter(tfs.explain(small).done.values()))
    assert facts["preprocessing"] == (
        "RGB from [-1.0, -1.0, -1.0] to [1.0, 1.0, 1.0] -> RGB from [0.0, 0.0, 0.0] to [255.0, 255.0, 255.0]"
    )
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "small.keras")(X), small(X))
    assert tfs.export_tflite(small, tmp_path / "small.tflite").max_error < 1e-4


@pytest.mark.parametrize("family", ["MobileNetV2", "ResNet50", "DenseNet121", "EfficientNetB0"])
@pytest.mark.parametrize("other", ["MobileNet", "VGG16", "DenseNet169"])
def test_preprocessing_is_converted(family, other):
    colours = np.random.default_rng(0).uniform(0, 255, (10, 3))
    before, after = preprocessing_of(family), preprocessing_of(other)
    np.testing.assert_allclose(before.then(after)(before(colours)), after(colours), atol=1e-3)


def test_preprocessing_is_what_keras_does():
    images = X.copy()
    expected = keras.applications.resnet50.preprocess_input(images.copy())
    found = preprocessing_of("ResNet50")(images.reshape(-1, 3)).reshape(images.shape)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert str(preprocessing_of("ResNet50")).startswith("BGR from [-103.94")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("mobilenetv2_1.00_224", "MobileNetV2"),
        ("mobilenet_0.25_224", "MobileNet"),
        ("resnet50v2", "ResNet50V2"),
        ("resnet50", "ResNet50"),
        ("efficientnetv2-b0", "EfficientNetV2B0"),
        ("inception_resnet_v2", "InceptionResNetV2"),
        ("backbone", None),
    ],
)
def test_families_are_known_by_the_model_s_name(name, family):
    assert family_of(keras.Sequential([keras.Input((1,))], name=name)) == family


def test_unknown_names_are_listed(mobile):
    with pytest.raises(
        ValueError, match=r"Unknown backbone 'MobilNet'.*Did you mean 'MobileNet'.*EfficientNetB0"
    ):
        tfs.swap_backbone(mobile, "MobilNet")
    assert find_constructor("mobilenet_v2") == "MobileNetV2"
    with pytest.raises(ValueError, match=r"no nested model or layer 'resnet'.*'mobilenet_0.25_64'"):
        tfs.swap_backbone(mobile, "MobileNet", weights=None, backbone="resnet")


def test_a_backbone_in_the_model_s_own_graph_is_named_by_its_last_layer():
    base = tiny("large", (8, 16))
    x = layers.GlobalAveragePooling2D()(base.output)
    model = keras.Model(base.input, layers.Dense(3, name="head")(layers.Dense(4, name="hidden")(x)))
    with pytest.raises(
        tfs.UnsupportedModelError, match=r"It has none; name it by `backbone=`, or the last layer"
    ):
        tfs.swap_backbone(model, "MobileNet", weights=None)
    small = tfs.swap_backbone(model, tiny("small", (4, 8)), backbone="stage1")
    assert small.get_layer("small") is not None
    np.testing.assert_array_equal(
        small.get_layer("head").get_weights()[0], model.get_layer("head").get_weights()[0]
    )
    same = tfs.swap_backbone(model, tiny("same", (8, 16)), backbone="stage1")
    same.get_layer("same").set_weights(base.get_weights())
    np.testing.assert_allclose(same(X), model(X), atol=1e-6)


def test_a_head_that_reads_other_layers_too_is_told():
    base = tiny("large", (8, 8))
    first, last = base.get_layer("stage0").output, base.output
    model = keras.Model(base.input, layers.Concatenate()([layers.UpSampling2D()(last), first]))
    with pytest.raises(tfs.UnsupportedModelError, match="reads other layers before it too"):
        tfs.swap_backbone(model, tiny("small", (4, 8)), backbone="stage1")
