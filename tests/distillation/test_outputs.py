import keras
import numpy as np
import pytest
from keras import layers, ops

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze import distillation as kd
from tfsqueeze.core.images import resize_images
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.distillation.output_pairs import outputs_of


def logs_of(distiller, *data, loss=None, **options):
    distiller.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    return {name: values[0] for name, values in distiller.fit(*data, verbose=0, **options).history.items()}


def ending(*tail):
    return keras.Sequential([keras.Input((4,)), layers.Dense(6), *tail])


@pytest.mark.parametrize(
    ("model", "activation"),
    [
        (ending(), "linear"),
        (ending(layers.Softmax()), "softmax"),
        (ending(layers.Activation("sigmoid")), "sigmoid"),
        (
            ending(layers.Dense(6, activation="softmax"), layers.Reshape((2, 3)), layers.Dropout(0.1)),
            "softmax",
        ),
        (ending(layers.ReLU()), "linear"),
        (
            ending(layers.Reshape((3, 2)), layers.TimeDistributed(layers.Dense(2, activation="softmax"))),
            "softmax",
        ),
        (ending(keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Softmax()])), "softmax"),
    ],
)
def test_activations_are_read_from_the_last_layers(model, activation):
    assert [output.activation for output in outputs_of(model)] == [activation]


def test_activations_of_operations_and_what_is_told():
    image = keras.Input((4,))
    model = keras.Model(image, ops.softmax(layers.Dense(3)(image)))
    assert outputs_of(model)[0].activation == "softmax"
    assert outputs_of(ZOO["subclassed"]())[0].activation == "linear"
    assert outputs_of(ZOO["subclassed"](), "softmax")[0].activation == "softmax"
    with pytest.raises(ValueError, match=r"`activation` must be one of .* Received: activation='softmx'"):
        outputs_of(model, "softmx")


class Ending(keras.Model):
    """A subclassed network whose end does not show from outside."""

    def __init__(self, end):
        super().__init__()
        self.head = layers.Dense(4)
        self.end = end

    def call(self, x):
        return self.end(self.head(x))


@pytest.mark.parametrize(
    ("end", "activation"),
    [(ops.softmax, "softmax"), (ops.sigmoid, "sigmoid"), (ops.relu, "linear"), (lambda x: x, "linear")],
)
def test_what_does_not_show_is_tried_out(end, activation):
    model = Ending(end)
    model(np.ones((2, 6)))
    x = keras.Input((6,))
    kinds = [outputs_of(one)[0].activation for one in (model, keras.Model(x, model(x)))]
    assert kinds == [activation, activation]
    as_function = keras.Model(x, layers.Dense(4, activation=lambda x: end(x))(x))
    assert outputs_of(as_function)[0].activation == activation


def test_averaged_probabilities_are_known_for_what_they_are():
    x = keras.Input((6,))
    both = [layers.Dense(3, activation="softmax")(x) for _ in range(2)]
    model = keras.Model(x, [layers.Average()(both), layers.Add()(both), layers.Dense(3, name="head")(x)])
    assert [output.activation for output in outputs_of(model)] == ["softmax", "linear", "linear"]


def test_logits_and_probabilities_teach_alike():
    x, _ = images()
    student, teacher = convnet(), convnet(8)
    logits = rewrite(
        teacher,
        lambda layer: layers.Dense(3, name="head") if layer.name == "head" else None,
        transfer=lambda old, new: new[0].set_weights(old.get_weights()),
    )
    results = [logs_of(tfs.Distiller(student, model), x)["distillation_loss"] for model in (teacher, logits)]
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4)


def test_class_map_reorders_and_selects_the_teachers_classes():
    x, _ = images()
    student, teacher = convnet(), convnet(8, classes=5)
    order = np.array([4, 0, 2])
    selected = rewrite(teacher)
    head = selected.get_layer("head")
    image = keras.Input((8, 8, 3))
    probabilities = selected(image)
    chosen = ops.take(probabilities, order, axis=-1)
    twin = keras.Model(image, chosen / ops.sum(chosen, axis=-1, keepdims=True))
    expected = logs_of(tfs.Distiller(student, twin, teacher_activation="softmax"), x)["distillation_loss"]
    found = logs_of(tfs.Distiller(student, teacher, class_map=order), x)["distillation_loss"]
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert tfs.Distiller(student, teacher, class_map=order).get_config()["class_map"] == [4, 0, 2]
    assert head.units == 5
    with pytest.raises(ValueError, match=r"index of the teacher's class, from 0 to 4. Received: \[0, 5, 1\]"):
        tfs.Distiller(student, teacher, class_map=[0, 5, 1])


def test_networks_of_other_input_sizes_and_dtypes():
    x, y = images(size=8)
    student, teacher = convnet(size=8), convnet(8, size=12)
    expected = teacher(resize_images(x, (12, 12))).numpy()
    direct = kd.Comparison(student(x, training=True), expected, "softmax", "softmax", 4.0)
    loss = float(ops.mean(kd.SoftTargets().compare(direct)))
    logs = logs_of(tfs.Distiller(student, teacher, [kd.SoftTargets(), kd.Features("conv1")]), x)
    np.testing.assert_allclose(logs["soft_targets"], loss, rtol=1e-3)
    distiller = tfs.Distiller(student, teacher)
    large = np.asarray(ops.image.resize(x, (12, 12)))
    np.testing.assert_allclose(
        distiller.predict(large, verbose=0), student(resize_images(large, (8, 8))), rtol=1e-4, atol=1e-5
    )
    assert np.isfinite(
        logs_of(distiller, (x * 20).astype("uint8"), y, loss="sparse_categorical_crossentropy")["loss"]
    )


def test_segmentations_of_other_sizes_are_resized():
    def net(size):
        image = keras.Input((size, size, 3))
        return keras.Model(image, layers.Conv2D(4, 3, padding="same", activation="softmax")(image))

    x, _ = images(4)
    logs = logs_of(tfs.Distiller(net(8), net(16)), x)
    assert np.isfinite(logs["distillation_loss"])


def two_outputs(width, name=None):
    x = keras.Input((5,))
    y = layers.Dense(width, activation="relu")(x)
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(y),
        "box": layers.Dense(4, name="box")(y),
    }
    return keras.Model(x, outputs, name=name)


def as_list(model):
    return keras.Model(model.input, [model.output["kind"], model.output["box"]])


LOSSES = {"kind": "sparse_categorical_crossentropy", "box": "mse"}


@pytest.mark.parametrize("form", ["dict", "list"])
def test_each_output_learns_in_its_own_way_under_its_own_alpha(form):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5)).astype("float32")
    y = {"kind": rng.integers(0, 3, 8), "box": rng.normal(size=(8, 4)).astype("float32")}
    student, teacher = two_outputs(4), two_outputs(8)
    s, t = student(x), teacher(x)
    soft = kd.SoftTargets().compare(kd.Comparison(s["kind"], t["kind"], "softmax", "softmax", 4.0))
    squared = ops.mean(ops.square(s["box"] - t["box"]))
    hard = {name: float(ops.mean(keras.losses.get(LOSSES[name])(y[name], s[name]))) for name in y}
    if form == "list":
        student, teacher = as_list(student), as_list(teacher)
        y, loss = [y["kind"], y["box"]], [LOSSES["kind"], LOSSES["box"]]
    else:
        loss = LOSSES
    distiller = tfs.Distiller(student, teacher, alpha={"kind": 0.25, "box": 1.0})
    logs = logs_of(distiller, x, y, loss=loss)
    expected = 0.75 * hard["kind"] + 0.25 * float(ops.mean(soft)) + float(squared)
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(logs["distillation_loss"], float(ops.mean(soft) + squared), rtol=1e-4)
    np.testing.assert_allclose(logs["label_loss"], sum(hard.values()), rtol=1e-4)


def test_a_loss_of_one_output_leaves_the_others_alone():
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    student, teacher = two_outputs(4), two_outputs(8)
    logs = logs_of(tfs.Distiller(student, teacher, [kd.Regression("box"), kd.SoftTargets("kind")]), x)
    squared = ops.mean(ops.square(student(x)["box"] - teacher(x)["box"]))
    np.testing.assert_allclose(logs["regression"], float(squared), rtol=1e-4)
    with pytest.raises(ValueError, match=r"names the output 'boxes'.*Did you mean 'box'\?"):
        tfs.Distiller(student, teacher, kd.Regression("boxes"))
    with pytest.raises(ValueError, match=r"`alpha` has no entry for the outputs \['box'\]"):
        tfs.Distiller(student, teacher, alpha={"kind": 0.5})


def test_sample_weights_by_output():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 5)).astype("float32")
    y = {"kind": rng.integers(0, 3, 8), "box": rng.normal(size=(8, 4)).astype("float32")}
    weights = {"kind": np.zeros(8, "float32"), "box": np.full(8, 2, "float32")}
    student, teacher = two_outputs(4), two_outputs(8)
    distiller = tfs.Distiller(student, teacher, alpha=1.0)
    logs = logs_of(distiller, x, y, loss=LOSSES, sample_weight=weights)
    squared = ops.mean(ops.square(student(x)["box"] - teacher(x)["box"]))
    np.testing.assert_allclose(logs["loss"], 2 * float(squared), rtol=1e-4)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(
        ValueError, match=r"'head' of the student has shape \(None, 3\).*\(None, 5\).*class_map"
    ):
        tfs.Distiller(convnet(), convnet(classes=5))
    with pytest.raises(ValueError, match=r"teacher .* has no layer 'conv3' in its graph. Did you mean 'conv"):
        tfs.Distiller(convnet(), convnet(8), kd.Features("conv2", "conv3"))
    with pytest.raises(ValueError, match=r"student has outputs \['head'\], the teacher \['box', 'kind'\]"):
        tfs.Distiller(convnet(), two_outputs(4))
    subclassed = ZOO["subclassed"]()
    with pytest.raises(tfs.UnsupportedModelError, match=r"student 'subclassed' is a subclassed Perceptron"):
        tfs.Distiller(subclassed, rewrite(subclassed), kd.Features("hidden"))
    model = convnet()
    with pytest.raises(ValueError, match="Student and teacher are the same model"):
        tfs.Distiller(model, model)
    with pytest.raises(TypeError, match=r"expects a `keras.Model`"):
        tfs.Distiller(model, "teacher.keras")
    with pytest.raises(ValueError, match=r"`temperature` must be a number > 0. Received: temperature=0"):
        tfs.Distiller(model, convnet(8), temperature=0)
    with pytest.raises(ValueError, match=r"`alpha` is the weight .* in \[0, 1\].*Received: alpha=1.5"):
        tfs.Distiller(model, convnet(8), alpha=1.5)
    with pytest.raises(TypeError, match="`losses` takes one loss or a list"):
        tfs.Distiller(model, convnet(8), "kl")
    with pytest.raises(ValueError, match=r"weight of SoftTargets.* must be a number >= 0"):
        tfs.Distiller(model, convnet(8), [(kd.SoftTargets(), -1)])


def test_relations_work_between_any_outputs_and_subclassed_models():
    subclassed = ZOO["subclassed"]()
    x = zoo_inputs(subclassed, 8)
    teacher = keras.Sequential([keras.Input((6,)), layers.Dense(12)])
    logs = logs_of(tfs.Distiller(subclassed, teacher, kd.RelationalDistance()), x)
    assert logs["relational_distance"] > 0


def test_a_teacher_at_chance_is_warned_of():
    x, y = images(300)
    teacher = convnet(8)
    teacher.get_layer("head").set_weights([np.zeros((8, 3)), np.array([1.0, 0, 0])])
    with pytest.warns(UserWarning, match=r"teacher .* no better than chance among 3 classes"):
        logs_of(tfs.Distiller(convnet(), teacher), x, y, loss="sparse_categorical_crossentropy")


def test_a_teacher_that_knows_is_not(recwarn):
    x, _ = images(300)
    teacher = convnet(8)
    known = teacher.predict(x, verbose=0).argmax(1)
    for labels in (known, np.eye(3)[known]):
        loss = "categorical_crossentropy" if labels.ndim == 2 else "sparse_categorical_crossentropy"
        logs_of(tfs.Distiller(convnet(), teacher), x, labels, loss=loss)
    assert not [warning for warning in recwarn if "chance" in str(warning.message)]


def multi_label(count, rng):
    """A network of five independent answers, with inputs."""
    x = keras.Input((6,))
    answers = layers.Dense(5, activation="sigmoid", name="tags")(x)
    return keras.Model(x, answers), rng.normal(size=(count, 6)).astype("float32")


@pytest.mark.parametrize("knows", [True, False])
def test_teachers_of_many_answers_are_checked(knows, recwarn):
    rng = np.random.default_rng(0)
    teacher, x = multi_label(200, rng)
    truth = (teacher.predict(x, verbose=0) > 0.5).astype("float32")
    y = truth if knows else rng.permutation(truth)
    student, _ = multi_label(1, rng)
    logs_of(tfs.Distiller(student, teacher), x, y, loss="binary_crossentropy")
    warned = [str(warning.message) for warning in recwarn if "chance among 2 classes" in str(warning.message)]
    assert bool(warned) is not knows


def test_each_output_of_a_teacher_is_checked(recwarn):
    rng = np.random.default_rng(0)

    def net():
        x = keras.Input((6,))
        heads = {"kind": layers.Dense(4, activation="softmax", name="kind")(x)}
        heads["sort"] = layers.Dense(4, name="sort")(x)
        heads["box"] = layers.Dense(4, name="box")(x)
        return keras.Model(x, heads)

    student, teacher = net(), net()
    x = rng.normal(size=(300, 6)).astype("float32")
    answers = teacher.predict(x, verbose=0)
    y = {"kind": answers["kind"].argmax(1), "sort": rng.integers(0, 4, 300), "box": answers["box"]}
    # What is to be ignored is no mistake.
    y["kind"][:250] = -1
    losses = {
        "kind": keras.losses.SparseCategoricalCrossentropy(ignore_class=-1),
        "sort": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "box": lambda truth, guess: ops.mean(ops.abs(truth - guess), axis=-1),
    }
    logs_of(tfs.Distiller(student, teacher), x, y, loss=losses)
    warned = [str(warning.message) for warning in recwarn if "chance" in str(warning.message)]
    assert len(warned) == 1
    assert "('sort') is right on" in warned[0]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: tfs.Distiller(m, convnet(), class_map=3), ValueError, r"`class_map` lists.*Received: 3"),
        (lambda m: kd.Regression(margin="small"), ValueError, r"`margin` must be a number >= 0 or None"),
        (lambda m: kd.AttentionTransfer("a", power="two"), ValueError, r"`power` must be a number > 0"),
        (lambda m: kd.Teachers(m), TypeError, r"Teachers\(\) takes a list of models"),
        (lambda m: kd.MutualLearning(m), TypeError, r"MutualLearning\(\) takes a list of models"),
        (lambda m: kd.teach_in_turn(m, 0.5, print), TypeError, r"list of models and widths. Received: 0.5"),
        (lambda m: tfs.Distiller(m, convnet(), alpha={"head": 2}), ValueError, r"`alpha` is the weight"),
        (lambda m: tfs.Distiller(m, keras.Sequential([layers.Dense(3)])), ValueError, "needs a built model"),
    ],
)
def test_wrong_arguments_are_told(make, error, message):
    with pytest.raises(error, match=message):
        make(convnet())
