"""Every recipe runs on its embedded data with tiny settings, and leaves files that do what it says."""

import importlib
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import tfsqueeze as tfs
from tfsqueeze.tflite.file import read

FOLDER = Path(__file__).parents[2] / "recipes"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "workbench")


@pytest.fixture(autouse=True)
def beside_the_scripts(monkeypatch):
    """Scripts import each other by name, as when they are run, and find no real data."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delenv("TFSQUEEZE_DATA", raising=False)


def script(name):
    return importlib.import_module(name)


def run(name, folder, *, epochs=2, limit=256):
    arguments = ["-o", str(folder), "--epochs", str(epochs), "--limit", str(limit)]
    result = script(name).main(arguments, standalone_mode=False)
    assert result.path.exists()
    for made in ("model.keras", "report.md", "report.json", "steps.png", "accuracy-size.png"):
        assert (folder / made).stat().st_size > 0, made
    assert all(np.isfinite(list(step.metrics.values())).all() for step in result.steps)
    return result


def zeros(path):
    """The fraction of zeros in the kernels of a file."""
    kernels = [t.values() for t in read(path).main.tensors if t.is_constant and len(t.shape) > 1]
    kernels = [kernel for kernel in kernels if kernel.size > 100]
    return sum(np.sum(kernel == 0) for kernel in kernels) / sum(kernel.size for kernel in kernels)


def scores(folder):
    return json.loads((folder / "scores.json").read_text())


def is_all_integers(path):
    return not tfs.report(path, latency=False).float_ops


def test_an_interrupt_ends_with_130_and_tells_how_to_go_on(tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("workbench.begin", interrupt)
    result = CliRunner().invoke(script("image_classifier").main, ["-o", str(tmp_path), "--limit", "64"])
    assert result.exit_code == 130
    assert result.stderr.strip().endswith("The same command goes on after the last finished step.")


@pytest.mark.slow
def test_image_classifier_and_going_on(tmp_path):
    result = run("image_classifier", tmp_path)
    assert result.steps[1].macs <= 0.5 * result.steps[0].macs
    assert is_all_integers(result.path)
    again = run("image_classifier", tmp_path)
    assert all(step.is_reused for step in again.steps[1:])
    assert again.path.read_bytes() == result.path.read_bytes()


@pytest.mark.slow
def test_keyword_spotting_is_integers_at_both_ends_in_a_c_array(tmp_path):
    result = run("keyword_spotting", tmp_path)
    assert is_all_integers(result.path)
    tensors = read(result.path).main
    ends = [tensors.tensors[index] for index in (*tensors.inputs, *tensors.outputs)]
    assert [end.dtype for end in ends] == ["INT8", "INT8"]
    array = re.search(r"\{(.*?)\}", (tmp_path / "model.cc").read_text(), re.DOTALL)[1]
    assert bytes(map(int, array.split(","))) == result.path.read_bytes()


@pytest.mark.slow
def test_anomaly_detection_prunes_and_scores_each_file(tmp_path):
    result = run("anomaly_detection", tmp_path)
    assert list(scores(tmp_path)) == ["float", "model-float32.tflite", "model-int8.tflite"]
    assert all(0 <= score <= 1 for score in scores(tmp_path).values())
    assert all(zeros(path) >= 0.45 for path in result.paths)
    assert abs(np.subtract(*list(scores(tmp_path).values())[1:])) < 0.05


@pytest.mark.slow
def test_time_series_removes_recurrent_units(tmp_path):
    result = run("time_series", tmp_path)
    assert result.steps[1].parameters <= 0.5 * result.steps[0].parameters
    assert result.model.get_layer("lstm").units < 48
    assert [path.name for path in result.paths] == ["model-float32.tflite", "model-dynamic.tflite"]


@pytest.mark.slow
def test_text_classifier_of_low_rank(tmp_path):
    result = run("text_classifier", tmp_path)
    assert result.steps[1].parameters <= 0.5 * result.steps[0].parameters
    assert "words_reduce" in {layer.name for layer in tfs.strip_quantization(result.model).layers}
    assert len((tmp_path / "vocabulary.txt").read_text().splitlines()) > 100


@pytest.mark.slow
def test_all_in_order_keeps_the_zeros_to_the_end(tmp_path):
    result = run("prune_distil_quantize", tmp_path, epochs=3)
    assert result.steps[1].macs <= 0.4 * result.steps[0].macs
    assert zeros(result.path) >= 0.59
    assert is_all_integers(result.path)


@pytest.mark.slow
def test_segmentation_keeps_the_size_of_its_masks(tmp_path):
    result = run("segmentation", tmp_path, limit=96)
    first = keras.models.load_model(tmp_path / "model.keras")
    assert result.model.output_shape == first.output_shape
    assert result.steps[1].macs < 0.7 * result.steps[0].macs
    assert 0 < result.steps[3].metrics["mean_iou"] < 1


@pytest.mark.slow
def test_transfer_learning_to_a_lighter_backbone(tmp_path):
    result = run("transfer_learning", tmp_path, epochs=1, limit=128)
    assert result.steps[1].parameters < 0.4 * result.steps[0].parameters
    assert is_all_integers(result.path)


@pytest.mark.slow
def test_augmentation_in_a_compressed_training(tmp_path):
    result = run("augmentation", tmp_path)
    assert zeros(result.path) >= 0.55
    assert (tmp_path / "augmented.png").stat().st_size > 0


@pytest.mark.slow
def test_contrastive_pretraining_with_few_labels(tmp_path):
    result = run("contrastive_pretraining", tmp_path)
    assert result.steps[1].macs <= 0.3 * result.steps[0].macs
    assert len(np.load(tmp_path / "train.npz")["y"]) < len(np.load(tmp_path / "unlabelled.npz")["x"])


def test_augmented_images_are_new_in_each_epoch_and_mixed_with_their_labels():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (128, 12, 12, 3)).astype("float32")
    labels = keras.utils.to_categorical(rng.integers(3, size=128), 3)
    dataset = script("augmentation").augmented(images, labels)
    (first, answers), (second, _) = (next(iter(dataset)) for _ in range(2))
    assert first.shape == (64, 12, 12, 3) and not np.allclose(first, second)
    np.testing.assert_allclose(np.sum(answers, -1), 1, atol=1e-5)
    assert np.sum((answers > 0.01) & (answers < 0.99)) > 0


def test_contrastive_loss_is_that_of_views_of_one_image():
    module = script("contrastive_pretraining")
    images = np.eye(8, dtype="float32").reshape(8, 8, 1, 1)
    learner = module.Contrast(keras.Sequential([keras.Input((8, 1, 1)), keras.layers.Flatten()]))
    learner.view = learner.project = keras.layers.Identity()
    views = learner(images)
    assert views.shape == (16, 8)
    # Each view's one equal view has similarity 1 / temperature, the 14 others 0.
    np.testing.assert_allclose(learner.losses[0], np.log(1 + 14 * np.exp(-1 / 0.2)), rtol=1e-4)


def test_made_up_series_and_sounds_are_the_same_each_time():
    series = script("time_series")
    np.testing.assert_array_equal(series.load(), series.load())
    x, y = series.windows(np.arange(100, dtype="float32"), 10)
    assert x.shape == (10, 24, 1) and y.shape == (10, 6)
    np.testing.assert_allclose(y[:, 0] - x[:, -1, 0], y[:, 1] - y[:, 0], rtol=1e-3)
    (clips, labels), _ = script("keyword_spotting").tones(40)
    assert clips.shape == (32, 61, 40, 1) and labels.max() < 6


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_and_the_declarative_twin(name):
    shown = CliRunner().invoke(script(name).main, ["--help"])
    assert shown.exit_code == 0
    for word in ("--data", "--output", "--epochs", "--limit", "--seed", f"recipes/{name}.yaml"):
        assert word in shown.output, word
    steps = tfs.Recipe.from_file(FOLDER / f"{name}.yaml").steps
    assert {"export_tflite", "compare"} <= {step.verb for step in steps}
    assert f"tfsqueeze run {name}.yaml" in (FOLDER / f"{name}.yaml").read_text()
    assert f"[{name}.py]({name}.py)" in (FOLDER / "README.md").read_text()
