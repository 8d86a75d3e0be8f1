import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfsqueeze as tfs
from tests.distillation.networks import convnet, images
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze import distillation as kd
from tfsqueeze.distillation import SoftLabels


def flip(image, seed):
    return tf.image.stateless_random_flip_left_right(image, seed)


def logits_of(teacher, x):
    return np.log(teacher.predict(x, verbose=0))


def by_example(dataset):
    """Rows of a dataset in order: inputs, and a dict of labels and the teacher's logits."""
    batches = [(x, {**y, "teacher": y["teacher"]["outputs"][0]}) for x, y in dataset]
    names = batches[0][1]
    targets = {name: np.concatenate([y[name] for _, y in batches]) for name in names}
    return np.concatenate([x for x, _ in batches]), targets


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
def test_what_is_stored_is_what_the_teacher_says(tmp_path, dtype, tolerance):
    x, y = images(50)
    teacher = convnet(8)
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype=dtype)
    found, targets = by_example(labels.dataset(x, y, batch_size=16, shuffle=False))
    np.testing.assert_array_equal(found, x)
    np.testing.assert_array_equal(targets["labels"], y)
    np.testing.assert_allclose(targets["teacher"], logits_of(teacher, x), atol=tolerance)
    shuffled, _ = by_example(labels.dataset(x, y, seed=3))
    again, _ = by_example(labels.dataset(x, y, seed=3))
    np.testing.assert_array_equal(shuffled, again)
    assert (shuffled != x).any()


def test_top_classes_keep_their_probabilities(tmp_path):
    x, _ = images(20)
    teacher = convnet(8, classes=6)
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32", top_k=2)
    found = np.exp(labels.logits(np.arange(20)))
    expected = teacher.predict(x, verbose=0)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-4)
    top = np.argsort(-expected, axis=-1)[:, :2]
    np.testing.assert_allclose(
        np.take_along_axis(found, top, -1), np.take_along_axis(expected, top, -1), rtol=1e-4
    )
    size = sum(file.stat().st_size for file in (tmp_path / "labels").glob("*.bin"))
    assert size == 20 * (2 * 4 + 2 * 4 + 8)


@pytest.mark.slow
def test_training_from_the_store_is_training_from_the_teacher(tmp_path):
    x, y = images(32)
    teacher, results = convnet(8), []
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32")
    for source in (teacher, labels):
        keras.utils.set_random_seed(5)
        distiller = tfs.Distiller(convnet(), source, alpha=0.7)
        distiller.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        data = (x, y) if source is teacher else (labels.dataset(x, y, batch_size=16, shuffle=False),)
        logs = distiller.fit(
            *data,
            batch_size=None if source is labels else 16,
            shuffle=False,
            epochs=2,
            validation_data=(x, y),
            verbose=0,
        ).history
        results.append((logs, distiller))
    for name, values in results[0][0].items():
        np.testing.assert_allclose(results[1][0][name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    distiller = results[1][1]
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    again.fit(labels.dataset(x, batch_size=16), verbose=0)
    with pytest.raises(ValueError, match=r"fit on `labels.dataset"):
        distiller.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        distiller.fit(x, y, verbose=0)


def test_weights_of_classes_are_those_of_their_examples(tmp_path):
    x, y = images(24)
    by_class = {0: 0.5, 1: 2.0, 2: 3.0}
    labels, logs = SoftLabels.write(tmp_path / "labels", convnet(8), x), []
    weights = np.vectorize(by_class.get)(y).astype("float32")
    for sample_weight, class_weight in ((weights, None), (None, by_class)):
        keras.utils.set_random_seed(5)
        distiller = tfs.Distiller(convnet(), labels)
        distiller.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        data = labels.dataset(x, y, sample_weight=sample_weight, batch_size=12, shuffle=False)
        logs.append(distiller.fit(data, class_weight=class_weight, verbose=0).history)
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="`class_weight` needs the labels"):
        distiller.fit(labels.dataset(x, batch_size=12), class_weight=by_class, verbose=0)


def test_augmentation_is_repeated_exactly(tmp_path):
    x, y = images(12)
    teacher = convnet(8)
    written = {"augment": flip, "epochs": 2, "seed": 7}
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32", **written)
    assert labels.count == 12
    found, targets = by_example(labels.dataset(x, y, augment=flip, shuffle=True))
    assert len(found) == 24
    assert labels.dataset(x, y, augment=flip, batch_size=10).cardinality() == 3
    flipped = (found[:, None] == x[:, :, ::-1][None]).all((2, 3, 4)).any(1)
    assert 0 < flipped.sum() < 24
    np.testing.assert_allclose(targets["teacher"], logits_of(teacher, found), atol=1e-4)
    with pytest.raises(ValueError, match="written with `augment`: give the same"):
        labels.dataset(x, y)

    def upside_down(image, seed):
        return tf.image.stateless_random_flip_up_down(image, seed)

    with pytest.raises(ValueError, match="`augment` makes something else of the first examples"):
        labels.dataset(x, y, augment=upside_down)
    written["augment"] = upside_down
    with pytest.raises(ValueError, match="was begun with another `augment`"):
        SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32", **written)


def test_interrupted_writing_goes_on(tmp_path):
    x, _ = images(40)
    teacher, path = convnet(8, activation=None), tmp_path / "labels"

    def interrupted(data):
        for start in range(0, 16, 8):
            yield data[start : start + 8]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SoftLabels.write(path, teacher, interrupted(x), features="pool")
    with pytest.raises(ValueError, match=r"unfinished \(16 rows\)"):
        SoftLabels(path)
    begun = {file.name: file.read_bytes() for file in path.glob("*.bin")}
    with open(path / "output-0.bin", "ab") as file:
        file.write(b"half a row")
    with pytest.raises(ValueError, match="other data, or in another order"):
        SoftLabels.write(path, teacher, x[::-1], features="pool", batch_size=8)
    labels = SoftLabels.write(path, teacher, x, features="pool", batch_size=10)
    for name, content in begun.items():
        assert (path / name).read_bytes().startswith(content)
    np.testing.assert_allclose(labels.logits(np.arange(40)), teacher.predict(x, verbose=0), atol=5e-3)
    whole = SoftLabels.write(tmp_path / "whole", teacher, x, features="pool")
    np.testing.assert_allclose(
        *(stored.features(np.arange(40), "pool") for stored in (labels, whole)), atol=5e-3
    )


def test_other_data_damage_and_settings_are_refused(tmp_path):
    x, y = images(20)
    teacher, path = convnet(8), tmp_path / "labels"
    with pytest.raises(ValueError, match="There are no soft labels"):
        SoftLabels(path)
    labels = SoftLabels.write(path, teacher, x)
    with pytest.raises(ValueError, match=r"Example 0 is not the one the soft labels were made from"):
        labels.dataset(x[::-1], y)
    with pytest.raises(ValueError, match=r"are of 20 examples. Received: 10"):
        labels.dataset(x[:10], y[:10])
    with pytest.raises(ValueError, match=r"teacher: .* there"):
        SoftLabels.write(path, convnet(8), x)
    with pytest.raises(ValueError, match="dtype: float16 there, float32 now"):
        SoftLabels.write(path, teacher, x, dtype="float32")
    with pytest.raises(ValueError, match=r"`top_k` must be between 1 and the 3 classes"):
        SoftLabels.write(tmp_path / "other", teacher, x, top_k=9)
    values = path / "output-0.bin"
    values.write_bytes(values.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"truncated or damaged: 117 bytes instead of 120 for 20 rows"):
        SoftLabels(path)
    with pytest.raises(ValueError, match="`epochs` must be a whole number"):
        SoftLabels.write(tmp_path / "other", teacher, x, augment=flip, epochs=0)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"version": 1}', '{"version": 2}', None],
    ids=["cut", "a list", "empty", "of old", "incomplete", "negative"],
)
def test_foreign_descriptions_are_refused(tmp_path, content):
    x, _ = images(4)
    facts = tmp_path / "labels" / "facts.json"
    if content is None:
        SoftLabels.write(facts.parent, convnet(), x)
        content = facts.read_text().replace('"rows": 4', '"rows": -4')
    facts.parent.mkdir(exist_ok=True)
    facts.write_text(content)
    for read in (lambda: SoftLabels(facts.parent), lambda: SoftLabels.write(facts.parent, convnet(), x)):
        with pytest.raises(ValueError, match=r"describes no soft labels, is of another version or damaged"):
            read()


def test_foreign_folders_are_left_alone(tmp_path):
    x, _ = images(4)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "examples.bin").write_bytes(b"precious")
    for path in (tmp_path / "labels", tmp_path / "labels" / "examples.bin"):
        with pytest.raises(ValueError, match=r"is no folder of soft labels.*Give another folder"):
            SoftLabels.write(path, convnet(), x)
    assert (tmp_path / "labels" / "examples.bin").read_bytes() == b"precious"


def test_answers_that_are_not_finite_are_refused(tmp_path):
    x, _ = images(4)
    teacher = convnet()
    teacher.get_layer("head").bias.assign([np.nan, 0, 0])
    with pytest.raises(ValueError, match=r"examples from number 0 on are not finite \(output-0.bin\)"):
        SoftLabels.write(tmp_path / "labels", teacher, x)


def test_features_are_stored_beside_outputs(tmp_path):
    x, y = images(32)
    teacher, logs = convnet(8), []
    layers_kept = ["conv2", "pool"]
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, features=layers_kept, dtype="float32")
    expected = keras.Model(teacher.input, [teacher.get_layer(name).output for name in layers_kept])(x)
    for name, values in zip(layers_kept, expected, strict=True):
        np.testing.assert_allclose(labels.features(np.arange(32), name), values, rtol=1e-4, atol=1e-5)
    for source in (teacher, labels):
        keras.utils.set_random_seed(5)
        losses = [kd.SoftTargets(), kd.Features("conv2"), kd.RelationalDistance("pool")]
        distiller = tfs.Distiller(convnet(), source, losses, alpha=0.7)
        distiller.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        data = (x, y) if source is teacher else (labels.dataset(x, y, batch_size=16, shuffle=False),)
        options = {"batch_size": 16} if source is teacher else {}
        logs.append(distiller.fit(*data, shuffle=False, verbose=0, **options).history)
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    distiller.save(tmp_path / "distiller.keras")
    again = keras.models.load_model(tmp_path / "distiller.keras")
    assert again.teacher.get_config() == distiller.teacher.get_config()
    with pytest.raises(ValueError, match=r"layer 'conv1' are not stored.*Stored are: \['conv2', 'pool'\]"):
        tfs.Distiller(convnet(), labels, kd.Features("conv1"))
    with pytest.raises(ValueError, match=r"features of layer 'conv1' are not stored"):
        labels.features(np.arange(2), "conv1")
    with pytest.raises(ValueError, match=r"no layer 'conv3' in its graph. Did you mean 'conv"):
        SoftLabels.write(tmp_path / "other", teacher, x, features="conv3")


def test_several_outputs_are_stored(tmp_path):
    teacher = ZOO["multi_output"]()
    student = keras.models.clone_model(teacher)
    x, y = zoo_inputs(teacher, 12), zoo_targets(teacher, 12)
    y = {"kind": np.arange(12) % 3, "score": y["score"]}
    options = {"dtype": "float32", "top_k": {"kind": 2}}
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, **options)
    expected = teacher.predict(x, verbose=0)
    np.testing.assert_allclose(labels.logits(np.arange(12), "score"), expected["score"], rtol=1e-4)
    shares = np.exp(labels.logits(np.arange(12), "kind"))
    np.testing.assert_allclose(shares.max(-1), expected["kind"].max(-1), rtol=1e-4)
    distiller = tfs.Distiller(student, labels, alpha={"kind": 0.5, "score": 1.0})
    losses = {"kind": "sparse_categorical_crossentropy", "score": "mse"}
    distiller.compile(keras.optimizers.SGD(0.0), losses, run_eagerly=True)
    weights = np.linspace(0, 1, 12).astype("float32")
    alone = labels.dataset(x, y, shuffle=False)
    logs = distiller.fit(alone, verbose=0).history
    squared = ((student.predict(x, verbose=0)["score"] - expected["score"]) ** 2).mean()
    soft = distiller.fit(labels.dataset(x, y, np.zeros(12, "float32")), verbose=0).history
    assert logs["distillation_loss"][0] > squared > 0
    assert soft["distillation_loss"] == [0.0]
    batch = next(iter(labels.dataset(x, y, weights, batch_size=12, shuffle=False)))
    np.testing.assert_allclose(batch[2], weights)
    with pytest.raises(ValueError, match=r"has outputs \['kind', 'score'\]: name one"):
        labels.logits(np.arange(2))
    with pytest.raises(ValueError, match=r"`top_k` must be between 1 and the 1 classes.*'score'"):
        SoftLabels.write(tmp_path / "other", teacher, x, top_k=2)
    with pytest.raises(ValueError, match=r"`top_k` names the output 'kinds'.*Did you mean 'kind'"):
        SoftLabels.write(tmp_path / "other", teacher, x, top_k={"kinds": 2})


def test_unlabelled_data_teach_by_what_is_stored(tmp_path):
    x, y = images(32)
    labels = SoftLabels.write(tmp_path / "labels", convnet(8), x)
    distiller = tfs.Distiller(convnet(), labels, alpha=1.0)
    distiller.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    logs = distiller.fit(labels.dataset(x), epochs=3, verbose=0, validation_data=(x, y)).history
    assert logs["distillation_loss"][2] < logs["distillation_loss"][0]
    assert "val_accuracy" in logs


def test_stored_labels_under_a_strategy(tmp_path, mirrored):
    x, y = images(32)
    labels = SoftLabels.write(tmp_path / "labels", convnet(8), x, features="pool")
    with mirrored.scope():
        distiller = tfs.Distiller(convnet(), labels, [kd.SoftTargets(), kd.Features("pool")])
        distiller.compile("sgd", "sparse_categorical_crossentropy")
    logs = distiller.fit(labels.dataset(x, y, batch_size=16), verbose=0).history
    assert np.isfinite(logs["loss"]).all()


def test_positions_and_several_inputs(tmp_path):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = layers.RepeatVector(3)(layers.Add()([a, b]))
    teacher = keras.Model({"a": a, "b": b}, layers.Dense(5, activation="sigmoid", name="head")(x))
    student = keras.models.clone_model(teacher)
    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=(10, 4)).astype("float32") for name in "ab"}
    labels = SoftLabels.write(tmp_path / "labels", teacher, data, dtype="float32")
    logits = labels.logits(np.arange(10))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), teacher.predict(data, verbose=0), rtol=1e-3)
    distiller = tfs.Distiller(student, labels, alpha=1.0)
    distiller.compile("sgd", run_eagerly=True)
    distiller.fit(labels.dataset(data, batch_size=5), verbose=0)


class Batches(keras.utils.PyDataset):
    """Examples in batches of seven."""

    def __init__(self, *parts):
        super().__init__()
        self._parts = parts

    def __len__(self):
        return -(-len(self._parts[0]) // 7)

    def __getitem__(self, index):
        return tuple(part[index * 7 : index * 7 + 7] for part in self._parts)


def mapped_from_file(folder, array):
    np.save(folder / "images.npy", array)
    return np.load(folder / "images.npy", mmap_mode="r")


FORMS = {
    "mapped arrays": lambda folder, x, y: (mapped_from_file(folder, x), y),
    "batched dataset": lambda folder, *xy: tf.data.Dataset.from_tensor_slices(xy).batch(6),
    "dataset of examples": lambda folder, *xy: tf.data.Dataset.from_tensor_slices(xy),
    "PyDataset": lambda folder, *xy: Batches(*xy),
    "function": lambda folder, x, y: lambda: ((x[i : i + 5], y[i : i + 5]) for i in range(0, len(x), 5)),
    "generator": lambda folder, x, y: ((x[i : i + 5], y[i : i + 5]) for i in range(0, len(x), 5)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_brings_its_answers(tmp_path, form):
    x, y = images(20)
    x = (50 * x).clip(0, 255).astype("uint8")
    y[:] = np.arange(20)
    teacher = convnet(8)
    labels = SoftLabels.write(tmp_path / "labels", teacher, x, dtype="float32", augment=flip, epochs=2)
    batches = labels.dataset(FORMS[form](tmp_path, x, y), batch_size=8, augment=flip, shuffle=4)
    assert batches.cardinality() == 5
    orders = []
    for _ in range(2):
        found, targets = by_example(batches)
        assert found.shape == (40, 8, 8, 3)
        assert found.dtype == "float32"
        np.testing.assert_allclose(targets["teacher"], logits_of(teacher, found), atol=1e-4)
        np.testing.assert_array_equal(np.sort(targets["labels"]), np.repeat(np.arange(20), 2))
        same = x[targets["labels"]].astype("float32")
        flipped = (found == same[:, :, ::-1]).all((1, 2, 3))
        assert (flipped | (found == same).all((1, 2, 3))).all()
        orders.append(targets["labels"])
    assert (orders[0] != orders[1]).any()


def test_arrays_are_cut_where_they_are(tmp_path):
    """Neither writing nor training may copy or cast all of a file that is mapped into memory."""
    shape, count = (64, 64, 3), 1500
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "uint8", (count, *shape))
    file[:, 0, 0, 0] = np.arange(count) % 256
    teacher = keras.Sequential([keras.Input(shape), layers.GlobalAveragePooling2D(), layers.Dense(3)])
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    SoftLabels.write(tmp_path / "labels", teacher, x[:64])
    tracemalloc.start()
    labels = SoftLabels.write(tmp_path / "labels", teacher, x)
    for _ in labels.dataset(x, batch_size=32).take(3):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < x.nbytes
    assert labels.count == count


def test_streams_are_checked_while_they_are_read(tmp_path):
    x, y = images(20)
    teacher = convnet(8)
    labels = SoftLabels.write(tmp_path / "labels", teacher, x)

    def dataset(*parts):
        return tf.data.Dataset.from_tensor_slices(parts).batch(5)

    with pytest.raises(ValueError, match="Example 0 is not the one the soft labels were made from"):
        labels.dataset(dataset(x[::-1], y))
    swapped = x[[*range(18), 19, 18]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Example 18 is not the one"):
        list(labels.dataset(dataset(swapped, y)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"are of 20 examples. Received: 15"):
        list(labels.dataset(dataset(x[:15], y[:15])))
    with pytest.raises(ValueError, match=r"`y` and `sample_weight` go with arrays.*BatchDataset"):
        labels.dataset(dataset(x), y)
    with pytest.raises(ValueError, match=r"`shuffle` must be a whole number >= 1. Received: shuffle=0"):
        labels.dataset(x, y, shuffle=0)
    weighted = labels.dataset(dataset(x, y, np.arange(20.0)), shuffle=False, batch_size=20)
    np.testing.assert_array_equal(next(iter(weighted))[2], np.arange(20.0))


def test_a_finished_store_grows_and_refuses_other_data(tmp_path):
    x, _ = images(30)
    teacher, path = convnet(8), tmp_path / "labels"
    SoftLabels.write(path, teacher, x[:20], dtype="float32")
    begun = (path / "output-0.bin").read_bytes()
    with pytest.raises(ValueError, match="holds soft labels of other data, or in another order"):
        SoftLabels.write(path, teacher, x[::-1], dtype="float32")
    with pytest.raises(ValueError, match=r"holds soft labels of 20 examples. Received: 10"):
        SoftLabels.write(path, teacher, x[:10], dtype="float32")
    assert SoftLabels.write(path, teacher, x[:20], dtype="float32").count == 20
    labels = SoftLabels.write(path, teacher, x, dtype="float32")
    assert labels.count == 30
    assert (path / "output-0.bin").read_bytes().startswith(begun)
    np.testing.assert_allclose(
        labels.logits(np.arange(30)), np.log(teacher.predict(x, verbose=0)), rtol=1e-3, atol=1e-4
    )
    passes = {"augment": flip, "epochs": 2}
    SoftLabels.write(tmp_path / "passes", teacher, x[:20], **passes)
    with pytest.raises(ValueError, match="of other data, or in another order"):
        SoftLabels.write(tmp_path / "passes", teacher, x, **passes)
    with pytest.raises(ValueError, match=r"Pass 2 over the data gave 0 examples, the first 20.*read again"):
        SoftLabels.write(tmp_path / "once", teacher, (row for row in x[:20]), **passes)
