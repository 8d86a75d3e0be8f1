"""Running recipes: results, resuming, data, errors before any work."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfsqueeze as tfs
from tests.zoo import ZOO
from tfsqueeze.recipe.step import Step
from tfsqueeze.tflite.file import read

rng = np.random.default_rng(0)
X = rng.normal(size=(96, 8, 8, 3)).astype("float32")
Y = (X.mean((1, 2)).argmax(-1)).astype("int64")
TRAIN, VALIDATION = (X[:64], Y[:64]), (X[64:], Y[64:])


def network():
    model = ZOO["sequential"]()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def weights(model):
    return [variable.numpy() for variable in model.weights]


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def zeros(model, name):
    return float(np.mean(model.get_layer(name).kernel.numpy() == 0))


class Watch:
    """Notes which steps ran, and interrupts one if asked to."""

    def __init__(self, interrupt=None):
        self.ran, self._interrupt = [], interrupt

    def __call__(self, step: Step):
        return self._Context(self, step)

    class _Context:
        def __init__(self, watch, step):
            self._watch, self._step = watch, step

        def __enter__(self):
            if self._step.number == self._watch._interrupt:
                raise KeyboardInterrupt
            self._watch.ran.append(self._step.number)

        def __exit__(self, *error):
            return False


CHAIN = [
    {"prune_channels": {"macs": 0.6}},
    {"prune": 0.7},
    {"distil": {"epochs": 2, "batch_size": 16}},
    {"export_tflite": "int8"},
    {"compare": {"latency": False}},
]


def test_a_chain_of_techniques_ends_in_files_and_figures(tmp_path):
    model = network()
    before = weights(model)
    result = tfs.Recipe(CHAIN).run(model, train=TRAIN, validation=VALIDATION, output=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert zeros(result.model, "conv2") >= 0.65
    assert [step.verb for step in result.steps] == ["original", *(Step.of(1, s).verb for s in CHAIN)]
    assert result.steps[1].macs < 0.65 * result.steps[0].macs
    assert all(0 <= step.metrics["accuracy"] <= 1 for step in result.steps[:5])
    assert result.path == tmp_path / "model-int8.tflite"
    assert result.steps[4].bytes == result.path.stat().st_size
    assert list(result.report) == ["original", "model", "model-int8.tflite"]
    assert result.report["model-int8.tflite"].metrics == result.steps[4].metrics
    assert "prune_channels(macs=0.6)" in str(result)
    assert tfs.Recipe.from_file(tmp_path / "recipe.yaml") == tfs.Recipe(CHAIN)
    assert read(result.path).main


def test_a_second_run_goes_on_behind_the_last_finished_step(tmp_path):
    model = network()
    steps = [
        {"prune": 0.5},
        {"fine_tune": {"epochs": 1}},
        {"fine_tune": {"epochs": 1, "learning_rate": 0.01}},
    ]
    with pytest.raises(KeyboardInterrupt):
        tfs.Recipe(steps).run(model, train=TRAIN, output=tmp_path, watch=Watch(interrupt=3))
    watch = Watch()
    resumed = tfs.Recipe(steps).run(model, train=TRAIN, output=tmp_path, watch=watch)
    assert watch.ran == [3]
    assert [step.is_reused for step in resumed.steps] == [False, True, True, False]
    whole = tfs.Recipe(steps).run(model, train=TRAIN, measure=False)
    assert equal(resumed.model, whole.model)
    assert not equal(resumed.model, tfs.Recipe(steps, seed=1).run(model, train=TRAIN, measure=False).model)


def test_a_change_repeats_what_is_behind_it(tmp_path):
    model, watch = network(), Watch()
    run = {"train": TRAIN, "output": tmp_path, "measure": False}
    tfs.Recipe([{"prune": 0.5}, {"cluster": 8}, "pack"]).run(model, **run)
    first = tfs.Recipe([{"prune": 0.5}, {"cluster": 4}, "pack"]).run(model, **run, watch=watch)
    assert watch.ran == [2, 3]
    assert len(np.unique(first.model.get_layer("conv2").kernel.numpy())) == 4
    first.path.unlink()
    watch.ran.clear()
    tfs.Recipe([{"prune": 0.5}, {"cluster": 4}, "pack"]).run(model, **run, watch=watch)
    assert watch.ran == [3]
    watch.ran.clear()
    model.get_layer("conv1").kernel.assign(model.get_layer("conv1").kernel + 1)
    tfs.Recipe([{"prune": 0.5}, {"cluster": 4}, "pack"]).run(model, **run, watch=watch)
    assert watch.ran == [1, 2, 3]
    assert sorted(path.name for path in (tmp_path / "steps").iterdir()) == [
        "01-prune",
        "02-cluster",
        "03-pack",
    ]


def test_data_may_be_files_and_the_model_too(tmp_path):
    network().save(tmp_path / "m.keras")
    np.savez(tmp_path / "t.npz", x=(X * 255), y=Y)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: m.keras\n"
        "data: {train: t.npz, validation: t.npz, scale: 1/255}\n"
        "steps:\n- calibrate: {config: int8, samples: 32, rounding: nearest}\n- export_tflite: int8\n"
    )
    result = tfs.Recipe.from_file(path).run(output=tmp_path / "out")
    assert result.path.exists()
    assert result.steps[2].metrics["accuracy"] == pytest.approx(result.steps[0].metrics["accuracy"], abs=0.2)


def test_training_goes_on_in_smaller_images():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    dataset = tf.data.Dataset.from_tensor_slices(TRAIN).batch(16)
    recipe = tfs.Recipe([{"with_input_size": 6}, "distil", "fine_tune"])
    for train in (TRAIN, dataset):
        result = recipe.run(model, train=train, validation=VALIDATION)
        assert result.model.input_shape == (None, 6, 6, 3)
        assert result.steps[-1].metrics


def test_training_keeps_zeros_and_shared_values_unless_told():
    model = network()
    held = tfs.Recipe([{"prune": 0.6}, {"cluster": 4}, "fine_tune"]).run(model, train=TRAIN, measure=False)
    assert zeros(held.model, "conv2") >= 0.59
    assert len(np.unique(held.model.get_layer("conv2").kernel.numpy())) <= 4
    assert not equal(held.model, tfs.cluster(tfs.prune(model, 0.6), 4))
    free = tfs.Recipe([{"prune": 0.6}, {"fine_tune": {"keep": False}}]).run(model, train=TRAIN, measure=False)
    assert zeros(free.model, "conv2") < 0.1


def test_schedules_are_written_in_parts_of_the_training():
    schedule = {
        "Polynomial": {"initial_sparsity": 0, "final_sparsity": 0.8, "begin_step": 0, "end_step": "75%"}
    }
    pruning = {"PruningCallback": {"schedule": schedule}}
    recipe = tfs.Recipe([{"fine_tune": {"epochs": 2, "batch_size": 8, "callbacks": [pruning]}}])
    result = recipe.run(network(), train=TRAIN, measure=False)
    assert zeros(result.model, "conv2") == pytest.approx(0.8, abs=0.02)


def test_what_is_missing_is_told_before_anything_runs(tmp_path):
    model, watch = network(), Watch()
    wrong = {
        r"Step 2 \(fine_tune\) needs `train` data": ["strip_quantization", "fine_tune"],
        r"Step 2 \(pack\) writes a file": [{"prune": 0.5}, "pack"],
        r"Step 2 \(prune\): 'data' names one of": [
            {"prune": 0.5},
            {"prune": {"sparsity": 0.6, "data": "test"}},
        ],
    }
    for message, steps in wrong.items():
        with pytest.raises(ValueError, match=message):
            tfs.Recipe(steps).run(model, watch=watch)
    with pytest.raises(ValueError, match="needs `calibration` or `train` data"):
        tfs.Recipe([{"export_tflite": "int8"}]).run(model, output=tmp_path, watch=watch)
    with pytest.raises(ValueError, match="no model to begin with"):
        tfs.Recipe([{"prune": 0.5}]).run()
    with pytest.raises(ValueError, match=r"Step 1 \(prune\): `sparsity` must be in"):
        tfs.Recipe([{"prune": 1.5}]).run(model)
    with pytest.raises(ValueError, match=r"Step 1 \(fine_tune\): `epochs`"):
        tfs.Recipe([{"fine_tune": 0}]).run(model, train=TRAIN)
    with pytest.raises(ValueError, match="There is no `loss`"):
        tfs.Recipe(["fine_tune"]).run(ZOO["sequential"](), train=TRAIN)
    assert watch.ran == []
