import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.distillation import SelfDistillation
from tfsqueeze.distillation.exit_places import narrow_places, regular_places

CROSS_ENTROPY = "sparse_categorical_crossentropy"


def fitted(model, x, y, optimizer="sgd", loss=CROSS_ENTROPY, run_eagerly=True, **options):
    model.compile(optimizer, loss, run_eagerly=run_eagerly)
    return model.fit(x, y, batch_size=16, verbose=0, **options).history


def residual_net():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
    for index in range(3):
        y = layers.Conv2D(8, 3, padding="same", name=f"conv{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(layers.Add(name=f"sum{index}")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="head")(x), name="residual_net")


def test_exits_come_where_everything_goes_through():
    names = [path for path, _ in narrow_places(residual_net())]
    assert names == ["stem", *[f"{kind}{i}" for i in range(3) for kind in ("sum", "relu")], "pool", "head"]
    nested = [path for path, _ in narrow_places(ZOO["nested"]())]
    assert nested[:2] == ["backbone/inner_conv", "backbone/leaky_re_lu"]
    assert "neck/neck_conv" in nested


def test_exits_are_spread_over_the_computation():
    assert regular_places(residual_net(), 2) == ["relu0", "relu1"]
    assert regular_places(residual_net(), 1) in (["relu0"], ["relu1"])
    assert len(set(regular_places(residual_net(), 4))) == 4
    with pytest.raises(ValueError, match=r"has 4 places for exits.*Received: exits=9"):
        regular_places(residual_net(), 9)


def test_the_loss_is_that_of_the_paper():
    x, y = images(16)
    weights = np.linspace(0, 2, 16).astype("float32")
    model = residual_net()
    own = SelfDistillation(
        model, ["relu0", "relu1"], hints="pool", hint_weight=0.5, alpha=0.25, temperature=2.0
    )
    end, answers, features, (hint,) = own(x, training=False, with_exits=True)
    for bottleneck in own.bottlenecks:
        bottleneck.layers[1].trainable = False
    logs = fitted(own, x, y, keras.optimizers.SGD(0.0), sample_weight=weights)

    def hard(p):
        return (weights * -np.log(np.asarray(p)[np.arange(16), y])).mean()

    def soft(p):
        p, q = (np.sqrt(values) / np.sqrt(values).sum(-1, keepdims=True) for values in (np.asarray(end), p))
        return 4 * (weights * (p * np.log(p / q)).sum(-1)).mean()

    expected = hard(end)
    for (answer,), value in zip(answers, features, strict=True):
        answer, value = np.asarray(answer), np.asarray(value)
        hinted = (weights * ((value - np.asarray(hint)) ** 2).mean(-1)).mean()
        expected += 0.75 * hard(answer) + 0.25 * soft(answer) + 0.5 * hinted
    np.testing.assert_allclose(logs["loss"], [expected], rtol=1e-3)
    np.testing.assert_allclose(logs["relu1_loss"], [hard(answers[1][0])], rtol=1e-3)


def test_the_end_is_taught_by_labels_alone():
    x, y = images(16)
    taught, plain = residual_net(), residual_net()
    plain.set_weights(taught.get_weights())
    own = SelfDistillation(taught, ["relu1"], alpha=1.0)
    fitted(own, x, y, keras.optimizers.SGD(0.1))
    fitted(plain, x, y, keras.optimizers.SGD(0.1))
    last = [model.get_layer("head").kernel.numpy() for model in (taught, plain)]
    np.testing.assert_allclose(*last, rtol=1e-4, atol=1e-6)
    assert (taught.get_layer("stem").kernel.numpy() != plain.get_layer("stem").kernel.numpy()).any()
    np.testing.assert_array_equal(own.predict(x, verbose=0), taught.predict(x, verbose=0))


@pytest.mark.slow
def test_a_model_can_end_at_an_exit(tmp_path):
    x, y = images(32)
    own = SelfDistillation(residual_net(), 2)
    assert own.exits == ["relu0", "relu1"]
    own.compile("adam", CROSS_ENTROPY, metrics=["accuracy"])
    logs = own.fit(x, y, epochs=2, validation_data=(x, y), verbose=0).history
    assert {"relu0_loss", "relu1_loss", "accuracy", "val_accuracy"} <= set(logs)
    short = own.ending_at("relu0")
    _, answers, *_ = own(x, training=False, with_exits=True)
    np.testing.assert_allclose(short(x), answers[0][0], rtol=1e-5)
    names = [layer.name for layer in short.layers]
    assert "stem" in names
    assert not {"conv1", "conv2", "pool"} & set(names)
    assert short.output_names == own.student.output_names
    scores = short.evaluate(x, y, verbose=0, return_dict=True)
    assert scores.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose(logs["val_relu0_loss"][-1], scores["loss"], rtol=1e-3)
    short.save(tmp_path / "short.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "short.keras")(x), short(x))
    with pytest.raises(ValueError, match=r"no exit at 'relu2'. Did you mean 'relu"):
        own.ending_at("relu2")


def test_all_is_saved_and_loaded(tmp_path):
    x, y = images(16)
    alpha = tfs.schedules.Polynomial(0.9, 0.1, 0, 10)
    own = SelfDistillation(residual_net(), ["relu0"], hints="pool", alpha=alpha, bottleneck=flattening)
    fitted(own, x, y)
    own.save(tmp_path / "own.keras")
    again = keras.models.load_model(tmp_path / "own.keras")
    first, second = own(x, with_exits=True), again(x, with_exits=True)
    keras.tree.map_structure(np.testing.assert_array_equal, first, second)
    assert own.get_config()["alpha"] == again.get_config()["alpha"]
    logs = [model.fit(x, y, shuffle=False, verbose=0).history["loss"] for model in (own, again)]
    np.testing.assert_allclose(*logs, rtol=1e-5)


def flattening(shape):
    """A bottleneck of the user's, of another width than the hints."""
    return keras.Sequential([keras.Input(shape[1:]), layers.Flatten(), layers.Dense(5, activation="relu")])


@pytest.mark.parametrize("name", ["nested", "multi_output", "decoder", "recurrent", "attention", "depthwise"])
def test_models_of_every_kind_teach_themselves(name):
    model = ZOO[name]()
    x, y = zoo_inputs(model, 8), zoo_targets(model, 8)
    own = SelfDistillation(model, 1)
    loss = "mse" if name in ("attention", "multi_output") else "binary_crossentropy"
    y = y if loss == "mse" else np.abs(y) / np.abs(y).sum(-1, keepdims=True)
    logs = fitted(own, x, y, loss=loss)
    assert np.isfinite(logs["loss"]).all()
    short = own.ending_at(own.exits[0])
    assert short.count_params() < own.count_params()
    keras.tree.map_structure(lambda a, b: np.testing.assert_equal(a.shape, b.shape), short(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"jit_compile": True}, {"steps_per_execution": 2}], ids=str)
def test_compiled_steps(options):
    x, y = images(32)
    own = SelfDistillation(residual_net(), ["relu0"], hints="pool")
    own.compile("adam", CROSS_ENTROPY, **options)
    assert np.isfinite(own.fit(x, y, batch_size=16, verbose=0).history["loss"]).all()


def test_mixed_precision_and_loss_scaling():
    x, y = images(32)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        own = SelfDistillation(residual_net(), ["relu0"])
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(fitted(own, x, y)["loss"]).all()


@pytest.mark.slow
def test_mirrored_training_is_that_of_one_device(mirrored):
    x, y = images(32)

    def train(scope):
        keras.utils.set_random_seed(3)
        with scope:
            own = SelfDistillation(residual_net(), ["relu0"], bottleneck=flattening, hints="pool")
            own.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY)
        logs = own.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
        return logs, own.student.get_weights()

    (logs, weights), (expected, others) = train(mirrored.scope()), train(keras.name_scope("plain"))
    np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-3)
    for first, second in zip(weights, others, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)


def test_callbacks_reach_the_plain_model():
    x, y = images(32)
    own = SelfDistillation(residual_net(), ["relu0"])
    fitted(own, x, y, callbacks=[tfs.PruningCallback(0.5)])
    kernel = own.student.get_layer("conv2").kernel.numpy()
    assert (kernel == 0).sum() == kernel.size // 2


def test_bad_settings_are_refused():
    model = convnet()
    with pytest.raises(ValueError, match=r"has no layer 'conv3' in its graph. Did you mean 'conv"):
        SelfDistillation(model, ["conv3"])
    for exits in (0, [], True, ["conv1", "conv1"]):
        with pytest.raises(ValueError, match="`exits` is a number of exits >= 1, or a list"):
            SelfDistillation(model, exits)
    with pytest.raises(ValueError, match=r"`hint_weight` must be a number >= 0. Received: hint_weight=-1"):
        SelfDistillation(model, ["conv1"], hint_weight=-1)
    with pytest.raises(ValueError, match=r"`alpha` is the weight"):
        SelfDistillation(model, ["conv1"], alpha=2)
    with pytest.raises(tfs.UnsupportedModelError, match="needs the graph"):
        SelfDistillation(ZOO["subclassed"]())
    own = SelfDistillation(rewrite(model), ["conv1"])
    own.compile("sgd", CROSS_ENTROPY, run_eagerly=True)
    with pytest.raises(ValueError, match="needs labels"):
        own.fit(images(4)[0], verbose=0)
    x = keras.Input((4, 6))
    sequence = keras.Model(x, layers.Dense(2)(layers.Conv1D(3, 2)(layers.Conv1D(3, 2, name="first")(x))))
    with pytest.raises(ValueError, match=r"An exit at 'first' has features of shape .*Give `bottleneck`"):
        SelfDistillation(sequence, ["first"])
