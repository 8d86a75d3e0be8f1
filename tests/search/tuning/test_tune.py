"""`tune`: any function that trains and scores, resumed, pruned, with one metric or several."""

import json
import math

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tfsqueeze.search.tuning.metrics import Metrics

SPACE = {"x": tfs.Range(-1.0, 1.0), "kind": ["a", "b"]}


def hill(parameters) -> float:
    return 1 - parameters["x"] ** 2 + 0.1 * (parameters["kind"] == "b")


class History:
    """What `model.fit` returns, as far as it matters."""

    def __init__(self, **history):
        self.history = history


def test_the_best_is_found_kept_and_shown(tmp_path):
    found = tfs.tune(hill, SPACE, trials=25, output=tmp_path, progress=False)
    assert abs(found.best_parameters["x"]) < 0.3 and found.best_parameters["kind"] == "b"
    assert found.best_score == hill(found.best_parameters) == max(trial.score for trial in found.trials)
    assert "Best trials (tune)" in str(found) and "25 trials: 25 complete. Best: highest score." in str(found)
    read = tfs.Tuning.from_folder(tmp_path)
    assert read.best_parameters == found.best_parameters and str(read) == str(found)
    assert json.loads((tmp_path / "tuning.json").read_text())["best"] == found.best.number
    assert (tmp_path / "study.db").exists()


def test_the_same_call_goes_on_and_repeats_nothing(tmp_path):
    calls = []

    def counted(parameters):
        calls.append(parameters)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return hill(parameters)

    options = {"output": tmp_path, "seed": 5, "progress": False, "depends_on": {"data": np.arange(3)}}
    with pytest.raises(KeyboardInterrupt):
        tfs.tune(counted, SPACE, trials=4, **options)
    tfs.tune(counted, SPACE, trials=4, **options)
    found = tfs.tune(counted, SPACE, trials=5, **options)
    assert len(calls) == 6 and calls[2] == calls[3]
    assert [trial.parameters for trial in found.trials if trial.number > 1] == calls[3:]
    plain = tfs.tune(hill, SPACE, trials=5, seed=5, progress=False)
    assert sorted(trial.score for trial in plain.trials) == sorted(trial.score for trial in found.trials)
    with pytest.raises(ValueError, match=r"What differs: data: data \w+ there, data \w+ now"):
        tfs.tune(counted, SPACE, trials=5, **{**options, "depends_on": {"data": np.arange(4)}})


def test_the_best_epoch_of_a_history_counts():
    def fit(parameters):
        return History(val_loss=[0.5, 0.1 + parameters["x"] ** 2, math.nan], val_accuracy=[0.1, 0.2, 0.0])

    found = tfs.tune(fit, SPACE, metric="val_loss", trials=6, progress=False)
    assert found.directions == ("minimize",)
    assert found.best_score == min(0.1 + trial.parameters["x"] ** 2 for trial in found.trials)
    found = tfs.tune(fit, SPACE, metric="val_accuracy", trials=2, progress=False)
    assert found.best_score == 0.2


def test_several_metrics_give_a_front():
    def fit(parameters):
        return {"accuracy": 1 - parameters["x"] ** 2, "bytes": abs(parameters["x"] - 0.5), "other": 0}

    found = tfs.tune(fit, SPACE, metric=["accuracy", "bytes"], sampler="nsga2", trials=30, progress=False)
    assert found.directions == ("maximize", "minimize")
    costs = [(-trial.scores[0], trial.scores[1]) for trial in found.front]
    assert costs == sorted(costs) and [cost[1] for cost in costs] == sorted(
        (c[1] for c in costs), reverse=True
    )
    assert "Trials that no other beats" in str(found)
    pairs = tfs.tune(
        lambda p: (p["x"], p["x"]), SPACE, direction=["minimize", "maximize"], trials=3, progress=False
    )
    assert pairs.metrics == ("score_0", "score_1") and len(pairs.front) == 3


def test_reports_end_bad_trials_and_notes_are_kept():
    steps = []

    def fit(parameters, report):
        for epoch in range(8):
            steps.append(epoch)
            report(epoch, -abs(parameters["x"]) + 0.01 * epoch)
        report.note("bytes", 1000)
        return -abs(parameters["x"])

    found = tfs.tune(fit, SPACE, trials=16, sampler="random", progress=False)
    states = [trial.state for trial in found.trials]
    assert "stopped early" in states and len(steps) < 8 * 16
    assert found.best.notes == {"bytes": 1000}
    whole = tfs.tune(fit, SPACE, trials=16, sampler="random", early_stopping=None, progress=False)
    assert whole.best_parameters == found.best_parameters
    assert {trial.state for trial in whole.trials} == {"complete"}


def test_training_with_keras(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5], [0.0]], "float32")

    def fit(parameters, report):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(parameters["rate"]), "mse")
        callbacks = [report.callback()]
        return model.fit(x, y, epochs=3, validation_split=0.25, verbose=0, callbacks=callbacks)

    space = {"rate": tfs.Choice({"tiny": 1e-6, "good": 0.1, "mad": 1e6})}
    found = tfs.tune(fit, space, metric="val_loss", trials=9, sampler="grid", output=tmp_path, progress=False)
    assert found.best_parameters == {"rate": 0.1} and found.best.labels == {"rate": "good"}
    assert len(found.trials) == 3
    again = tfs.tune(fit, space, metric="val_loss", trials=9, sampler="grid", progress=False)
    assert again.best_score == found.best_score
    assert tfs.Tuning.from_folder(tmp_path).best_parameters == {"rate": "good"}


def test_trials_without_a_score():
    found = tfs.tune(lambda parameters: math.nan, SPACE, trials=2, progress=False)
    assert found.best is found.best_parameters is found.best_score is None and found.front == []
    assert "No trial gave a score" in str(found)


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        (3, {}, "`fit_function` must be a function"),
        (lambda: 1.0, {}, "must take the parameters"),
        (lambda a, b, c: 1.0, {}, "must take the parameters"),
        (lambda p: History(loss=[1]), {"metric": "val_loss"}, r"no 'val_loss'.*'loss'. Did you mean 'loss'"),
        (lambda p: History(loss=[1]), {}, "Name the `metric` to search.*metric=None, and 'loss'"),
        (lambda p: None, {}, "must return one number. Received: None"),
    ],
)
def test_functions_that_cannot_be_searched(function, options, text):
    with pytest.raises(TypeError, match=text):
        tfs.tune(function, SPACE, trials=2, progress=False, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "Give `trials` or `time_budget`"),
        ({"trials": 0}, "`trials` must be a number > 0"),
        ({"trials": 1, "sampler": "tpo"}, "Did you mean 'tpe'"),
        ({"trials": 1, "direction": "up"}, "`direction` must be one of 'maximize', 'minimize'"),
        ({"trials": 1, "metric": "novelty"}, "Whether a higher 'novelty' is better is not known"),
        (
            {"trials": 1, "metric": "loss", "direction": ["minimize"] * 2},
            "one direction per metric. Received: 2",
        ),
        ({"trials": 1, "early_stopping": "mean"}, "`early_stopping` must be one of 'median', 'halving'"),
    ],
)
def test_settings_that_cannot_be_searched(options, text):
    with pytest.raises(ValueError, match=text):
        tfs.tune(hill, SPACE, progress=False, **options)


def test_a_folder_without_a_result(tmp_path):
    with pytest.raises(ValueError, match=r"tuning.json.*cannot be read as the result of tune\(\)"):
        tfs.Tuning.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val_loss", "minimize"),
        ("val_head_loss", "minimize"),
        ("val_mae", "minimize"),
        ("root_mean_squared_error", "minimize"),
        ("val_accuracy", "maximize"),
        ("val_acc", "maximize"),
        ("auc", "maximize"),
        ("val_f1_score", "maximize"),
        ("mean_io_u", "maximize"),
        ("cosine_similarity", "maximize"),
        ("latency_ms", "minimize"),
    ],
)
def test_directions_are_told_by_names(metric, direction):
    assert Metrics.of(metric, None).directions == (direction,)
