"""What a search may do to a model, and the recipes that stand for it."""

import json

from tests.zoo import ZOO
from tfsqueeze.core.data import Examples, input_specs, random_examples
from tfsqueeze.recipe.recipe import Recipe
from tfsqueeze.search.squeezing import techniques as known
from tfsqueeze.search.squeezing.attempts import Epochs
from tfsqueeze.search.squeezing.paired_test import Judge
from tfsqueeze.search.squeezing.repertoire import Repertoire
from tfsqueeze.search.squeezing.sparing import FEWEST, MOST, examples_to_use, with_sensitive_layers
from tfsqueeze.search.squeezing.workshop import Training, Workshop

REPERTOIRE = Repertoire(
    (known.CHANNELS, known.SEPARABLE, known.PRUNING, known.CLUSTERING),
    known.FORMATS,
    True,
    {},
    sensitive=("conv2", "conv1", "head", "conv3"),
)
NOTHING = {name: options[0] for name, options in REPERTOIRE.space().items()}


def recipe_of(setting, epochs=(0, 0), precision="float32"):
    workshop = Workshop(None, None, REPERTOIRE, Training(32, 0.1, precision), None, seed=3)
    return workshop.recipe({**NOTHING, **setting}, Epochs(*epochs))


def test_what_leaves_the_model_as_it_is_takes_no_step():
    assert REPERTOIRE.changes(NOTHING) == []
    assert [step.verb for step in recipe_of({}).steps] == ["calibrate", "export_tflite"]
    assert [step.verb for step in recipe_of({"quantization": "float16"}).steps] == ["export_tflite"]


def test_changes_come_first_then_training_then_integers_then_training_with_them():
    setting = {"clustering": 16, "pruning": 0.5, "channels": 0.25}
    steps = recipe_of(setting, (6, 3)).steps
    expected = ["prune_channels", "prune", "cluster", "distil", "calibrate", "distil", "export_tflite"]
    assert [step.verb for step in steps] == expected
    assert [step.arguments["epochs"] for step in steps if step.verb == "distil"] == [6, 3]


def test_half_precision_ends_before_integers_begin():
    verbs_of = [step.verb for step in recipe_of({}, (6, 3), "bfloat16").steps]
    half = ["with_precision", "distil", "with_precision"]
    assert verbs_of == [*half, "calibrate", "distil", "export_tflite"]
    assert [step.verb for step in recipe_of({}, (0, 3), "bfloat16").steps][:1] == ["calibrate"]


def test_shared_values_are_calibrated_without_parting_them():
    (step,) = REPERTOIRE.calibration({**NOTHING, "clustering": 16})
    assert (step["calibrate"]["equalize"], step["calibrate"]["rounding"]) == (False, "nearest")
    assert "equalize" not in REPERTOIRE.calibration(NOTHING)[0]["calibrate"]


def test_sensitive_layers_are_left_alone_and_keep_eight_bits():
    setting = {"channels": 0.5, "pruning": 0.5, "sparing": 1, "quantization": "int4"}
    written = recipe_of(setting).to_dict()["steps"]
    skip = {"Select": {"skip": ["conv2"]}}
    assert [written[0]["prune_channels"]["select"], written[1]["prune"]["select"]] == [skip, skip]
    assert written[2]["calibrate"]["overrides"] == {"conv2": "int8"}
    assert "select" not in json.dumps(recipe_of({**setting, "sparing": 0}).to_dict())
    assert Recipe.from_dict({"steps": written}).steps[0].arguments["select"] == skip


def test_as_many_layers_as_a_half_can_be_left_alone():
    assert REPERTOIRE.space()["sparing"] == [0, 1]
    for count, expected in {1: None, 2: [0, 1], 6: [0, 1, 3]}.items():
        repertoire = Repertoire((known.CHANNELS,), ("int8",), True, {}, tuple("abcdef"[:count]))
        assert repertoire.space().get("sparing") == expected


def test_sensitivity_is_measured_once_and_only_if_asked_for(tmp_path, monkeypatch):
    model = ZOO["residual"]()
    data = random_examples(input_specs(model), 24)
    labelled = Examples(data.inputs, model(next(iter(data.inputs.values()))).numpy().argmax(-1))
    arguments = (model, Judge(model, model, labelled, "accuracy", 0.02, 0.9), 10**9)
    found = with_sensitive_layers(REPERTOIRE, *arguments, None, tmp_path)
    assert set(found.sensitive) == {"stem", "block_conv", "head"}
    assert (tmp_path / "sensitivity.json").exists()
    monkeypatch.setattr(Judge, "score", None)
    assert with_sensitive_layers(REPERTOIRE, *arguments, None, tmp_path).sensitive == found.sensitive
    told = with_sensitive_layers(REPERTOIRE, *arguments, ["pruning"], tmp_path / "none").skipped
    assert told == {"sparing": "not asked for"}
    nothing_to_spare = Repertoire((known.DEPTH,), ("int8",), True, {})
    assert with_sensitive_layers(nothing_to_spare, *arguments, None, tmp_path) is nothing_to_spare


def test_large_models_are_compared_on_fewer_examples():
    model = ZOO["residual"]()
    counts = [examples_to_use(model, macs) for macs in (None, 10**5, 10**8, 10**10)]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (MOST, FEWEST)


def test_shared_values_are_tried_only_where_they_save_something():
    model = ZOO["sequential"]()
    data = random_examples(input_specs(model), 8)
    refused = Repertoire.of(model, data, ["clustering"], ["size", "latency"])
    assert refused.skipped["clustering"] == "does not change the size, latency of a file"
    taken = Repertoire.of(model, data, ["clustering"], ["size", "download"])
    assert taken.structure == (known.CLUSTERING,)
    assert Repertoire.of(model, data, ["pruning"], ["macs", "latency"]).structure == ()
