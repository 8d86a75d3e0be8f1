"""A ported model computes what the Keras 2 model did, from memory and from every file format."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.legacy_zoo import LEGACY_ZOO, UNSAVABLE, layers, randomize, save, tf_keras
from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.models.load import load_model
from tfsqueeze.models.port import Port, port_model
from tfsqueeze.models.port_check import check_port, difference

_SLOW_TO_TRACE = ("recurrent", "states", "masked", "stateful", "time_distributed", "attention")
_CASES = [
    (name, form)
    for name in LEGACY_ZOO
    for form in ("memory", "h5", "keras", "tf")
    if name not in UNSAVABLE.get(form, ()) and (form == "memory" or name not in _SLOW_TO_TRACE)
]


def inputs_of(model, seed=1):
    """Inputs for a Keras 2 model, in the structure it is called on."""
    rng = np.random.default_rng(seed)

    def draw(spec):
        shape = [spec.shape[0] or 2, *spec.shape[1:]]
        if spec.dtype == tf.string:
            return tf.constant(rng.choice(["a", "b", "the cat"], shape))
        values = rng.integers(0, 3, shape) if spec.dtype.is_integer else rng.normal(size=shape)
        return tf.cast(tf.constant(values), spec.dtype)

    if model.inputs is None:
        return draw(tf.TensorSpec(model._build_input_shape))
    inputs = tf.nest.map_structure(draw, model._nested_inputs)
    return inputs[0] if isinstance(inputs, (list, tuple)) and len(inputs) == 1 else inputs


def outputs_of(model, inputs):
    return [np.asarray(tensor) for tensor in tf.nest.flatten(model(inputs, training=False))]


def worst_difference(before, after, inputs):
    pairs = zip(outputs_of(before, inputs), outputs_of(after, inputs), strict=True)
    return max(difference(expected, received) for expected, received in pairs)


@pytest.mark.parametrize(("name", "form"), _CASES, ids=lambda value: value)
def test_outputs_equal(name, form, tmp_path):
    old = randomize(LEGACY_ZOO[name]())
    new = load_model(old if form == "memory" else save(old, tmp_path, form))
    old.reset_states()
    assert isinstance(new, keras.Model)
    assert worst_difference(old, new, inputs_of(old)) <= (2e-3 if name == "half_precision" else 1e-5)


@pytest.mark.parametrize("name", sorted(set(LEGACY_ZOO) - {"lambdas", "activations", "stateful"}))
def test_ports_save_and_load_again(name, tmp_path):
    old = randomize(LEGACY_ZOO[name]())
    port = load_model(old)
    port.save(tmp_path / "port.keras")
    again = keras.models.load_model(tmp_path / "port.keras")
    inputs = inputs_of(old)
    for expected, received in zip(outputs_of(port, inputs), outputs_of(again, inputs), strict=True):
        np.testing.assert_array_equal(expected, received)


def test_old_model_is_left_as_it_is():
    old = randomize(LEGACY_ZOO["stateful"]())
    old(inputs_of(old))
    weights, states = old.get_weights(), [state.numpy() for state in old.layers[1].states]
    load_model(old)
    np.testing.assert_equal(old.get_weights(), weights)
    np.testing.assert_equal([state.numpy() for state in old.layers[1].states], states)


def test_names_sharing_nesting_and_freezing_are_kept():
    new = load_model(LEGACY_ZOO["siamese_with_frozen_base"]())
    assert isinstance(new.get_layer("base"), keras.Model) and isinstance(new.layers[-1], keras.Sequential)
    assert [layer.name for layer in new.layers].count("base") == 1
    assert not new.get_layer("base").trainable_weights and len(new.trainable_weights) == 4
    named = load_model(LEGACY_ZOO["named_inputs_and_outputs"]())
    assert set(named.input) == {"a", "b"} and set(named.output) == {"p", "q"}
    assert "block_shared" in [layer.name for layer in named.layers] and len(named.weights) == 8


def test_regularizers_and_policies_are_kept():
    convolution = load_model(LEGACY_ZOO["convolutional"]()).layers[0]
    assert isinstance(convolution.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(convolution.kernel_constraint, keras.constraints.NonNeg)
    half = load_model(LEGACY_ZOO["half_precision"]())
    assert (
        half.layers[1].dtype_policy.name == "mixed_float16" and half.layers[-1].dtype_policy.name == "float32"
    )


def test_keras_2_hard_sigmoid_keeps_its_slope(tmp_path):
    old = tf_keras.Sequential([layers.Input((3,)), layers.Activation("hard_sigmoid")])
    new = load_model(save(old, tmp_path, "h5"))
    np.testing.assert_allclose(new(np.array([[-3.0, 1.0, 2.4]])), [[0.0, 0.7, 0.98]], atol=1e-6)


def test_compile_settings_are_kept():
    old = tf_keras.Sequential([layers.Input((5,)), layers.Dense(3)])
    rate = tf_keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    old.compile(tf_keras.optimizers.AdamW(rate, weight_decay=0.01, clipnorm=1.0), loss, metrics=["accuracy"])
    new = load_model(old)
    assert new.compiled and new.optimizer.weight_decay == 0.01 and new.optimizer.clipnorm == 1.0
    schedule = new.optimizer._learning_rate
    assert isinstance(schedule, keras.optimizers.schedules.ExponentialDecay) and schedule.decay_steps == 10
    x, y = np.random.default_rng(0).normal(size=(8, 5)), np.arange(8) % 3
    np.testing.assert_allclose(new.evaluate(x, y, verbose=0), old.evaluate(x, y, verbose=0), rtol=1e-5)
    new.fit(x, y, verbose=0)


def test_the_optimizers_of_old_files_are_kept():
    old = tf_keras.Sequential([layers.Input((5,)), layers.Dense(3)])
    old.compile(tf_keras.optimizers.legacy.Adam(0.25), "mse")
    assert float(load_model(old).optimizer.learning_rate) == 0.25


def test_a_loss_keras_3_does_not_have_leaves_the_port_uncompiled():
    old = tf_keras.Sequential([layers.Input((5,)), layers.Dense(3)])
    old.compile("adam", type("Odd", (tf_keras.losses.Loss,), {"call": lambda self, a, b: a - b})())
    assert not load_model(old).compiled


def test_a_wrong_port_names_the_first_layer_that_differs():
    old = tf_keras.Sequential(
        [layers.Input((4,)), layers.Dense(4), layers.Dense(3, name="odd"), layers.Dense(2)]
    )
    port = Port()
    new = port_model(old, port)
    new.get_layer("odd").kernel.assign(np.zeros((4, 3)))
    with pytest.raises(UnsupportedModelError, match="something else from layer 'odd' on"):
        check_port(old, new, port)


def test_a_subclassed_model_says_how_it_can_be_exported():
    class Plain(tf_keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(UnsupportedModelError, match=r"subclassed Plain.*export_tflite"):
        load_model(Plain())


def test_an_unbuilt_model_says_what_to_do():
    with pytest.raises(UnsupportedModelError, match="never built"):
        load_model(tf_keras.Sequential([layers.Dense(2)]))


def test_a_layer_keras_3_no_longer_has_is_named():
    old = tf_keras.Sequential([layers.Input((8, 3)), layers.LocallyConnected1D(2, 3, name="local")])
    with pytest.raises(UnsupportedModelError, match=r"Layer 'local' is a LocallyConnected1D"):
        load_model(old)


def test_a_call_that_touches_files_is_refused():
    x = layers.Input((), dtype=tf.string)
    with pytest.raises(UnsupportedModelError, match=r"io\.decode_raw"):
        load_model(tf_keras.Model(x, tf.io.decode_raw(x, tf.uint8)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny", "InceptionV3"],
)
def test_applications(name):
    size = 96 if name == "InceptionV3" else 64
    old = getattr(tf_keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=5)
    assert worst_difference(old, load_model(old), inputs_of(old)) <= 1e-5
