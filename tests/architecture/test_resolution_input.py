"""Networks for inputs of another size."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, zoo_inputs

SIZEABLE = ["residual", "concat", "nested", "depthwise", "temporal", "attention", "decoder"]


@pytest.mark.parametrize("name", SIZEABLE)
def test_weights_are_kept_and_the_old_size_gives_the_old_outputs(name):
    model = GRAPH_ZOO[name]()
    bigger = tfs.with_input_size(model, 24)
    assert bigger(zoo_inputs(bigger)).shape[0] == 4
    for old, new in zip(model.weights, bigger.weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())
    back = tfs.with_input_size(bigger, model.input_shape[1])
    x = zoo_inputs(model)
    np.testing.assert_array_equal(back(x), model(x))


def test_pooled_features_of_a_tiled_image_are_the_same():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 2, strides=2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    tiled = np.tile(x, (1, 2, 2, 1))
    np.testing.assert_allclose(tfs.with_input_size(model, 16)(tiled), model(x), rtol=1e-5, atol=1e-6)


def test_a_pooling_that_covers_everything_covers_everything_again():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 2, strides=2),
            layers.AveragePooling2D(4, name="all"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model.compile("adam", "mse")
    bigger = tfs.with_input_size(model, (16, 24))
    assert bigger(np.ones((1, 16, 24, 3))).shape == (1, 3)
    assert bigger.optimizer is not None
    assert "covers all of any size" in tfs.explain(bigger).done["all"]["pooling"]
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(tfs.with_input_size(bigger, 8)(x), model(x), rtol=1e-5, atol=1e-6)


def test_free_sizes_and_files(tmp_path):
    model = GRAPH_ZOO["residual"]()
    free = tfs.with_input_size(model, (None, None))
    x = zoo_inputs(model)
    np.testing.assert_allclose(free(x), model(x), atol=1e-6)
    assert free(np.ones((1, 10, 12, 4))).shape == (1, 3)
    free.save(tmp_path / "free.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "free.keras")(x), free(x))
    result = tfs.export_tflite(tfs.with_input_size(model, 12), tmp_path / "model.tflite")
    assert result.max_error < 1e-5


def test_a_dict_names_inputs():
    image, facts = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="facts")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    model = keras.Model({"image": image, "facts": facts}, layers.Dense(2)(layers.Concatenate()([x, facts])))
    for size in (12, {"image": (12, 12)}):
        assert tfs.with_input_size(model, size)(
            {"image": np.ones((1, 12, 12, 3)), "facts": np.ones((1, 5))}
        ).shape
    with pytest.raises(ValueError, match=r"names no input.*'imag'.*Did you mean 'image'"):
        tfs.with_input_size(model, {"imag": 12})


def test_a_flatten_head_is_explained():
    message = (
        r"'head' \(Dense\) has weights of shape \(32, 4\) and would need \(288, 4\): 'flatten' lays features "
        r"of \(2, 2, 8\) out in a row, which become \(6, 6, 8\)"
    )
    with pytest.raises(tfs.UnsupportedModelError, match=message):
        tfs.with_input_size(GRAPH_ZOO["sequential"](), 16)


def test_other_weights_that_depend_on_the_size_are_named():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.PReLU(name="slopes"), layers.GlobalMaxPooling2D()]
    )
    with pytest.raises(
        tfs.UnsupportedModelError, match=r"'slopes' \(PReLU\) has weights of shape \(8, 8, 3\)"
    ):
        tfs.with_input_size(model, 16)


def test_features_that_do_not_meet_are_explained():
    image = keras.Input((8, 8, 3))
    x = layers.UpSampling2D()(layers.MaxPooling2D()(image))
    model = keras.Model(image, layers.Concatenate(name="skip")([x, image]))
    assert tfs.with_input_size(model, 12).output_shape == (None, 12, 12, 6)
    with pytest.raises(tfs.UnsupportedModelError, match=r"fit together at input size .*multiples of 2"):
        tfs.with_input_size(model, 11)


def test_a_fixed_reshape_is_named():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Reshape((16, 2), name="rows"), layers.Conv1D(2, 1)]
    )
    with pytest.raises(tfs.UnsupportedModelError, match=r"'rows' \(Reshape\) cannot take \(None, 8, 8, 2\)"):
        tfs.with_input_size(model, 8)


@pytest.mark.parametrize("size", [0, (4, -1), (4.5, 4), True])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match="must be 2 whole numbers >= 1"):
        tfs.with_input_size(GRAPH_ZOO["residual"](), size)


def test_nothing_to_resize_and_no_graph():
    with pytest.raises(ValueError, match="as many numbers as an input has spatial axes"):
        tfs.with_input_size(GRAPH_ZOO["shared"](), 8)
    from tests.zoo import ZOO

    with pytest.raises(tfs.UnsupportedModelError, match="needs the graph"):
        tfs.with_input_size(ZOO["subclassed"](), 8)


def test_a_factor_scales_every_input_that_has_a_size():
    image, other, vector = keras.Input((16, 12, 3)), keras.Input((8, 8, 3)), keras.Input((5,))
    pooled = [layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x)) for x in (image, other)]
    model = keras.Model([image, other, vector], layers.Dense(2)(layers.Concatenate()([*pooled, vector])))
    half = tfs.with_input_size(model, 0.5)
    assert [tuple(one.shape) for one in half.inputs] == [(None, 8, 6, 3), (None, 4, 4, 3), (None, 5)]
    with pytest.raises(ValueError, match=r"A float `size` is a factor in \(0, 4\]. Received: size=24.0"):
        tfs.with_input_size(model, 24.0)
    with pytest.raises(ValueError, match="No input has a size that could be scaled"):
        tfs.with_input_size(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), 0.5)


@pytest.mark.parametrize("name", ["residual", "concat", "nested", "depthwise"])
def test_the_input_may_stay_and_be_resized_inside(name, tmp_path):
    model = GRAPH_ZOO[name]()
    inside = tfs.with_input_size(model, 0.75, keep_input=True)
    assert inside.input_shape == model.input_shape
    x = np.asarray(zoo_inputs(model))
    size = tuple(round(0.75 * axis) for axis in x.shape[1:3])
    resized = keras.ops.image.resize(x, size)
    np.testing.assert_allclose(inside(x), tfs.with_input_size(model, size)(resized), rtol=1e-5, atol=1e-6)
    inside.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), inside(x))
    result = tfs.export_tflite(inside, tmp_path / "m.tflite", quantize="int8", representative_data=x)
    assert result.path.exists()
    assert not result.float_ops


def test_only_images_are_resized_inside():
    with pytest.raises(ValueError, match="`keep_input` is for images"):
        tfs.with_input_size(GRAPH_ZOO["temporal"](), 0.5, keep_input=True)
