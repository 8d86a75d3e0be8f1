"""The command line: what it writes, prints and returns, in process and as a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import tfsqueeze
from tests.zoo import ZOO
from tfsqueeze.cli import cli
from tfsqueeze.tflite.file import read

ENTRY = Path(tfsqueeze.__file__).parents[1] / "tfsqueeze_command.py"
rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (48, 8, 8, 3)).astype("uint8")
CLASSES = rng.integers(0, 4, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model with calibration and evaluation data."""
    folder = tmp_path_factory.mktemp("cli")
    model = ZOO["sequential"]()
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(folder / "model.keras")
    np.savez(folder / "calibration.npz", x=IMAGES)
    np.savez(folder / "test.npz", x=IMAGES, y=CLASSES)
    result = run("convert", folder / "model.keras", "-o", folder / "float.tflite")
    assert result.exit_code == 0, result.output
    return folder


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def spawn(*arguments, **options):
    return subprocess.run(
        [sys.executable, ENTRY, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def test_convert_calibrates_and_shows_both_scores(folder, tmp_path):
    target = tmp_path / "int8.tflite"
    result = run(
        *("convert", folder / "model.keras", "-o", target, "--quantize", "int8", "--scale", "1/255"),
        *("--data", folder / "calibration.npz", "--eval", folder / "test.npz", "--io-dtype", "int8"),
        *("--backend", "converter", "--samples", "20"),
    )
    assert result.exit_code == 0, result.output
    file = read(target)
    assert file.main.tensors[file.main.inputs[0]].dtype == "INT8"
    rows = [
        line.split() for line in result.stdout.splitlines() if line.split()[:1] in (["keras"], ["tflite"])
    ]
    model = keras.models.load_model(folder / "model.keras")
    expected = np.mean(model.predict(IMAGES / 255.0, verbose=0).argmax(-1) == CLASSES)
    assert rows[0][-1] == f"{expected:.4f}"
    assert abs(float(rows[1][-1]) - expected) < 0.2
    assert f"{target.stat().st_size:,}" in result.stdout


def test_convert_calibrates_from_a_folder_of_images(folder, tmp_path):
    for index, pixels in enumerate(IMAGES[:12]):
        name = tmp_path / "photos" / f"class{index % 4}" / f"{index}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((16, 12)).save(name)
    result = run(
        *("convert", folder / "model.keras", "-o", tmp_path / "m.tflite", "--quantize", "int8", "--json"),
        *("--data", tmp_path / "photos", "--eval", tmp_path / "photos", "--scale", "x/127.5-1"),
    )
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["export"]["quantize"] == "int8"
    assert data["comparison"]["tflite"]["examples"] == 12
    assert set(data["comparison"]["keras"]["metrics"]) == {"accuracy"}


def test_report_and_compare(folder, tmp_path):
    result = run("report", folder / "float.tflite", "--data", folder / "test.npz", "--scale", "1/255")
    assert result.exit_code == 0 and "accuracy" in result.stdout and "CONV_2D" in result.stdout
    result = run(
        *("compare", f"before={folder / 'model.keras'}", folder / "float.tflite", "--runs", "5"),
        *("--data", folder / "test.npz", "--scale", "1/255", "--samples", "30", "--metric", "accuracy"),
        *("-o", tmp_path / "c.md", "-o", tmp_path / "c.json", "-o", tmp_path / "c.png", "--json"),
    )
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert set(data) == {"before", "float.tflite"} == set(json.loads((tmp_path / "c.json").read_text()))
    assert data["before"]["metrics"] == data["float.tflite"]["metrics"]
    assert data["before"]["examples"] == 30
    assert data["float.tflite"]["latency"]["runs"] == 5
    assert (tmp_path / "c.md").read_text().startswith("**Comparison**")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_report_without_latency(folder):
    data = json.loads(run("report", folder / "float.tflite", "--no-latency", "--json").stdout)
    assert data["latency"] is None and data["parameters"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert"], "Missing argument 'MODEL'"),
        (["convert", "{model}"], "Missing option '-o'"),
        (["convert", "gone.keras", "-o", "m.tflite"], "does not exist"),
        (["convert", "{model}", "-o", "m.bin"], "must end in .tflite"),
        (["convert", "{model}", "-o", "m.tflite", "--quantize", "int7"], "is not one of"),
        (["convert", "{model}", "-o", "m.tflite", "--scale", "x**2"], "linear in x"),
        (["convert", "{model}", "-o", "m.tflite", "--samples", "0"], "not in the range"),
        (["report", "{model}", "-o", "report.docx"], "must end in one of .json, .md"),
        (["compare", "gone=gone.tflite"], "'gone.tflite' does not exist"),
        (["compare", "a={model}", "a={model}"], "Two models are named 'a'"),
        (["compare"], "Missing argument"),
        (["squash"], "No such command 'squash'"),
    ],
)
def test_wrong_usage_ends_with_2(arguments, message, folder):
    result = run(*(argument.replace("{model}", str(folder / "model.keras")) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.stderr and not result.stdout


def test_failed_work_ends_with_1_and_one_message(folder, tmp_path):
    target = tmp_path / "m.tflite"
    target.write_bytes(b"before")
    model = folder / "model.keras"
    broken = tmp_path / "broken.keras"
    broken.write_bytes(model.read_bytes()[:2000])
    np.savez(tmp_path / "wrong.npz", x=IMAGES[:, :4])
    np.savez(tmp_path / "keys.npz", a=IMAGES, b=IMAGES)
    for arguments, message in (
        ((model, "--quantize", "int8"), "--quantize int8 needs --data"),
        ((model, "--quantize", "int8", "--data", tmp_path / "wrong.npz"), "must have shape (n, 8, 8, 3)"),
        ((model, "--quantize", "int8", "--data", tmp_path / "keys.npz"), "keys ['a', 'b']"),
        ((model, "--eval", folder / "calibration.npz"), "no targets"),
        ((broken,), "broken.keras"),
        ((tmp_path,), str(tmp_path)),
    ):
        result = run("convert", *arguments, "-o", target)
        assert result.exit_code == 1, result.output
        assert (
            f"Error: {result.stderr.split('Error: ')[1]}".strip().count("\n") == 0
            or "\n\n" not in result.stderr
        )
        assert message in result.stderr and "Traceback" not in result.stderr
        assert not result.stdout
        assert target.read_bytes() == b"before"
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_corrupt_tflite_file_is_an_error_not_a_crash(tmp_path, folder):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes((folder / "float.tflite").read_bytes()[:3000])
    result = run("report", damaged)
    assert result.exit_code == 1 and "truncated or corrupt" in result.stderr


def test_debug_shows_the_traceback(tmp_path):
    (tmp_path / "text.tflite").write_text("no model")
    result = run("report", tmp_path / "text.tflite", "--debug")
    assert isinstance(result.exception, ValueError)


def test_interrupt_ends_with_130(monkeypatch, folder):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("tfsqueeze.reporting.report", interrupt)
    result = run("report", folder / "float.tflite")
    assert result.exit_code == 130
    assert result.stderr.strip().endswith(
        "Interrupted, nothing half-written: the same command may be run again."
    )


def test_every_option_has_help_with_an_example():
    for command in cli.commands.values():
        assert "tfsqueeze " in command.help, command.name
        for option in command.params:
            if option.param_type_name == "option" and option.name not in ("debug", "as_json"):
                assert "Example" in option.help, (command.name, option.name)


LOADED = """
import runpy, sys
entry, sys.argv = sys.argv[1], ["tfsqueeze", "--version"]
try:
    runpy.run_path(entry, run_name="__main__")
except SystemExit:
    print("tensorflow" in sys.modules or "keras" in sys.modules)
"""


def test_help_and_version_answer_at_once_without_tensorflow():
    for arguments, text in ((["--help"], "Commands:"), (["--version"], tfsqueeze.__version__)):
        start = time.perf_counter()
        done = spawn(*arguments)
        assert done.returncode == 0 and text in done.stdout
        assert time.perf_counter() - start < 3, "TensorFlow alone takes longer"
    done = subprocess.run(
        [sys.executable, "-c", LOADED, ENTRY], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split()[-1] == "False"


def test_stdout_of_the_process_is_pure_json_and_stderr_quiet(folder):
    done = spawn("report", folder / "float.tflite", "--json", "--runs", "5")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "TFLite file"
    lines = done.stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["Loading", "Measuring"], done.stderr


def test_ctrl_c_leaves_nothing_behind(folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, ENTRY, "convert", folder / "model.keras", "-o", tmp_path / "m.tflite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline().startswith("Loading TensorFlow")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        stderr.strip().splitlines()[-1]
        == "Interrupted, nothing half-written: the same command may be run again."
    )
    assert not stdout and list(tmp_path.iterdir()) == []
