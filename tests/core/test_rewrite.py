"""The identity rewrite is exact; replacing changes what was asked and nothing else."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import GRAPH_ZOO, ZOO, Perceptron, zoo_inputs, zoo_targets
from tfsqueeze.core.rewrite import rewrite


def assert_equal_outputs(first, second):
    keras.tree.map_structure(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("name", ZOO)
def test_identity_is_bit_exact(name):
    model = ZOO[name]()
    twin = rewrite(model)
    inputs = zoo_inputs(model)
    assert_equal_outputs(model(inputs), twin(inputs))
    assert_equal_outputs(model(inputs, training=True), twin(inputs, training=True))
    assert type(twin) is type(model)


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_identity_keeps_configuration(name):
    model = ZOO[name]()
    twin = rewrite(model)
    assert json.dumps(twin.get_config(), default=str) == json.dumps(model.get_config(), default=str)
    assert [w.shape for w in twin.weights] == [w.shape for w in model.weights]


@pytest.mark.parametrize("name", ZOO)
def test_identity_survives_saving(name, tmp_path):
    model = ZOO[name]()
    twin = rewrite(model)
    twin.save(tmp_path / "twin.keras")
    loaded = keras.models.load_model(tmp_path / "twin.keras")
    inputs = zoo_inputs(model)
    assert_equal_outputs(model(inputs), loaded(inputs))


@pytest.mark.parametrize("name", ZOO)
def test_the_original_is_untouched(name):
    model = ZOO[name]()
    inputs, before = zoo_inputs(model), [w.numpy().copy() for w in model.weights]
    config, output = json.dumps(model.get_config(), default=str), model(inputs)
    twin = rewrite(model)
    for weight in twin.weights:
        weight.assign(weight * 0 + 1)
    assert_equal_outputs(before, [w.numpy() for w in model.weights])
    assert json.dumps(model.get_config(), default=str) == config
    assert_equal_outputs(output, model(inputs))


def test_shared_layers_stay_shared():
    twin = rewrite(ZOO["shared"]())
    assert len([layer for layer in twin.layers if layer.name == "tower"]) == 1
    assert len(twin.get_layer("tower")._inbound_nodes) == 2


def test_a_model_nested_twice_stays_one_model():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3)], name="inner")
    x = keras.Input((3,))
    model = keras.Model(x, inner(inner(x)))
    twin = rewrite(model)
    assert len(twin.trainable_weights) == 2
    np.testing.assert_array_equal(model(np.eye(3)), twin(np.eye(3)))


def test_trainable_flags_and_dtype_policies_are_kept():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, dtype="mixed_bfloat16", name="low"),
            layers.Dense(3, name="frozen"),
            layers.Dense(2, name="partly"),
        ]
    )
    model.get_layer("frozen").trainable = False
    model.get_layer("partly").bias.trainable = False
    twin = rewrite(model)
    assert twin.get_layer("low").dtype_policy.name == "mixed_bfloat16"
    assert [w.trainable for w in twin.weights] == [w.trainable for w in model.weights]
    assert [w.path for w in twin.trainable_weights] == [w.path for w in model.trainable_weights]


def test_a_flag_inside_a_composite_layer_is_kept():
    model = ZOO["attention"]()
    model.get_layer("attention")._query_dense.trainable = False
    assert not rewrite(model).get_layer("attention")._query_dense.trainable
    assert rewrite(model).get_layer("attention")._key_dense.trainable


def test_frozen_nested_model_is_kept():
    model = ZOO["nested"]()
    model.get_layer("backbone").trainable = False
    twin = rewrite(model)
    assert len(twin.trainable_weights) == len(model.trainable_weights)


def test_compile_settings_are_kept_and_optimizer_state_is_fresh():
    model = ZOO["residual"]()
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 100)

    def closeness(y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred))

    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9),
        loss=lambda y_true, y_pred: keras.ops.mean(keras.ops.square(y_true - y_pred), -1),
        metrics=[closeness, keras.metrics.MeanAbsoluteError(name="distance")],
        jit_compile=False,
        steps_per_execution=2,
    )
    x, y = zoo_inputs(model, 8), zoo_targets(model, 8)
    model.fit(x, y, batch_size=4, verbose=0)
    twin = rewrite(model)
    assert twin.steps_per_execution == 2
    assert twin.optimizer is not model.optimizer and int(twin.optimizer.iterations) == 0
    assert twin.optimizer.get_config() == model.optimizer.get_config()
    np.testing.assert_array_equal(model.evaluate(x, y, verbose=0), twin.evaluate(x, y, verbose=0))
    twin.fit(x, y, batch_size=4, verbose=0)
    assert int(model.optimizer.iterations) == 2


def test_closures_and_unregistered_objects_are_carried_over():
    factor = np.float32(3.0)

    def triple(x):
        return x * factor

    class Halve(layers.Layer):
        def call(self, inputs):
            return inputs / 2

    class Small(keras.regularizers.Regularizer):
        def __call__(self, weights):
            return keras.ops.sum(weights) * 0.0

        def get_config(self):
            return {}

    x = keras.Input((3,))
    y = layers.Dense(3, activation=triple, kernel_regularizer=Small())(x)
    y = layers.Lambda(lambda t: t + factor)(Halve()(y))
    y = layers.Dense(2, activation=lambda t: keras.ops.relu(t) * factor)(y)
    model = keras.Model(x, y)
    inputs = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    np.testing.assert_array_equal(model(inputs), rewrite(model)(inputs))


def test_custom_train_step_is_kept():
    class Noisy(keras.Model):
        def train_step(self, data):
            return {**super().train_step(data), "custom": 1.0}

    x = keras.Input((3,))
    model = Noisy(x, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    twin = rewrite(model)
    assert type(twin) is Noisy
    assert "custom" in twin.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0).history


def test_lost_methods_are_announced():
    class Odd(keras.Model):
        def __init__(self, size):
            x = keras.Input((size,))
            super().__init__(x, layers.Dense(1)(x))

    with pytest.warns(UserWarning, match="constructor of Odd"):
        twin = rewrite(Odd(3))
    assert twin.input_shape == (None, 3)


def test_normalization_and_vocabulary_state_is_copied():
    normalize = layers.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(5, 3, (100, 2)))
    numbers = keras.Sequential([keras.Input((2,)), normalize, layers.Dense(1)])
    inputs = np.ones((3, 2), "float32")
    np.testing.assert_array_equal(numbers(inputs), rewrite(numbers)(inputs))

    lookup = layers.IntegerLookup()
    lookup.adapt(np.array([3, 7, 7, 9]))
    codes = keras.Sequential([keras.Input((1,), dtype="int64"), lookup])
    np.testing.assert_array_equal(codes(np.array([[7], [9], [1]])), rewrite(codes)(np.array([[7], [9], [1]])))


def test_fixed_batch_and_dynamic_sizes_are_kept():
    fixed = keras.Model(x := keras.Input(batch_shape=(2, None, None, 3)), layers.Conv2D(2, 3)(x))
    assert rewrite(fixed).input_shape == (2, None, None, 3)


def test_replacing_uses_new_layers_and_transfers_weights():
    model = ZOO["sequential"]()

    def widen(layer):
        return (
            [layers.Dense(5, name="extra"), layers.Dense(4, name="head2")] if layer.name == "head" else None
        )

    moved = []
    twin = rewrite(model, widen, transfer=lambda old, new: moved.append((old.name, [n.name for n in new])))
    assert moved == [("head", ["extra", "head2"])]
    assert [layer.name for layer in twin.layers][-2:] == ["extra", "head2"]
    np.testing.assert_array_equal(twin.get_layer("conv2").kernel, model.get_layer("conv2").kernel)


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_replacing_reaches_nested_models_and_shared_layers_once(name):
    model = ZOO[name]()
    asked = []

    def scaled(layer):
        asked.append(layer)
        return layers.Dense(layer.units, name=layer.name) if type(layer) is layers.Dense else None

    twin = rewrite(model, scaled, transfer=lambda old, new: new[0].set_weights(old.get_weights()))
    assert len(asked) == len(set(map(id, asked)))
    replaced = [layer for layer in asked if type(layer) is layers.Dense]
    assert all(twin_layer(twin, layer).activation is keras.activations.linear for layer in replaced)


def twin_layer(twin, layer):
    return next(found for found in twin._flatten_layers() if found.name == layer.name)


def test_after_inserts_behind_layers_and_operations():
    model = ZOO["attention"]()
    seen = []

    def note(operation):
        seen.append(type(operation).__name__)
        return layers.Rescaling(2.0) if type(operation).__name__ == "Multiply" else None

    twin = rewrite(model, after=note)
    assert {"Mean", "Multiply", "Dense"} <= set(seen)
    inputs = zoo_inputs(model)
    head = model.get_layer("head")
    expected = (model(inputs) - head.bias) * 2 + head.bias
    np.testing.assert_allclose(twin(inputs), expected, rtol=1e-5, atol=1e-6)


def test_errors_name_the_layer_and_the_remedy():
    class Opaque(layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.held = function(1)

        def call(self, inputs):
            return inputs

        def get_config(self):
            raise NotImplementedError("no config")

    x = keras.Input((3,))
    with pytest.raises(tfs.UnsupportedModelError, match=r"'opaque' \(Opaque\) cannot be copied.*get_config"):
        rewrite(keras.Model(x, Opaque(lambda v: v)(x)))
    with pytest.raises(tfs.UnsupportedModelError, match="no weights yet"):
        rewrite(Perceptron())
    with pytest.raises(tfs.UnsupportedModelError, match="graph of a Sequential or Functional"):
        rewrite(ZOO["subclassed"](), lambda layer: None)
    with pytest.raises(TypeError, match=r"expects a `keras\.Model`"):
        rewrite("model.keras")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [n for n in dir(keras.applications) if n[0].isupper() and callable(getattr(keras.applications, n))],
)
def test_identity_on_every_application(name, monkeypatch):
    """Every architecture of `keras.applications`; weights are drawn cheaply, since there are billions."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05, 2**16).astype("float32")
    zeros = keras.initializers.Zeros()
    for kind in (keras.initializers.VarianceScaling, keras.initializers.RandomNormal):
        monkeypatch.setattr(kind, "__call__", lambda self, shape, dtype=None, **kwargs: zeros(shape, dtype))
    size = {"NASNetLarge": 331, "NASNetMobile": 224}.get(name, 96)
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(np.resize(noise, weight.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        twin = rewrite(model)
    inputs = rng.normal(size=(1, size, size, 3)).astype("float32")
    np.testing.assert_array_equal(model(inputs), twin(inputs))
    assert json.dumps(twin.get_config(), default=str) == json.dumps(model.get_config(), default=str)
