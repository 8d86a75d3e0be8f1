"""Compressed copies learn from the model they were made of."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tests.zoo import ZOO
from tfsqueeze import distillation as kd
from tfsqueeze.distillation.output_pairs import outputs_of
from tfsqueeze.tflite.runner import Runner

CROSS_ENTROPY = "sparse_categorical_crossentropy"


def distilled(student, teacher, *callbacks, losses=None, steps=4, run_eagerly=False):
    x, y = images(16 * steps)
    distiller = tfs.Distiller(student, teacher, losses)
    distiller.compile("adam", CROSS_ENTROPY, metrics=["accuracy"], run_eagerly=run_eagerly)
    return distiller.fit(x, y, batch_size=16, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.parametrize("name", ["sequential", "decoder", "residual", "multi_output"])
def test_quantized_outputs_are_known_for_what_they_are(name):
    model = ZOO[name]()
    kinds = [output.activation for output in outputs_of(model)]
    assert [output.activation for output in outputs_of(tfs.quantize_aware(model))] == kinds


def test_rounded_probabilities_teach_by_their_logits():
    x, _ = images(16)
    teacher = convnet(8)
    student = tfs.quantize_aware(teacher, data=x)
    plain, rounded = teacher(x), student(x)
    target = convnet(6)(x)
    losses = []
    for prediction in (plain, rounded):
        comparison = kd.Comparison(prediction, target, "softmax", "softmax", 4.0)
        losses.append(np.asarray(kd.SoftTargets().compare(comparison)))
    np.testing.assert_allclose(losses[1], losses[0], atol=0.02)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, activation="softmax")])
    model.layers[0].set_weights([np.eye(3), np.zeros(3)])
    wrong = tfs.quantize_aware(model)(np.array([[20.0, 0.0, 0.0]], "float32"), training=True)
    assert float(wrong[0, 1]) == 0
    assert float(keras.losses.sparse_categorical_crossentropy(np.array([1]), wrong)[0]) > 19


@pytest.mark.slow
def test_a_quantized_copy_learns_from_its_float_self_and_exports_as_integers(tmp_path):
    x, _ = images(32)
    teacher = convnet(8)
    student = tfs.quantize_aware(teacher, data=x)
    freezing = tfs.QuantizationCallback(start_step=1, freeze_ranges_step=2, freeze_batch_norm_step=3)
    logs = distilled(student, teacher, freezing, losses=[kd.SoftTargets(), (kd.Features("conv2"), 0.1)])
    assert logs["soft_targets"][0] < 0.1
    tfs.export_tflite(student, tmp_path / "student.tflite", quantize="int8")
    runner = Runner(tmp_path / "student.tflite")
    (output,) = runner.run({runner.inputs[0].name: x}).values()
    np.testing.assert_allclose(output, student.predict(x, verbose=0), atol=0.05)


def test_a_pruned_copy_learns_from_its_dense_self():
    teacher = convnet(8)
    student = tfs.prune(teacher, 0.5)
    distilled(student, teacher, tfs.PruningCallback(), run_eagerly=True)
    kernel = student.get_layer("conv2").kernel.numpy()
    assert (kernel == 0).mean() == 0.5


@pytest.mark.parametrize(
    "compress",
    [
        lambda model: tfs.prune_channels(model, ratio=0.5),
        lambda model: tfs.scale_width(model, 0.5),
        lambda model: tfs.prune_depth(model, blocks=1),
    ],
    ids=["fewer channels", "narrower", "shallower"],
)
def test_a_smaller_copy_learns_by_logits_and_features(compress):
    teacher = blocks(3)
    student = compress(teacher)
    assert student.count_params() < teacher.count_params()
    before = [variable.numpy() for variable in student.trainable_weights]
    losses = [kd.SoftTargets(), (kd.Features("sum2"), 0.1)]
    logs = distilled(student, teacher, losses=losses, steps=2, run_eagerly=True)
    assert np.isfinite(logs["loss"]).all()
    after = [variable.numpy() for variable in student.trainable_weights]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_a_shallower_copy_inherits_what_is_left():
    teacher = blocks(3)
    student = tfs.prune_depth(teacher, blocks=1, criterion="regular")
    left = {layer.name for layer in student.layers if layer.weights}
    assert {layer.name for layer in teacher.layers if layer.weights} - left == {"conv1"}
    for name in left:
        first, second = (model.get_layer(name).get_weights() for model in (teacher, student))
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a, b)


def blocks(count):
    """Residual blocks, one convolution each."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="stem")(image)
    for index in range(count):
        y = layers.Conv2D(8, 3, padding="same", activation="relu", name=f"conv{index}")(x)
        x = layers.Add(name=f"sum{index}")([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x))
