"""`tfsqueeze run`, the recipes on the documentation's page, and training on several devices."""

import json
import re
from pathlib import Path

import keras
import numpy as np
import yaml
from click.testing import CliRunner

import tfsqueeze as tfs
from tests.recipe.test_run import VALIDATION, X, Y, network, zeros
from tfsqueeze.cli import cli

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def run(*arguments):
    return CliRunner().invoke(cli, ["run", *map(str, arguments)])


def test_the_command_runs_a_recipe_and_goes_on(tmp_path):
    network().save(tmp_path / "m.keras")
    np.savez(tmp_path / "t.npz", x=X * 255, y=Y)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps:\n- prune: 0.5\n- fine_tune\n- export_tflite\n")
    common = ("--model", tmp_path / "m.keras", "--train", tmp_path / "t.npz", "-o", tmp_path / "out")
    first = run(recipe, *common, "--validation", tmp_path / "t.npz", "--scale", "1/255")
    assert first.exit_code == 0, first.output
    assert "Step 2 of 3: fine_tune()" in first.stderr
    assert (tmp_path / "out" / "model-float32.tflite").exists()
    again = run(recipe, *common, "--validation", tmp_path / "t.npz", "--scale", "1/255", "--json")
    steps = json.loads(again.stdout)["steps"]
    assert [step["is_reused"] for step in steps] == [False, True, True, True]
    assert steps[3]["metrics"]["accuracy"] <= 1


def test_mistakes_end_with_one_message(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("steps:\n- prune: 0.5\n- fine_tun: 3\n")
    result = run(recipe)
    assert result.exit_code == 1
    assert "Step 2: there is no step 'fine_tun'. Did you mean 'fine_tune'" in result.stderr
    assert run(recipe, "--scale", "sin(x)").exit_code == 2


def test_the_recipes_on_the_page_are_recipes():
    texts = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(texts) == 2
    for text in texts:
        assert tfs.Recipe.from_dict(yaml.safe_load(text)).steps


def test_steps_train_on_all_devices(mirrored):
    model = network()
    with mirrored.scope():
        recipe = tfs.Recipe([{"prune": 0.5}, {"distil": {"epochs": 1, "batch_size": 16}}])
        result = recipe.run(model, train=(X, Y), validation=VALIDATION)
    assert zeros(result.model, "conv2") >= 0.49
    assert not np.array_equal(*(one.get_layer("head").kernel.numpy() for one in (model, result.model)))
    assert isinstance(result.model, keras.Model)
