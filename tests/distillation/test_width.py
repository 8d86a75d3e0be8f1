import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tests.zoo import ZOO, zoo_inputs

SCALABLE = [
    "sequential",
    "residual",
    "nested",
    "shared",
    "depthwise",
    "multi_output",
    "temporal",
    "recurrent",
    "decoder",
]


@pytest.mark.parametrize("name", SCALABLE)
@pytest.mark.parametrize("factor", [0.5, 2])
def test_the_graph_and_outputs_stay(name, factor, tmp_path):
    model = ZOO[name]()
    before = [variable.numpy() for variable in model.weights]
    student = tfs.scale_width(model, factor)
    x = zoo_inputs(model)
    keras.tree.map_structure(lambda a, b: np.testing.assert_equal(a.shape, b.shape), student(x), model(x))
    assert (student.count_params() < model.count_params()) == (factor < 1)
    assert [layer.name for layer in student.layers] == [layer.name for layer in model.layers]
    for old, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    student.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    keras.tree.map_structure(np.testing.assert_array_equal, again(x), student(x))


@pytest.mark.parametrize("name", SCALABLE)
def test_factor_1_is_a_copy(name):
    model = ZOO[name]()
    x = zoo_inputs(model)
    keras.tree.map_structure(np.testing.assert_array_equal, tfs.scale_width(model, 1.0)(x), model(x))


def test_weights_are_inherited_where_they_fit():
    model = convnet(8)
    student = tfs.scale_width(model, 0.5)
    np.testing.assert_array_equal(
        student.get_layer("conv2").kernel, model.get_layer("conv2").kernel.numpy()[:, :, :4, :4]
    )
    assert student.get_layer("head").units == 3
    assert tfs.explain(student).done["conv2"] == {"width": "8 -> 4"}
    new = tfs.scale_width(model, 0.5, inherit=False)
    assert (new.get_layer("conv2").kernel.numpy() != student.get_layer("conv2").kernel.numpy()).any()


def test_every_gate_keeps_its_first_units():
    model = keras.Sequential([keras.Input((5, 6)), layers.LSTM(4, name="lstm"), layers.Dense(2)])
    student = tfs.scale_width(model, 0.5)
    old, new = (net.get_layer("lstm").cell for net in (model, student))
    np.testing.assert_array_equal(
        new.kernel.numpy().reshape(6, 4, 2), old.kernel.numpy().reshape(6, 4, 4)[..., :2]
    )
    recurrent = old.recurrent_kernel.numpy().reshape(4, 4, 4)
    np.testing.assert_array_equal(new.recurrent_kernel.numpy().reshape(2, 4, 2), recurrent[:2, :, :2])
    np.testing.assert_array_equal(new.bias.numpy().reshape(4, 2), old.bias.numpy().reshape(4, 4)[:, :2])


def test_every_position_behind_flatten_keeps_its_first_channels():
    tail = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(3, name="head")]
    model = keras.Sequential([keras.Input((3, 3, 2)), layers.Conv2D(4, 2, name="conv"), *tail])
    student = tfs.scale_width(model, 0.5)
    old = model.get_layer("head").kernel.numpy().reshape(4, 4, 3)
    new = student.get_layer("head").kernel.numpy().reshape(4, 2, 3)
    np.testing.assert_array_equal(new, old[:, :2])


def test_widths_are_rounded_and_selected():
    model = convnet(20)
    student = tfs.scale_width(model, 0.3, round_to=4)
    assert student.get_layer("conv1").filters == 8
    some = tfs.scale_width(model, 0.5, select="conv2")
    assert [some.get_layer(name).filters for name in ("conv1", "conv2")] == [20, 10]


def test_a_narrow_copy_learns_from_its_model():
    x, y = images()
    teacher = convnet(8)
    teacher.compile("adam", "sparse_categorical_crossentropy")
    student = tfs.scale_width(teacher, 0.5)
    assert student.compiled
    distiller = tfs.Distiller(
        student, teacher, [tfs.distillation.SoftTargets(), tfs.distillation.Features("conv2")]
    )
    distiller.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    distiller.fit(x, y, verbose=0)


def test_what_cannot_be_scaled_is_said():
    image = keras.Input((4, 4, 6))
    y = layers.Conv2D(6, 3, padding="same", name="conv")(image)
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(layers.Add()([image, y]))))
    with pytest.raises(tfs.UnsupportedModelError, match=r"does not fit together after scaling by 0.5.*skip"):
        tfs.scale_width(model, 0.5)
    with pytest.raises(ValueError, match=r"`factor` must be in \(0, 16\]. Received: factor=0"):
        tfs.scale_width(convnet(), 0)
    with pytest.raises(tfs.UnsupportedModelError, match="needs the graph"):
        tfs.scale_width(ZOO["subclassed"](), 0.5)
    with pytest.raises(ValueError, match=r"'head'.*cannot be worked on: it makes an output"):
        tfs.scale_width(convnet(), 0.5, select="head")
