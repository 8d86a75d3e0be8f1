import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze import distillation as kd
from tfsqueeze.core.rewrite import rewrite

CROSS_ENTROPY = "sparse_categorical_crossentropy"


def fitted(distiller, x, y, optimizer="sgd", *, run_eagerly=True, jit_compile="auto", steps=1, **options):
    """Eager unless the compiled step is what is tested: tracing takes longer than a few small steps."""
    distiller.compile(
        optimizer,
        CROSS_ENTROPY,
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
        jit_compile=jit_compile,
        steps_per_execution=steps,
    )
    return distiller.fit(x, y, batch_size=16, verbose=0, **options)


def divergence(student, teacher, temperature):
    def soft(model):
        logits = np.log(model) / temperature
        e = np.exp(logits - logits.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    p, q = soft(teacher), soft(student)
    return temperature**2 * (p * np.log(p / q)).sum(-1)


def weights_of(model):
    return [variable.numpy() for variable in model.weights]


def assert_same(first, second, **tolerance):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def test_alpha_0_is_training_without_a_teacher():
    x, y = images()
    student = convnet(dropout=0.5)
    plain = keras.models.clone_model(student)
    plain.set_weights(student.get_weights())
    plain.compile("sgd", CROSS_ENTROPY, metrics=["accuracy"])
    expected = plain.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
    distiller = tfs.Distiller(student, convnet(8), alpha=0.0)
    history = fitted(distiller, x, y, epochs=2, shuffle=False).history
    assert_same(weights_of(student), weights_of(plain), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], expected["accuracy"])


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_the_loss_is_the_weighted_sum(alpha):
    x, y = images(16)
    weights = np.linspace(0, 2, 16).astype("float32")
    student, teacher = convnet(), convnet(8)
    predictions, targets = student(x, training=True).numpy(), teacher.predict(x, verbose=0)
    regularisation = float(sum(student.losses))
    distiller = tfs.Distiller(student, teacher, alpha=alpha, temperature=3.0)
    logs = fitted(distiller, x, y, sample_weight=weights).history
    soft = (weights * divergence(predictions, targets, 3.0)).mean()
    hard = (weights * -np.log(predictions[np.arange(16), y])).mean()
    np.testing.assert_allclose(logs["distillation_loss"], [soft], rtol=1e-3)
    np.testing.assert_allclose(logs["label_loss"], [hard], rtol=1e-4)
    np.testing.assert_allclose(logs["loss"], [(1 - alpha) * hard + alpha * soft + regularisation], rtol=1e-3)


def test_several_losses_are_weighted_and_logged_each():
    x, y = images(16)
    student, teacher = convnet(), convnet(8)
    losses = [
        kd.SoftTargets(),
        (kd.Features("conv2"), 0.1),
        (kd.RelationalDistance("pool"), 2),
        kd.SoftTargets(),
    ]
    logs = fitted(tfs.Distiller(student, teacher, losses, alpha=0.5), x, y).history
    parts = [logs[name][0] for name in ("soft_targets", "features", "relational_distance", "soft_targets_2")]
    np.testing.assert_allclose(logs["distillation_loss"][0], np.dot(parts, [1, 0.1, 2, 1]), rtol=1e-4)
    np.testing.assert_allclose(parts[0], parts[3])


class Counted(layers.Layer):
    """Counts how often it is called."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def counted(width):
    model = convnet(width)
    counter = Counted()
    return keras.Model(model.input, counter(model.output)), counter


def test_each_network_runs_once_per_step_and_the_teacher_only_in_training():
    x, y = images(32)
    (student, own), (teacher, other) = counted(4), counted(8)
    student_activation = {"student_activation": "softmax", "teacher_activation": "softmax"}
    losses = [kd.SoftTargets(), kd.Features("conv1"), kd.Features("conv2"), kd.RelationalAngle("pool")]
    distiller = tfs.Distiller(student, teacher, losses, **student_activation)
    distiller.compile("sgd", CROSS_ENTROPY, run_eagerly=True)
    distiller.fit(x[:16], y[:16], batch_size=16, verbose=0)
    own.calls = other.calls = 0
    distiller.fit(x, y, batch_size=16, verbose=0)
    assert (own.calls, other.calls) == (2, 2)
    distiller.evaluate(x, y, verbose=0)
    distiller.predict(x, verbose=0)
    assert other.calls == 2


def test_features_are_caught_without_changing_the_model():
    x, _ = images(4)
    student = convnet(dropout=0.5)
    nodes = [len(layer._inbound_nodes) for layer in student.layers]
    distiller = tfs.Distiller(student, convnet(8), kd.Features("conv1"))
    outputs, found = distiller(x, training=False, with_features=True)
    np.testing.assert_array_equal(outputs, student(x))
    expected = keras.Model(student.input, student.get_layer("conv1").output)(x)
    np.testing.assert_array_equal(found["conv1"], expected)
    assert [len(layer._inbound_nodes) for layer in student.layers][:2] == nodes[:2]


def test_features_inside_nested_models_are_found_by_path_or_name():
    model = ZOO["nested"]()
    teacher = rewrite(model)
    x = zoo_inputs(model)
    losses = [kd.Features("backbone/inner_conv"), kd.Features("neck_conv"), kd.Features("backbone")]
    distiller = tfs.Distiller(model, teacher, losses)
    outputs, found = distiller(x, training=False, with_features=True)
    np.testing.assert_allclose(outputs, model(x), rtol=1e-5)
    backbone = model.get_layer("backbone")
    np.testing.assert_allclose(
        found["backbone/inner_conv"],
        backbone.get_layer("inner_conv")(x["image"] if isinstance(x, dict) else x),
        rtol=1e-5,
    )
    assert found["backbone"].shape == (4, 6, 6, 4)


def test_the_teacher_stays_as_it_was():
    x, y = images()
    teacher = convnet(8, dropout=0.5)
    teacher.get_layer("conv1").trainable = False
    before, flags = weights_of(teacher), [layer.trainable for layer in teacher.layers]
    student = convnet()
    distiller = tfs.Distiller(student, teacher, [kd.SoftTargets(), kd.Features("conv2")])
    fitted(distiller, x, y, optimizer="adam", epochs=2)
    assert_same(weights_of(teacher), before)
    assert [layer.trainable for layer in teacher.layers] == flags
    adapters = distiller.adapters["features"].trainable_weights
    trained = [*student.trainable_weights, *adapters]
    assert [id(v) for v in distiller.trainable_variables] == [id(v) for v in trained]
    assert len(distiller.weights) == len(trained) + len(distiller.non_trainable_weights)


@pytest.mark.parametrize("name", list(ZOO))
def test_every_model_learns_from_its_copy_and_reloads(name, tmp_path):
    student = ZOO[name]()
    teacher = rewrite(student)
    x, y = zoo_inputs(student, 8), zoo_targets(student, 8)
    distiller = tfs.Distiller(student, teacher, alpha=0.5)
    distiller.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    before = weights_of(student)
    history = distiller.fit(x, y, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any((a != b).any() for a, b in zip(before, weights_of(student), strict=True))
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    for first, second in ((distiller, again), (distiller.student, again.student), (teacher, again.teacher)):
        keras.tree.map_structure(np.testing.assert_array_equal, first(x), second(x))


def test_all_losses_and_settings_survive_saving(tmp_path):
    x, y = images()
    schedule = keras.optimizers.schedules.PolynomialDecay(8.0, 10, 1.0)
    losses = [
        kd.SoftTargets(),
        (kd.Features("conv2"), 0.5),
        keras.distillation.LogitsDistillation(temperature=2.0),
        keras.distillation.FeatureDistillation("mse", "head", "head"),
    ]
    alpha = tfs.schedules.Polynomial(0.9, 0.1, 0, 10)
    distiller = tfs.Distiller(
        convnet(), convnet(8), losses, alpha=alpha, temperature=schedule, class_map=[2, 0, 1]
    )
    fitted(distiller, x, y, optimizer="adam")
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    assert_same(weights_of(distiller), weights_of(again))
    settings = ("losses", "alpha", "temperature", "class_map")
    first, second = distiller.get_config(), again.get_config()
    assert {name: first[name] for name in settings} == {name: second[name] for name in settings}
    first = distiller.fit(x, y, shuffle=False, verbose=0).history
    second = again.fit(x, y, shuffle=False, verbose=0).history
    assert first.keys() == second.keys()
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-5)
    again.student.save(tmp_path / "student.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "student.keras")(x), again.predict(x, verbose=0)
    )


FIT_SETTINGS = {
    "jit_compile": {"jit_compile": True, "run_eagerly": False},
    "steps_per_execution": {"steps": 2, "run_eagerly": False},
    "gradient accumulation": {"optimizer": lambda: keras.optimizers.Adam(gradient_accumulation_steps=2)},
    "ema": {"optimizer": lambda: keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=2)},
    "class_weight": {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}},
}


@pytest.mark.parametrize("setting", list(FIT_SETTINGS))
def test_training_options_of_keras_work(setting):
    options = dict(FIT_SETTINGS[setting])
    optimizer = options.pop("optimizer", lambda: keras.optimizers.Adam())()
    x, y = images()
    losses = [kd.SoftTargets(), kd.Features("conv2"), kd.SimilarityPreserving("pool")]
    alpha = tfs.schedules.Cosine(0.9, 0.1, 0, 4)
    distiller = tfs.Distiller(convnet(), convnet(8), losses, alpha=alpha)
    before = weights_of(distiller.student)
    logs = fitted(distiller, x, y, optimizer, validation_data=(x, y), **options).history
    assert np.isfinite(logs["loss"]).all()
    assert any((a != b).any() for a, b in zip(before, weights_of(distiller.student), strict=True))
    assert {"val_loss", "val_accuracy", "features"} <= set(logs)
    assert not {"val_features", "val_distillation_loss", "val_label_loss"} & set(logs)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_and_loss_scaling(policy):
    x, y = images()
    keras.config.set_dtype_policy(policy)
    try:
        student, teacher = convnet(), convnet(8)
    finally:
        keras.config.set_dtype_policy("float32")
    distiller = tfs.Distiller(student, teacher, [kd.SoftTargets(), kd.Features("conv2")])
    history = fitted(distiller, x, y, optimizer="adam", run_eagerly=False).history
    is_scaled = isinstance(distiller.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_scaled == (policy == "mixed_float16")
    assert np.isfinite(history["loss"]).all()
    assert "features" in history


@pytest.mark.slow
def test_mirrored_training_is_that_of_one_device(mirrored):
    x, y = images(32)

    def train(scope):
        keras.utils.set_random_seed(3)
        with scope:
            student, teacher = convnet(), convnet(8)
            losses = [kd.SoftTargets(), (kd.Features("conv1"), 0.5)]
            distiller = tfs.Distiller(student, teacher, losses, alpha=0.7)
            # Statistics of normalisation are each replica's own.
            student.get_layer("normalization").trainable = False
            distiller.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY, metrics=["accuracy"])
        logs = distiller.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0).history
        return logs, weights_of(student)

    logs, weights = train(mirrored.scope())
    expected, expected_weights = train(keras.name_scope("plain"))
    assert_same(weights, expected_weights, rtol=1e-3, atol=1e-5)
    for name in ("loss", "soft_targets", "features", "label_loss", "distillation_loss"):
        np.testing.assert_allclose(logs[name], expected[name], rtol=1e-3, err_msg=name)


def test_unlabelled_data_and_labelled_validation():
    x, y = images()
    distiller = tfs.Distiller(convnet(), convnet(8), alpha=1.0)
    distiller.compile("adam", CROSS_ENTROPY, metrics=["accuracy"], run_eagerly=True)
    logs = distiller.fit(x, batch_size=16, epochs=2, verbose=0, validation_data=(x, y)).history
    assert logs["distillation_loss"][1] < logs["distillation_loss"][0]
    assert "val_accuracy" in logs
    only = tfs.Distiller(convnet(), convnet(8))
    only.compile("adam", run_eagerly=True)
    only.fit(x, verbose=0)


def test_pruning_reaches_the_student():
    x, y = images()
    student = convnet()
    distiller = tfs.Distiller(student, convnet(8))
    fitted(distiller, x, y, callbacks=[tfs.PruningCallback(0.5)])
    kernel = student.get_layer("conv2").kernel.numpy()
    assert (kernel == 0).sum() == kernel.size // 2


def test_masked_positions_do_not_count():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True, name="embedding")(tokens)
    student = keras.Model(tokens, layers.Dense(3, name="head")(x))
    teacher = keras.models.clone_model(student)
    x = np.array([[1, 2, 0, 0, 0, 0], [3, 4, 5, 0, 0, 0]], "int32")
    s, t = student(x).numpy(), teacher(x).numpy()
    distiller = tfs.Distiller(student, teacher, [kd.LogitRegression(), kd.Features("embedding")], alpha=1.0)
    distiller.compile("sgd", run_eagerly=True)
    logs = distiller.fit(x, verbose=0).history
    expected = ((s - t) ** 2).mean(-1)[x != 0].mean()
    np.testing.assert_allclose(logs["logit_regression"], [expected], rtol=1e-4)
    features = [model.get_layer("embedding")(x).numpy() for model in (student, teacher)]
    assert logs["features"][0] > 0
    assert np.isfinite(features[0]).all()


def test_the_student_sees_its_own_losses():
    image = keras.Input((4,))
    x = layers.Dense(3, activity_regularizer="l2", kernel_regularizer="l1", name="d")(image)
    student = keras.Model(image, x)
    teacher = keras.models.clone_model(student)
    x = np.ones((4, 4), "float32")
    student(x)
    own = float(sum(student.losses))
    for losses in (None, kd.RelationalDistance("d")):
        distiller = tfs.Distiller(student, teacher, losses, alpha=1.0)
        distiller.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
        logs = distiller.fit(x, verbose=0).history
        np.testing.assert_allclose(logs["loss"][0] - logs["distillation_loss"][0], own, rtol=1e-4)


def test_loss_of_keras_distillation_is_the_same_as_there():
    x, y = images(16)
    student, teacher = convnet(activation=None), convnet(8, activation=None)
    loss = keras.distillation.LogitsDistillation(temperature=2.0, loss=keras.losses.KLDivergence())
    ours = tfs.Distiller(student, teacher, [loss, kd.SoftTargets(temperature=2.0)], alpha=1.0)
    ours.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = ours.fit(x, y, verbose=0).history
    np.testing.assert_allclose(logs["logits_distillation"], logs["soft_targets"], rtol=1e-2)
    direct = loss.compute_loss(teacher(x), student(x, training=True))
    np.testing.assert_allclose(logs["logits_distillation"][0], float(ops.mean(direct)), rtol=1e-3)


class Stop(keras.callbacks.Callback):
    """Interrupts the training when its third epoch begins."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_interrupted_training_resumes_to_the_same_place(tmp_path):
    x, y = images(32)
    initial = [convnet(), convnet(8)]

    def distiller():
        student, teacher = map(rewrite, initial)
        keras.utils.set_random_seed(1)
        alpha = tfs.schedules.Polynomial(0.9, 0.1, 0, 8)
        made = tfs.Distiller(student, teacher, [kd.SoftTargets(), kd.Features("conv2")], alpha=alpha)
        made.compile("adam", CROSS_ENTROPY, run_eagerly=True)
        return made

    def train(made, *callbacks):
        return made.fit(x, y, batch_size=16, epochs=4, shuffle=False, verbose=0, callbacks=list(callbacks))

    whole, first, second = distiller(), distiller(), distiller()
    train(whole)
    backup = [keras.callbacks.BackupAndRestore(tmp_path / "backup") for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        train(first, backup[0], Stop())
    train(second, backup[1])
    assert_same(weights_of(second.student), weights_of(whole.student), rtol=1e-4, atol=1e-6)
