"""Post-training quantization with repair against the bare back-ends: the cases and their tables."""

import contextlib
import io
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tests.benchmarks.tiny import Task, task
from tfsqueeze.quantization.wrapper import quantized_layers
from tfsqueeze.tflite.runner import Runner

TASKS = ("resnet8", "kws", "vww", "ad")
BARE = {"equalize": False, "ranges": "min_max", "rounding": "nearest", "correct_bias": False}
PEER_SAMPLES = 200


def run_file(path, inputs) -> np.ndarray:
    """The first output of a file."""
    runner = Runner(path)
    return next(iter(runner.run({runner.inputs[0].name: inputs}).values()))


def converter(model, calibration, path) -> None:
    """TensorFlow's converter with representative data, nothing of ours."""
    import tensorflow as tf

    convert = tf.lite.TFLiteConverter.from_keras_model(model)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    convert.representative_dataset = lambda: ([one[None]] for one in calibration[:PEER_SAMPLES])
    with contextlib.redirect_stdout(io.StringIO()):
        Path(path).write_bytes(convert.convert())


def ours(model, calibration, path, preset="int8", **options) -> keras.Model:
    """Calibrates and exports without further data."""
    quantized = tfs.calibrate(model, calibration, preset, **options)
    tfs.export_tflite(quantized, path, quantize="int4" if preset == "int4" else "int8")
    return quantized


def post_training(arguments) -> None:
    """Files of each task: score, distance from float, agreement with the Keras model they were made of."""
    for name in arguments.tasks:
        found = task(name, arguments.cache)
        expected = found.model.predict(found.inputs, batch_size=256, verbose=0)
        print(f"\n{name}: float {found.score(expected):.4f} on {len(found.inputs):,} examples\n", flush=True)
        print(
            "| | score | agrees with float | with its model | but for ties | within a step | mse | bytes |"
            "\n|---|---|---|---|---|---|---|---|"
        )
        for label, path, quantized in _files(name, found, arguments.cache):
            _show(label, path, quantized, found, expected)


def _files(name, found: Task, cache):
    folder = cache / "post-training"
    folder.mkdir(parents=True, exist_ok=True)
    if found.published and (published := _published(found.published)).exists():
        yield "published file", published, None
    path = folder / f"{name}-converter.tflite"
    converter(found.model, found.calibration, path)
    yield "converter", path, None
    path = folder / f"{name}-repaired.tflite"
    yield "repaired", path, ours(found.model, found.calibration, path)
    if name == "resnet8":
        path = folder / f"{name}-litert-int4.tflite"
        data = found.calibration[:PEER_SAMPLES]
        tfs.export_tflite(
            found.model, path, quantize="int4", representative_data=data, backend="litert-quantizer"
        )
        yield "litert-quantizer int4", path, None
        path = folder / f"{name}-int4.tflite"
        yield "repaired int4", path, ours(found.model, found.calibration, path, "int4")


def _published(name) -> Path:
    return cifar10.data_folder() / "mlperf_tiny" / "models" / name


def _show(label, path, quantized, found: Task, expected) -> None:
    given = run_file(path, found.inputs)
    agreement = float((given.argmax(1) == expected.argmax(1)).mean())
    twin = "- | - | -"
    if quantized is not None:
        own = quantized.predict(found.inputs, batch_size=256, verbose=0)
        twin = " | ".join(f"{share:.4f}" for share in likeness(given, own, *steps(quantized)))
    error = float(np.square(given - expected).mean())
    print(
        f"| {label} | {found.score(given):.4f} | {agreement:.4f} | {twin} | {error:.2e} | "
        f"{Path(path).stat().st_size:,} |",
        flush=True,
    )


def likeness(given, own, step: float, logit_step: float | None = None) -> tuple[float, float, float]:
    """How a file's outputs compare with those of its Keras model.

    Args:
        given, own: outputs of the file and of the model, (n, classes).
        step: between two levels of the outputs.
        logit_step: the same in front of a softmax, where classes tie; None without one.

    Returns:
        Shares of examples of the same class; of these and those whose two classes the model has at most a
        step apart; and of outputs at most a step apart.
    """
    chosen = given.argmax(1)
    scores = own if logit_step is None else np.log(np.maximum(own, step / 2))
    lead = scores.max(1) - np.take_along_axis(scores, chosen[:, None], 1)[:, 0]
    # Leads are whole steps, but for the rounding of the probabilities they are read from.
    near = 1.5 * (logit_step or step)
    return (
        float((chosen == own.argmax(1)).mean()),
        float((lead < near).mean()),
        float((np.abs(given - own) < 1.5 * step).mean()),
    )


def steps(quantized) -> tuple[float, float | None]:
    """The steps of a model's outputs, and of the logits that the last kernel gives, if a function follows."""
    logits = quantized_layers(quantized)[-1].quantizer
    return _step(quantized.outputs[0]._keras_history.operation), None if logits is None else _step(logits)


def _step(quantizer) -> float:
    low, high = quantizer.bounds()
    return (high - low) / (2**quantizer.bits - 1)
