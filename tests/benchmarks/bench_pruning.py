"""Weight pruning of ResNet8 on CIFAR-10 against tfmot, from the same float baseline.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_pruning --seeds 0 1 2

Both sides get the same fine-tuned weights, optimizer (Adam, cosine from 1e-3), batches of 128 (flipped and
cropped), epochs (4), and the same cubic schedule ending at the same step. Accuracy is that of the exported
float32 file on the 10,000 test images; bytes are those of the file, raw and gzipped.
"""

import argparse
import statistics
import time
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tfsqueeze.models.legacy import import_tfmot

EPOCHS = 4
SETTINGS = {
    "50 %": {"sparsity": 0.5},
    "80 %": {"sparsity": 0.8},
    "90 %": {"sparsity": 0.9},
    "95 %": {"sparsity": 0.95},
    "2:4": {"sparsity": 0.5, "pattern": "2:4"},
}
RECOMMENDED = {"scope": "lamp"}
END = 0.5
FREQUENCY = 50


class Clock(keras.callbacks.Callback):
    """Seconds of the last epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self._start


def ours(baseline, train, seed, sparsity, folder, pattern="unstructured"):
    """Trains with PruningCallback and exports; returns the path and the seconds of the last epoch."""
    keras.utils.set_random_seed(seed)
    total = cifar10.steps(train[0], EPOCHS)
    model = cifar10.compiled(keras.models.clone_model(baseline), total)
    model.set_weights(baseline.get_weights())
    options = RECOMMENDED if pattern == "unstructured" else {"pattern": pattern}
    schedule = tfs.schedules.Polynomial(0.0, sparsity, 0, int(END * total), frequency=FREQUENCY)
    clock = Clock()
    callbacks = [tfs.PruningCallback(schedule, **options), clock]
    model.fit(cifar10.batches(*train, seed), epochs=EPOCHS, verbose=0, callbacks=callbacks)
    path = folder / "ours.tflite"
    tfs.export_tflite(model, path)
    return path, clock.seconds


def plain(baseline, train, seed, folder):
    """The same training without pruning."""
    keras.utils.set_random_seed(seed)
    model = cifar10.compiled(keras.models.clone_model(baseline), cifar10.steps(train[0], EPOCHS))
    model.set_weights(baseline.get_weights())
    clock = Clock()
    model.fit(cifar10.batches(*train, seed), epochs=EPOCHS, verbose=0, callbacks=[clock])
    path = folder / "plain.tflite"
    tfs.export_tflite(model, path)
    return path, clock.seconds


def tfmot(baseline, train, seed, sparsity, folder, pattern="unstructured"):
    """The same with tfmot's wrappers on tf_keras, stripped and converted by the plain converter."""
    import tensorflow as tf

    sparse = import_tfmot().sparsity.keras
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    published = cifar10.data_folder() / "mlperf_tiny" / "models" / "pretrainedResnet.h5"
    model = tf_keras.models.load_model(published, compile=False)
    model.set_weights(baseline.get_weights())
    total = cifar10.steps(train[0], EPOCHS)
    if pattern == "unstructured":
        schedule = sparse.PolynomialDecay(0.0, sparsity, 0, int(END * total), frequency=FREQUENCY)
        wrapped = sparse.prune_low_magnitude(model, pruning_schedule=schedule)
    else:
        n_of_m = tuple(map(int, pattern.split(":")))
        wrapped = sparse.prune_low_magnitude(
            model, pruning_schedule=sparse.ConstantSparsity(sparsity, 0), sparsity_m_by_n=n_of_m
        )
    cifar10.compiled(wrapped, total, library=tf_keras)
    seconds = []

    class LegacyClock(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seconds.append(-time.perf_counter())

        def on_epoch_end(self, epoch, logs=None):
            seconds[-1] += time.perf_counter()

    callbacks = [sparse.UpdatePruningStep(), LegacyClock()]
    wrapped.fit(cifar10.batches(*train, seed), epochs=EPOCHS, verbose=0, callbacks=callbacks)
    converter = tf.lite.TFLiteConverter.from_keras_model(sparse.strip_pruning(wrapped))
    path = folder / "tfmot.tflite"
    path.write_bytes(converter.convert())
    return path, seconds[-1]


def main() -> None:
    """Runs all settings and seeds, and prints a table after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and baselines")
    parser.add_argument("--without-peer", action="store_true", help="leave tfmot out")
    arguments = parser.parse_args()
    folder = arguments.cache
    train, test = cifar10.load(folder)
    rows: dict[str, list] = {}
    for seed in arguments.seeds:
        baseline = cifar10.baseline(folder, train, seed)
        path, plain_seconds = plain(baseline, train, seed, folder)
        note(rows, "float, 4 more epochs", path, test, 1.0)
        for name in arguments.settings:
            for side in (ours,) if arguments.without_peer else (ours, tfmot):
                path, seconds = side(baseline, train, seed, folder=folder, **SETTINGS[name])
                label = "tfsqueeze" if side is ours else "tfmot"
                note(rows, f"{name} {label}", path, test, seconds / plain_seconds)
        show(rows)


def note(rows, name, path, test, ratio) -> None:
    """Adds one measurement."""
    measured = (cifar10.file_accuracy(path, *test), *cifar10.bytes_of(path), ratio)
    rows.setdefault(name, []).append(measured)
    print(f"{name}: {measured}", flush=True)


def show(rows) -> None:
    """Prints the table so far."""
    print("| | accuracy (each seed) | bytes | gzipped | step time / plain fit |\n|---|---|---|---|---|")
    for name, measured in rows.items():
        accuracies, raw, packed, ratios = zip(*measured, strict=True)
        each = ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)
        print(
            f"| {name} | {np.mean(accuracies):.3f} ({each}) | {raw[0]:,} | {int(np.mean(packed)):,} "
            f"| {statistics.median(ratios):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
