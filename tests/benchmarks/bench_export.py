"""Exports the MLPerf Tiny models and compares with the plain converter and with the published files.

    TFSQUEEZE_DATA=<folder> python tests/benchmarks/bench_export.py [--models ic vww kws ad] [--runs 5]

Accuracy is that of the `.tflite` file in the interpreter. Calibration data and evaluation data are apart:
image classification calibrates on CIFAR-10's training images (a JPEG edition); for the others, where there
is only the evaluation set, a part of it is set aside for calibration, "held out" is the rest.
Times are medians of alternating runs in one process, of float32 files and of full-integer files.
"""

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

import tfsqueeze as tfs
from tfsqueeze.export.quiet import quiet
from tfsqueeze.tflite.runner import Runner

CALIBRATION = 200


@dataclass
class Task:
    """One benchmark: the model's file, its data, and the figures that others published.

    Attributes:
        model: file under `mlperf_tiny/models`.
        published: its published `.tflite` files, by variant.
        calibration: inputs to calibrate on.
        inputs, labels: the whole evaluation set.
        held_out: which of it was not calibrated on.
        metric: metric of (outputs, labels).
    """

    name: str
    model: str
    published: dict[str, str]
    calibration: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray
    metric: Callable = lambda outputs, labels: float((outputs.argmax(1) == labels).mean())


def image_classification(data: Path) -> Task:
    stored = np.load(data / "mlperf_tiny/eval/ic01.npz")
    cifar = np.load(data / "cifar10/cifar10_jpeg_60k.npz")
    blob, offsets = cifar["train_jpeg"], cifar["train_off"]
    chosen = np.random.default_rng(0).choice(len(offsets) - 1, CALIBRATION, replace=False)
    images = [Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]].tobytes())) for i in chosen]
    return Task(
        "ResNet8 on ic01",
        "pretrainedResnet.h5",
        {"float32": "pretrainedResnet.tflite", "int8": "pretrainedResnet_quant.tflite"},
        np.stack([np.asarray(image) for image in images]).astype(np.float32),
        stored["x"].astype(np.float32),
        stored["y"],
        np.ones(len(stored["y"]), bool),
    )


def visual_wake_words(data: Path) -> Task:
    stored = np.load(data / "mlperf_tiny/eval/vww01.npz")
    return _split(
        "VWW on vww01",
        "vww_96.h5",
        {"float32": "vww_96_float.tflite", "int8": "vww_96_int8.tflite"},
        stored["x"].astype(np.float32) / 255,
        stored["y"],
    )


def keyword_spotting(data: Path) -> Task:
    stored = np.load(data / "mlperf_tiny/eval/kws01.npz")
    inputs = (stored["x"].astype(np.float32) - 83) * 0.5847029
    return _split("KWS on kws01", "kws_ref_model", {"int8": "kws_ref_model.tflite"}, inputs, stored["y"])


def anomaly_detection(data: Path) -> Task:
    """Windows of 5 frames, every 4th; a clip's score is its mean squared reconstruction error."""
    stored = np.load(data / "mlperf_tiny/eval/ad01.npz")
    frames, labels = stored["x"], stored["y"]
    windows = np.stack(
        [frames[:, start : start + 5].reshape(len(frames), 640) for start in range(0, 196, 4)], 1
    )
    chosen = np.random.default_rng(0).choice(np.flatnonzero(labels == 0), 20, replace=False)
    held_out = np.ones(len(labels), bool)
    held_out[chosen] = False
    calibration = np.random.default_rng(1).permutation(windows[chosen].reshape(-1, 640))[:CALIBRATION]
    inputs = windows.reshape(-1, 640)

    def area_under_curve(outputs, clip_labels):
        clips = outputs.reshape(len(clip_labels), -1, 640)
        originals = windows if len(clip_labels) == len(windows) else windows[held_out]
        scores = ((clips - originals) ** 2).mean((1, 2))
        normal, anomalous = scores[clip_labels == 0], scores[clip_labels == 1]
        return float((anomalous[:, None] > normal[None]).mean())

    published = {"float32": "ad01_fp32.tflite", "int8": "ad01_int8.tflite"}
    return Task("AD on ad01", "ad01.h5", published, calibration, inputs, labels, held_out, area_under_curve)


TASKS = {
    "ic": image_classification,
    "vww": visual_wake_words,
    "kws": keyword_spotting,
    "ad": anomaly_detection,
}


def _split(name, model, published, inputs, labels) -> Task:
    chosen = np.random.default_rng(0).choice(len(labels), CALIBRATION, replace=False)
    held_out = np.ones(len(labels), bool)
    held_out[chosen] = False
    return Task(name, model, published, inputs[chosen], inputs, labels, held_out)


def scores(task: Task, outputs: np.ndarray) -> tuple[float, float]:
    """The metric on the whole set and on what was held out."""
    repeats = len(outputs) // len(task.labels)
    kept = np.repeat(task.held_out, repeats)
    return task.metric(outputs, task.labels), task.metric(outputs[kept], task.labels[task.held_out])


def run_file(content, inputs: np.ndarray) -> np.ndarray:
    runner = Runner(content)
    return next(iter(runner.run({runner.inputs[0].name: inputs}).values()))


def bare_converter(model, calibration: np.ndarray | None) -> bytes:
    """What TensorFlow's documentation says to write by hand."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([example[None]] for example in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet():
        return converter.convert()


def export(model, calibration, folder, **options):
    quantized = {"quantize": "int8", "io_dtype": "int8"} if calibration is not None else {}
    quantized.update(options)
    return tfs.export_tflite(model, Path(folder) / "m.tflite", representative_data=calibration, **quantized)


def bench(task: Task, data: Path, runs: int) -> list[str]:
    models = data / "mlperf_tiny/models"
    model = tfs.load_model(models / task.model)
    rows = []

    def row(what, content, outputs, note=""):
        size = "" if content is None else f"{len(content):,}"
        whole, held_out = scores(task, outputs)
        rows.append(f"| {task.name} | {what} | {whole:.4f} | {held_out:.4f} | {size} | {note} |")

    keras_outputs = model.predict(task.inputs, batch_size=256, verbose=0)
    row("Keras", None, keras_outputs)
    for variant, name in task.published.items():
        content = (models / name).read_bytes()
        row(f"published {variant}", content, run_file(content, task.inputs))
    with tempfile.TemporaryDirectory() as folder:
        for variant, calibration in (("float32", None), ("int8", task.calibration)):
            content = bare_converter(model, calibration)
            row(f"plain converter {variant}", content, run_file(content, task.inputs))
        for variant in ("float32", "float16", "dynamic", "int8", "int16x8", "int4"):
            for io_dtype in ("float32", "int8") if variant == "int8" else ("float32",):
                options = {"quantize": None if variant == "float32" else variant, "io_dtype": io_dtype}
                result = export(model, task.calibration, folder, **options)
                content = result.path.read_bytes()
                outputs = run_file(content, task.inputs)
                largest = np.abs(outputs - keras_outputs).max() / np.abs(keras_outputs).max()
                error = f"max error {largest:.0e} of the range, " if variant == "float32" else ""
                ends = ", int8 in and out" if io_dtype == "int8" else ""
                note = f"{error}{result.backend}, {result.snr_db:.1f} dB"
                row(f"**tfsqueeze {variant}{ends}**", content, outputs, note)
        if runs:
            rows += [
                time_row(task, model, calibration, folder, runs) for calibration in (None, task.calibration)
            ]
    return rows


def time_row(task: Task, model, calibration, folder, runs: int) -> str:
    """Median seconds of both, measured in turns."""
    ours, bare = [], []
    for _ in range(runs):
        for seconds, call in (
            (bare, lambda: bare_converter(model, calibration)),
            (ours, lambda: export(model, calibration, folder)),
        ):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    first, second = statistics.median(bare), statistics.median(ours)
    variant = "float32" if calibration is None else "int8"
    figures = f"{first:.2f} s plain, {second:.2f} s tfsqueeze with parity check, ratio {second / first:.2f}"
    return f"| {task.name} | time of {variant} | | | | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each; 0 leaves timing out")
    arguments = parser.parse_args()
    if "TFSQUEEZE_DATA" not in os.environ:
        parser.exit(2, "Set TFSQUEEZE_DATA to the folder with mlperf_tiny/ and cifar10/.\n")
    data = Path(os.environ["TFSQUEEZE_DATA"])
    print(
        "| task | what | metric, whole set | metric, held out | bytes | |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name in arguments.models:
        print("\n".join(bench(TASKS[name](data), data, arguments.runs)), flush=True)


if __name__ == "__main__":
    main()
