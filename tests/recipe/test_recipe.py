"""Recipes as data: every form reads alike, and what is wrong is named with its step."""

import json

import pytest

import tfsqueeze as tfs
from tfsqueeze.recipe.objects import build
from tfsqueeze.recipe.verbs import VERBS, first_argument

STEPS = [
    {"prune_channels": {"macs": 0.5, "data": None}},
    {"distil": {"epochs": 2, "alpha": 0.5, "callbacks": [{"EarlyStopping": {"monitor": "loss"}}]}},
    {"prune": 0.8},
    {"quantize_aware": "int8"},
    {"export_tflite": "int8"},
    "compare",
]


@pytest.mark.parametrize("ending", [".yaml", ".json"])
def test_a_recipe_is_the_same_after_a_file(tmp_path, ending):
    recipe = tfs.Recipe(STEPS, seed=3, metric="accuracy")
    read = tfs.Recipe.from_file(recipe.to_file(tmp_path / f"recipe{ending}"))
    assert read == recipe
    assert hash(read) == hash(recipe)
    assert read.to_dict()["seed"] == 3


def test_a_value_alone_is_the_first_argument_that_the_run_does_not_fill():
    written = tfs.Recipe(STEPS).to_dict()["steps"]
    assert written[2:] == [
        {"prune": {"sparsity": 0.8}},
        {"quantize_aware": {"config": "int8"}},
        {"export_tflite": {"quantize": "int8"}},
        "compare",
    ]
    assert first_argument("calibrate") == "config"
    assert first_argument("fine_tune") == "epochs"
    assert first_argument("prune_channels") == "ratio"


def test_every_verb_is_public_or_a_step_of_its_own():
    assert set(VERBS) - set(tfs.__all__) == {"fine_tune", "distil"}


def test_paths_in_a_file_are_relative_to_it(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: a.keras\ndata: {train: t.npz, scale: 1/255}\nsteps:\n- prune: 0.5\n")
    recipe = tfs.Recipe.from_file(path)
    assert recipe.model == str(tmp_path / "a.keras")
    assert recipe.data == {"train": str(tmp_path / "t.npz"), "scale": "1/255"}


def test_objects_are_written_by_class_and_arguments():
    schedule = {
        "Polynomial": {"initial_sparsity": 0, "final_sparsity": 0.8, "begin_step": 0, "end_step": "50%"}
    }
    decay = {"initial_learning_rate": 0.1, "decay_steps": "100%"}
    arguments = {
        "callbacks": [{"PruningCallback": {"schedule": schedule}}, "ClusteringCallback"],
        "optimizer": {"Adam": {"learning_rate": {"CosineDecay": decay}}},
        "loss": {"MeanSquaredError": {"name": "squares"}},
        "select": {"Select": {"types": ["Conv2D"], "skip": "stem"}},
        "overrides": {"Dense": {"weight_bits": 4}},
        "data": "train",
    }
    made = build(arguments, "Step 1", lambda: 400)
    assert made["callbacks"][0].schedule.end_step == 200
    assert [type(one).__name__ for one in made["callbacks"]] == ["PruningCallback", "ClusteringCallback"]
    assert made["optimizer"]._learning_rate.decay_steps == 400
    assert made["loss"].name == "squares"
    assert made["select"].include[0].__name__ == "Conv2D"
    assert made["overrides"] == {"Dense": {"weight_bits": 4}}
    staircase = build({"schedule": {"Steps": {"0": 0.5, "10": 0.8}}}, "", lambda: 1)["schedule"]
    assert staircase(10) == 0.8


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (["prunne"], ValueError, "Step 1: there is no step 'prunne'. Did you mean 'prune'"),
        (["prune"], ValueError, r"Step 1 \(prune\): the argument 'sparsity' is missing"),
        ([{"prune": {"sparsty": 0.5}}], ValueError, "unknown argument 'sparsty'. Did you mean 'sparsity'"),
        ([{"prune": {"model": 1}}], ValueError, "unknown argument 'model'"),
        ([{"prune": 0.5, "cluster": 3}], TypeError, "a mapping of one name"),
        ([{"prune": 0.5}, 7], TypeError, "Step 2 must be the name of a verb"),
        ([{"compare": {"latency": object()}}], TypeError, "a recipe holds plain data"),
        ([{"fine_tune": {"callbacks": ["PrunningCallback"]}}], ValueError, "Did you mean 'PruningCallback'"),
        ([{"fine_tune": {"optimizer": {"Adamm": {}}}}], ValueError, "unknown class 'Adamm'"),
        ([{"fine_tune": {"optimizer": {"Adam": {"rate": 1}}}}], ValueError, "Adam in 'optimizer'"),
        ([{"fine_tune": {"callbacks": {"PruningCallback": 1.5}}}], ValueError, r"Step 1 \(fine_tune\).*1.5"),
        ([], ValueError, "at least one step"),
        ({"prune": 0.5}, TypeError, "`steps` must be a list"),
    ],
)
def test_mistakes_are_named_with_their_step(steps, error, message):
    with pytest.raises(error, match=message):
        tfs.Recipe(steps)


def test_mistakes_in_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no entry 'step'\. Did you mean 'steps'"):
        tfs.Recipe.from_dict({"step": []})
    with pytest.raises(ValueError, match="needs `steps`"):
        tfs.Recipe.from_dict({"seed": 1})
    with pytest.raises(ValueError, match="must be one of 'train'"):
        tfs.Recipe(["compare"], data={"test": "x.npz"})
    with pytest.raises(ValueError, match="Cannot read the recipe"):
        tfs.Recipe.from_file(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("steps: [")
    with pytest.raises(ValueError, match="Cannot read the recipe"):
        tfs.Recipe.from_file(tmp_path / "bad.yaml")
    (tmp_path / "evil.yaml").write_text("steps: !!python/object/apply:os.system ['true']")
    with pytest.raises(ValueError, match="Cannot read the recipe"):
        tfs.Recipe.from_file(tmp_path / "evil.yaml")
    with pytest.raises(ValueError, match=r"\.yaml"):
        tfs.Recipe(["compare"]).to_file(tmp_path / "recipe.txt")
    assert json.loads(tfs.Recipe(["compare"]).to_file(tmp_path / "r.json").read_text())["steps"] == [
        "compare"
    ]
