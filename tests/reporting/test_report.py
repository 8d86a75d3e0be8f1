"""`report` and `compare` from outside: what they accept, measure, print and refuse."""

import json
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.reporting.conftest import CLASSES, IMAGES, convert
from tests.zoo import ZOO
from tfsqueeze.reporting import compare, report
from tfsqueeze.reporting.plots import _label_places


@pytest.fixture(scope="module")
def comparison(image_model, files):
    return compare({"keras": image_model, **files}, data=(IMAGES, CLASSES), runs=5)


def test_report_of_a_file(files):
    result = report(files["int8"], data=(IMAGES, CLASSES), runs=7, threads=2)
    assert result.name == "int8.tflite" and result.path == files["int8"]
    assert result.kind == "TFLite file" and result.file_bytes == files["int8"].stat().st_size
    assert (result.latency.runs, result.latency.threads) == (7, 2)
    assert result.latency.delegate in ("XNNPACK", "none")
    assert result.examples == 40 and 0 <= result.metrics["accuracy"] <= 1


def test_scores_are_those_of_the_models_themselves(comparison, image_model, files):
    expected = np.mean(image_model.predict(IMAGES, verbose=0).argmax(-1) == CLASSES)
    assert comparison["keras"].metrics == {"accuracy": pytest.approx(expected)}
    assert comparison["float"].metrics == comparison["keras"].metrics
    interpreter = tf.lite.Interpreter(str(files["int8"]))
    interpreter.allocate_tensors()
    hits = 0
    for image, label in zip(IMAGES, CLASSES, strict=True):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        hits += interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).argmax() == label
    assert comparison["int8"].metrics["accuracy"] == pytest.approx(hits / 40)


def test_everything_a_model_can_be_given_as(image_model, files, contents, tmp_path):
    image_model.save(tmp_path / "model.keras")
    model_bytes = image_model.count_params() * 4
    assert report(image_model).weight_bytes == model_bytes
    saved = report(tmp_path / "model.keras")
    assert saved.weight_bytes == model_bytes and saved.name == "model.keras"
    for form in (files["float"], str(files["float"]), contents[None], SimpleNamespace(path=files["float"])):
        assert report(form, latency=False).file_bytes == len(contents[None])
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(contents[None])
    assert report(renamed, latency=False).kind == "TFLite file"


def test_keras_latency_is_measured_only_when_asked(image_model):
    assert report(image_model).latency is None
    latency = report(image_model, latency="all", runs=5, batch_size=3).latency
    assert (latency.delegate, latency.threads, latency.batch_size) == ("tf.function", None, 3)


def test_batch_size_of_timed_runs(files, image_model):
    assert report(files["float"], runs=5, batch_size=4).latency.batch_size == 4
    fixed = keras.Sequential([keras.Input((5,), batch_size=2), layers.Dense(3)])
    result = report(convert(fixed), data=(np.ones((5, 5)), np.arange(5) % 3), runs=5, batch_size=4)
    assert result.latency.batch_size == 2 and result.examples == 5
    assert report(fixed, data=(np.ones((5, 5)), np.arange(5) % 3)).metrics == result.metrics


@pytest.mark.parametrize("name", ["shared", "multi_output", "subclassed", "recurrent", "attention"])
def test_models_of_every_shape(name):
    model = ZOO[name]()
    result = report(model)
    assert result.parameters == model.count_params()
    assert str(result) and result.to_json() and result.to_markdown()


def test_several_inputs_and_outputs_by_name():
    model = ZOO["multi_output"]()
    rng = np.random.default_rng(0)
    inputs = {"first": rng.normal(size=(9, 5)), "second": rng.normal(size=(9, 7))}
    targets = {"kind": np.arange(9) % 3, "score": rng.normal(size=(9, 1))}
    result = compare(
        {"keras": model, "file": convert(model)}, data=(inputs, targets), metric=None, latency=False
    )
    assert set(result["keras"].metrics) == {"kind accuracy", "score mean_squared_error"}
    for name, value in result["keras"].metrics.items():
        assert result["file"].metrics[name] == pytest.approx(value, abs=1e-5)


def test_dataset_and_sample_weights(image_model):
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(16)
    assert report(image_model, data=dataset).metrics == report(image_model, data=(IMAGES, CLASSES)).metrics
    only_first = np.zeros(40)
    only_first[0] = 1
    assert report(image_model, data=(IMAGES, CLASSES, only_first)).metrics["accuracy"] in (0, 1)


def test_ratios_refer_to_the_first_entry(comparison):
    first, int8 = comparison["keras"], comparison["int8"]
    assert comparison.ratio("int8", "file_bytes") == first.file_bytes / int8.file_bytes
    assert comparison.ratio("int8", "latency") is None
    assert comparison.ratio("keras", "macs") == 1
    assert list(comparison) == ["keras", "float", "int8"] and len(comparison) == 3


def test_printed_tables_fit_100_columns_and_show_unknowns_as_a_dash(comparison, files):
    text = str(comparison)
    assert max(map(len, text.splitlines())) <= 100
    assert all(word in text for word in ("keras", "float", "int8", "accuracy", "MACs", "batch 1, 1 thread"))
    row = next(line for line in text.splitlines() if line.strip().startswith("keras"))
    assert " - " in row
    alone = str(report(files["int8"], latency=False))
    assert max(map(len, alone.splitlines())) <= 100
    assert "CONV_2D" in alone and "Activation memory" in alone
    assert next(line for line in alone.splitlines() if "Latency" in line).split() == ["Latency", "-"]


def test_text_is_text_in_a_notebook_too(comparison, monkeypatch):
    expected = str(comparison)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert str(comparison) == expected


def test_layers_beyond_thirty_are_summarised():
    deep = keras.Sequential([keras.Input((4,)), *(layers.Dense(4) for _ in range(40))])
    result = report(deep)
    assert "30 largest layers; `layers` has 10 more" in str(result)
    assert len(result.layers) == len(result.to_dict()["layers"]) == 40


def test_plain_data_markdown_and_files(comparison, tmp_path):
    data = json.loads(comparison.to_json(tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_text()) == data
    assert data["int8"]["file_bytes"] == comparison["int8"].file_bytes
    assert data["int8"]["ratios"]["parameters"] > 1
    assert data["keras"]["latency"] is None
    assert data["float"]["layers"][0]["sparsity"] == 0
    markdown = comparison.to_markdown(tmp_path / "report.md")
    header, rule, *rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert header.count("|") == rule.count("|") and len(rows) == 3
    assert (tmp_path / "report.md").read_text() == markdown + "\n"


def test_scores_that_are_not_finite_stay_valid_json(pruned_dense):
    def undefined(y_true, y_pred):
        return float("nan")

    result = report(pruned_dense, data=(np.ones((2, 3)), np.ones((2, 2))), metric=undefined)
    assert json.loads(result.to_json())["metrics"] == {"undefined": None}


def test_plots_are_written(comparison, files, tmp_path):
    comparison.plot(tmp_path / "front.png")
    comparison["int8"].plot(tmp_path / "layers.svg")
    compare(files, latency=False).plot(tmp_path / "sizes.png")
    for name in ("front.png", "layers.svg", "sizes.png"):
        assert (tmp_path / name).stat().st_size > 1000
    axes = comparison.plot().axes[0]
    labels = {text.get_text().split("\n")[0] for text in axes.texts}
    assert {"keras", "float", "int8"} <= labels and axes.get_ylabel() == "accuracy"
    assert comparison.plot(size="gzip_bytes").axes[0].get_xlabel().startswith("gzipped size")
    with pytest.raises(ValueError, match="`size` must be one of"):
        comparison.plot(size="gzip")


def test_labels_of_files_of_one_size_do_not_cover_each_other():
    assert _label_places([500, 60, 61, 60.5, 62]) == [1, 1, 2, -1, -2]


def test_plot_without_matplotlib_names_the_extra(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install tfsqueeze\[plots\]"):
        comparison.plot()


def test_operators_only_tensorflow_can_run_are_named():
    class Inverse(layers.Layer):
        def call(self, x):
            return tf.linalg.inv(x)

    model = keras.Sequential([keras.Input((3, 3)), Inverse()])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    result = report(converter.convert(), latency=False)
    assert result.select_tf_ops == ["MatrixInverse"]
    assert "MatrixInverse" in str(result)


def test_bad_input_is_explained(image_model, files, tmp_path):
    with pytest.raises(TypeError, match=r"Expected a keras\.Model, a path"):
        report(42)
    with pytest.raises(ValueError, match="nothing to compare"):
        compare({})
    with pytest.raises(TypeError, match="dict of models by name"):
        compare([image_model])
    with pytest.raises(ValueError, match="has no targets"):
        report(image_model, data=IMAGES)
    with pytest.raises(ValueError, match=r"must have shape \(n, 8, 8, 3\)"):
        report(files["float"], data=(IMAGES[:, :4], CLASSES))
    with pytest.raises(ValueError, match=r"missing\.tflite"):
        report(tmp_path / "missing.tflite")
    (tmp_path / "text.tflite").write_text("this is no model at all")
    with pytest.raises(ValueError, match=r"not a \.tflite file"):
        report(tmp_path / "text.tflite")


FUZZ = """
import sys
import numpy as np
from tfsqueeze.reporting import report
content = open(sys.argv[1], "rb").read()
rng = np.random.default_rng(0)
refused = 0
for attempt in range(100):
    damaged = bytearray(content)
    if attempt % 4 == 0:
        damaged = damaged[: rng.integers(0, len(content))]
    else:
        for position in rng.integers(0, len(content), 1 + attempt % 20):
            damaged[position] = rng.integers(0, 256)
    try:
        report(bytes(damaged), runs=1, data=(np.ones((2, 8, 8, 3)), np.arange(2)))
    except ValueError:
        refused += 1
print("survived", refused)
"""


def test_corrupt_files_raise_value_errors_and_never_end_the_process(files):
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(files["int8"])],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) >= 25
