"""Squeezing tiny models: the winner, its recipe, going on, and what is refused."""

import json
import subprocess
import sys

import keras
import numpy as np
import optuna
import pytest
import tensorflow as tf
from click.testing import CliRunner

import tfsqueeze as tfs
from tests.zoo import ZOO
from tfsqueeze.cli import cli
from tfsqueeze.core.data import Examples, input_specs, random_examples
from tfsqueeze.search.squeezing.repertoire import Repertoire
from tfsqueeze.search.squeezing.squeeze import split_examples
from tfsqueeze.search.squeezing.stages import Search
from tfsqueeze.search.studies.study import Study
from tfsqueeze.search.studies.workers import WORKER

rng = np.random.default_rng(0)
X = rng.normal(size=(400, 8, 8, 1)).astype("float32")
Y = np.argmax([X[:, :4, :4].mean((1, 2, 3)), X[:, 4:, 4:].mean((1, 2, 3))], axis=0)
TRAIN, VALIDATION, HELD_OUT = (X[:200], Y[:200]), (X[200:320], Y[200:320]), (X[320:], Y[320:])
SETTINGS = {
    "max_drop": 0.05,
    "techniques": ["channels", "quantization"],
    "trials": 2,
    "trainings": 2,
    "epochs": 3,
    "batch_size": 32,
    "progress": False,
}


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, activation="relu", name="conv1"),
            layers.Conv2D(16, 3, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(2, activation="softmax", name="head"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    # Compiling for XLA takes longer than these trainings.
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(*TRAIN, epochs=6, verbose=0)
    return model


@pytest.fixture(scope="module")
def found(network, tmp_path_factory):
    output = tmp_path_factory.mktemp("squeezed")
    return tfs.squeeze(network, TRAIN, VALIDATION, **SETTINGS, held_out=HELD_OUT, output=output)


def count_trials(monkeypatch):
    """Counts the trials that begin from now on."""
    begun, run_one = [], Study._run_one

    def counted(self, *arguments):
        begun.append(self.name)
        return run_one(self, *arguments)

    monkeypatch.setattr(Study, "_run_one", counted)
    return begun


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_the_winner_is_smaller_within_the_drop_and_judged_by_its_file(found):
    assert found.is_within
    assert found.path.stat().st_size == found.best.bytes < found.report["original"].file_bytes
    assert found.best.cost == pytest.approx(found.best.bytes / found.report["original"].file_bytes)
    predictions = tfs.report(found.path, data=VALIDATION, metric="accuracy", latency=False).metrics
    assert predictions["accuracy"] == pytest.approx(found.best.verdict.score)
    assert found.best.verdict.drop == pytest.approx(found.baseline - found.best.verdict.score)
    assert found.held_out.examples == 80
    assert found.best in found.front
    assert "Chosen (*)" in str(found)
    assert "separable: not asked for" in str(found)
    assert json.loads((found.output / "report.json").read_text())["is_within"]
    # What optuna-dashboard lists.
    studies = optuna.get_all_study_summaries(f"sqlite:///{found.output / 'study.db'}")
    assert [study.study_name for study in studies] == ["candidates", "training"]
    sizes = [found.file_of(one).stat().st_size for one in found.front]
    assert sizes == [one.bytes for one in found.front]
    kept = {found.file_of(one).parent for one in found.front}
    assert {one for one in (found.output / "attempts").iterdir() if one.is_dir()} == kept


def test_the_recipe_makes_the_winner_again(found, tmp_path):
    recipe = tfs.Recipe.from_file(found.output / "recipe.yaml")
    again = recipe.run(train=TRAIN, output=tmp_path)
    assert again.path.read_bytes() == found.path.read_bytes()


def test_the_same_call_repeats_nothing_and_another_model_is_refused(network, found, monkeypatch):
    begun = count_trials(monkeypatch)
    again = tfs.squeeze(network, TRAIN, VALIDATION, **SETTINGS, output=found.output)
    assert begun == []
    assert again.best == found.best
    with pytest.raises(ValueError, match="another model"):
        tfs.squeeze(network, TRAIN, HELD_OUT, **{**SETTINGS, "confidence": 0.8}, output=found.output)


@pytest.mark.slow
def test_candidates_are_trained_and_the_best_trade_is_told_if_none_will_do(network, tmp_path, monkeypatch):
    settings = {**SETTINGS, "techniques": ["channels"], "trials": 5, "trainings": 1, "max_drop": 0.0}
    arguments = {**settings, "confidence": 0.5, "output": tmp_path}
    begun = count_trials(monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Search, "_attempt", interrupt)
        tfs.squeeze(network, TRAIN, VALIDATION, **arguments)
    found = tfs.squeeze(network, TRAIN, VALIDATION, **arguments)
    assert begun.count("candidates") == 5
    # The interrupted one, the same again, and where that will not do one that seemed to without training.
    assert begun.count("training") in (2, 3)
    assert {attempt.epochs for attempt in found.attempts} <= {0, 1, 3}
    assert found.is_within == (found.best.verdict.drop <= 0)
    assert found.is_within or "NOTHING is within a drop of 0" in str(found)
    assert found.path.exists()


def test_what_does_not_apply_is_skipped_with_the_reason():
    model = ZOO["subclassed"]()
    data = random_examples(input_specs(model), 40)
    repertoire = Repertoire.of(model, data, None, ["size"])
    assert [one.name for one in repertoire.structure] == ["pruning"]
    assert "subclassed" in repertoire.skipped["channels"]
    assert repertoire.formats == ("int8", "float16")
    assert Repertoire.of(model, data, ["pruning"], ["size"]).formats == ("float32",)


def test_smaller_images_are_tried_where_they_save_something(network, tmp_path):
    data = random_examples(input_specs(network), 40)
    pooled = ZOO["residual"]()
    few = random_examples(input_specs(pooled), 40)
    repertoire = Repertoire.of(pooled, few, ["resolution"], ["latency"])
    assert repertoire.space() == {"resolution": [1.0, 0.75, 0.5], "quantization": ["float32"]}
    steps = repertoire.changes({"resolution": 0.5, "quantization": "float32"})
    made = tfs.Recipe(steps).run(pooled, calibration=few, output=tmp_path).model
    assert made.input_shape == pooled.input_shape
    refused = Repertoire.of(pooled, few, None, ["size", "download"]).skipped["resolution"]
    assert refused == "does not change the size, download of a file"
    skipped = Repertoire.of(network, data, None, ["macs"]).skipped
    assert "does not fit together at input size" in skipped["resolution"]


def test_wrong_arguments_are_told_before_any_work(network, tmp_path):
    arguments = (network, TRAIN, VALIDATION)
    for message, wrong in {
        "`max_drop` must be in": {"max_drop": 2},
        "`trials` must be a whole number": {"trials": 0},
        "`objective` must be one of": {"objective": "speed"},
        "`confidence` must be in": {"confidence": 1},
        "`sampler` must be one of": {"sampler": "bayes"},
        "Did you mean 'channels'": {"techniques": ["chanels"]},
        "`time_budget` must be a number > 0": {"time_budget": -1},
        "`learning_rate` must be a number > 0": {"learning_rate": 0},
        "`precision` must be one of": {"precision": "half"},
    }.items():
        with pytest.raises(ValueError, match=message):
            tfs.squeeze(*arguments, **wrong, output=tmp_path)
    bare = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="needs a compiled model"):
        tfs.squeeze(bare, TRAIN, VALIDATION, output=tmp_path)
    with pytest.raises(TypeError, match=r"expects a `keras.Model`"):
        tfs.squeeze("model.keras", TRAIN, VALIDATION, output=tmp_path)
    with pytest.raises(TypeError, match=r"`strategy` must be a `tf.distribute.Strategy`"):
        tfs.squeeze(*arguments, strategy="mirrored", output=tmp_path)
    several_machines = tf.distribute.MultiWorkerMirroredStrategy.__new__(
        tf.distribute.MultiWorkerMirroredStrategy
    )
    with pytest.raises(ValueError, match="machines share a search by its `storage`"):
        tfs.squeeze(*arguments, strategy=several_machines, output=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_data_and_storage_that_will_not_do_are_told_before_any_work(network, tmp_path, monkeypatch):
    monkeypatch.setattr("tfsqueeze.search.squeezing.squeeze.export_tflite", interrupt)
    with pytest.raises(ValueError, match=r"needs `validation` examples with targets.*inputs alone"):
        tfs.squeeze(network, TRAIN, VALIDATION[0], output=tmp_path)
    with pytest.raises(ValueError, match=r"needs `validation` examples with targets.*None"):
        tfs.squeeze(network, TRAIN, None, output=tmp_path)
    with pytest.raises(ValueError, match="needs `held_out` examples with targets"):
        tfs.squeeze(network, TRAIN, VALIDATION, held_out=HELD_OUT[0], output=tmp_path)
    with pytest.raises(ValueError, match="Cannot reach the storage 'sqlite:"):
        url = f"sqlite:///{tmp_path / 'no' / 'folder.db'}"
        tfs.squeeze(network, TRAIN, VALIDATION, storage=url, output=tmp_path)


def test_a_model_at_chance_and_too_few_examples_end_the_search(network, tmp_path):
    with pytest.raises(ValueError, match="no better than chance"):
        tfs.squeeze(network, TRAIN, (VALIDATION[0], 1 - VALIDATION[1]), output=tmp_path)
    few = tuple(values[:20] for values in VALIDATION)
    with pytest.raises(ValueError, match=r"at least 83 examples are needed. Received: 20"):
        tfs.squeeze(network, TRAIN, few, max_drop=0.02, output=tmp_path)


def test_a_budget_too_short_for_one_trial_says_so(network, tmp_path):
    settings = {**SETTINGS, "techniques": ["pruning"], "time_budget": 1e-6}
    with pytest.raises(ValueError, match=r"No candidate could be made.*the time was over"):
        tfs.squeeze(network, TRAIN, VALIDATION, **settings, output=tmp_path)


@pytest.mark.slow
def test_trials_show_in_tensorboard_and_a_metric_may_be_one_to_minimise(network, tmp_path, mirrored):
    settings = {**SETTINGS, "techniques": ["pruning"], "trials": 1, "trainings": 1, "epochs": 1}
    network = keras.models.clone_model(network)
    network.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    metric = keras.metrics.SparseCategoricalCrossentropy(name="loss")
    found = tfs.squeeze(
        network,
        TRAIN,
        VALIDATION,
        **{**settings, "max_drop": 0.5},
        metric=metric,
        strategy=mirrored,
        log_dir=tmp_path / "logs",
        output=tmp_path / "out",
    )
    assert {one.name for one in (tmp_path / "logs").iterdir()} == {"candidate-0", "trained-0"}
    assert found.best.verdict.drop == pytest.approx(found.best.verdict.score / found.baseline - 1, abs=1e-5)


def test_the_command_squeezes_and_its_recipe_runs_alone(network, tmp_path):
    network.save(tmp_path / "m.keras")
    np.savez(tmp_path / "t.npz", x=TRAIN[0], y=TRAIN[1])
    np.savez(tmp_path / "v.npz", x=VALIDATION[0], y=VALIDATION[1])
    files = ["--data", tmp_path / "t.npz", "--validation", tmp_path / "v.npz", "-o", tmp_path / "out"]
    options = ["--trials", "1", "--trainings", "1", "--techniques", "pruning", "--json"]
    result = CliRunner().invoke(
        cli, [str(one) for one in ["squeeze", tmp_path / "m.keras", *files, *options]]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["best"]["verdict"]["examples"] == 120
    again = tfs.Recipe.from_file(tmp_path / "out" / "recipe.yaml").run(output=tmp_path / "again")
    assert again.path.read_bytes() == (tmp_path / "out" / "model.tflite").read_bytes()


@pytest.mark.slow
def test_a_worker_joins_the_search_and_leaves_no_files(network, tmp_path):
    network.save(tmp_path / "m.keras")
    for name, (x, y) in {"t": TRAIN, "v": VALIDATION}.items():
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    common = f"m.keras --data t.npz --validation v.npz --trials 6 --trainings 1 --epochs 1 --storage {url}"
    options = f"{common} --techniques channels,quantization --max-drop 0.05".split()

    def begin(*more):
        command = [sys.executable, "-m", "tfsqueeze_command", "squeeze", *options, *more]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    worker, main = begin("--worker"), begin("-o", "out", "--json")
    (said, told), (result, errors) = worker.communicate(timeout=400), main.communicate(timeout=400)
    assert (worker.returncode, main.returncode) == (0, 0), told + errors
    assert said == ""
    assert json.loads(result)["best"]["verdict"]["examples"] == 120
    assert {one.name for one in tmp_path.iterdir()} == {"m.keras", "t.npz", "v.npz", "shared.db", "out"}
    trials = optuna.load_study(study_name="candidates", storage=url).trials
    assert len(trials) == 6
    assert len({str(trial.user_attrs[WORKER]) for trial in trials}) == 2


def test_a_worker_needs_the_storage_of_the_others(network, tmp_path):
    with pytest.raises(ValueError, match="A worker needs the `storage`"):
        tfs.squeeze(network, TRAIN, VALIDATION, worker=True, output=tmp_path)


def test_examples_are_parted_at_random():
    train, chosen_by = split_examples(Examples({"x": np.arange(100)}, np.arange(100)), 0.3)
    assert (len(train), len(chosen_by)) == (70, 30)
    assert sorted([*train.targets, *chosen_by.targets]) == list(range(100))
    assert np.array_equal(train.inputs["x"], train.targets)
