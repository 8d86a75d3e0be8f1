"""Quantization of ResNet8 on CIFAR-10 against tfmot and the converter, from the same float baseline.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization qat --seeds 0 1 2

Every side gets the same fine-tuned weights, optimizer (Adam, cosine from 1e-3), batches of 128 (flipped and
cropped) and epochs (4). Accuracy is that of the exported file on the 10,000 test images; bytes are those of
the file, raw and gzipped. The converter quantizes the baseline after training, with 200 training images.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization post-training
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization rescaled

quantize without training or labels: see `post_training`.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10, post_training
from tfsqueeze.models.legacy import import_tfmot

EPOCHS = 4
CALIBRATION = 512
SETTINGS = ("float", "converter", "int8", "tfmot", "int4", "ternary", "binary")


class StepClock(keras.callbacks.Callback):
    """The median seconds of a training step."""

    def __init__(self):
        super().__init__()
        self._times: list[float] = []

    def on_train_batch_begin(self, batch, logs=None):
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self._times.append(time.perf_counter() - self._start)

    @property
    def seconds(self) -> float:
        return statistics.median(self._times[10:] or self._times)


def copy_of(baseline):
    model = keras.models.clone_model(baseline)
    model.set_weights(baseline.get_weights())
    return model


def training(train, seed, limit):
    """Batches and the number of steps, cut to `limit` steps per epoch where it is given."""
    batches, steps = cifar10.batches(*train, seed), cifar10.steps(train[0], 1)
    return (batches.take(limit), limit) if limit else (batches, steps)


def quantize_options(train, steps):
    """Ranges and statistics freeze for the last quarter, so that the end trains on what the file computes."""
    end = steps * EPOCHS
    freezing = tfs.QuantizationCallback(freeze_ranges_step=end * 3 // 4, freeze_batch_norm_step=end * 3 // 4)
    return train[0][:CALIBRATION].astype("float32"), freezing


def ours(preset, baseline, train, seed, folder, limit):
    """Quantization-aware training and export without data."""
    keras.utils.set_random_seed(seed)
    batches, steps = training(train, seed, limit)
    data, freezing = quantize_options(train, steps)
    qat = cifar10.compiled(tfs.quantize_aware(baseline, preset, data=data), steps * EPOCHS)
    clock = StepClock()
    qat.fit(batches, epochs=EPOCHS, verbose=0, callbacks=[freezing, clock])
    path = folder / f"{preset}.tflite"
    print(tfs.export_tflite(qat, path, quantize="int8"))
    return path, clock.seconds


def float_training(baseline, train, seed, folder, limit):
    """The same epochs in float."""
    keras.utils.set_random_seed(seed)
    batches, steps = training(train, seed, limit)
    model, clock = cifar10.compiled(copy_of(baseline), steps * EPOCHS), StepClock()
    model.fit(batches, epochs=EPOCHS, verbose=0, callbacks=[clock])
    path = folder / "float.tflite"
    tfs.export_tflite(model, path)
    return path, clock.seconds


def converter(baseline, train, seed, folder, limit):
    """TensorFlow's converter after training, no training of ours."""
    images = train[0][np.random.default_rng(seed).choice(len(train[0]), 200, replace=False)]
    path = folder / "converter.tflite"
    post_training.converter(copy_of(baseline), images.astype("float32"), path)
    return path, float("nan")


def tfmot(baseline, train, seed, folder, limit):
    """`quantize_model` on tf_keras, converted by the plain converter."""
    import tensorflow as tf

    quantization = import_tfmot().quantization.keras
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    published = cifar10.data_folder() / "mlperf_tiny" / "models" / "pretrainedResnet.h5"
    model = tf_keras.models.load_model(published, compile=False)
    model.set_weights(baseline.get_weights())
    batches, steps = training(train, seed, limit)
    qat = cifar10.compiled(quantization.quantize_model(model), steps * EPOCHS, library=tf_keras)
    times = []

    class LegacyClock(tf_keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            times.append(-time.perf_counter())

        def on_train_batch_end(self, batch, logs=None):
            times[-1] += time.perf_counter()

    qat.fit(batches, epochs=EPOCHS, verbose=0, callbacks=[LegacyClock()])
    convert = tf.lite.TFLiteConverter.from_keras_model(qat)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    path = folder / "tfmot.tflite"
    path.write_bytes(convert.convert())
    return path, statistics.median(times[10:] or times)


def run(name, *arguments):
    """The file of one setting, and the seconds of its training step."""
    sides = {"float": float_training, "converter": converter, "tfmot": tfmot}
    return sides[name](*arguments) if name in sides else ours(name, *arguments)


def qat(arguments) -> None:
    """All settings and seeds; prints a table after each seed."""
    folder = arguments.cache
    train, test = cifar10.load(folder)
    rows: dict[str, list] = {}
    for seed, name in itertools.product(arguments.seeds, arguments.settings):
        baseline = cifar10.baseline(folder, train, seed)
        path, seconds = run(name, baseline, train, seed, folder, arguments.steps)
        measured = (cifar10.file_accuracy(path, *test), *cifar10.bytes_of(path), seconds)
        rows.setdefault(name, []).append(measured)
        print(f"{name}, seed {seed}: {measured}", flush=True)
        if name == arguments.settings[-1]:
            show(rows)


def show(rows) -> None:
    """Prints the table so far; step times are relative to float training of the same run."""
    plain = [row[3] for row in rows.get("float", [])]
    print("| | accuracy (each seed) | bytes | gzipped | step time / float |\n|---|---|---|---|---|")
    for name, measured in rows.items():
        accuracies, raw, packed, seconds = zip(*measured, strict=True)
        each = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        ratio = (
            statistics.median(s / p for s, p in zip(seconds, plain, strict=False)) if plain else float("nan")
        )
        mean = np.mean(accuracies)
        print(
            f"| {name} | {mean:.3f} ({each}) | {raw[0]:,} | {int(np.mean(packed)):,} | {ratio:.2f} |",
            flush=True,
        )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("qat", help="quantization-aware training")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    command.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and baselines")
    command.add_argument("--steps", type=int, default=0, help="steps per epoch, to try the benchmark; 0: all")
    command.set_defaults(run=qat)
    command = commands.add_parser(
        "post-training", help="files made without training, of the MLPerf Tiny networks"
    )
    command.add_argument("--tasks", nargs="+", default=list(post_training.TASKS), choices=post_training.TASKS)
    command.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and baselines")
    command.set_defaults(run=post_training.post_training)
    command = commands.add_parser("rescaled", help="MobileNetV2 with channels scaled apart")
    command.add_argument("--images", type=int, default=2000, help="test images to compare on")
    command.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and baselines")
    command.set_defaults(run=post_training.rescaled)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
