"""Weight pruning against tfmot, from the same float baseline: ResNet8 on CIFAR-10, and spoken digits.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_pruning accuracy --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_pruning accuracy --task speech
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_pruning step

Both sides get the same fine-tuned weights, optimizer (Adam, cosine from 1e-3), batches of 128 (flipped and
cropped), epochs (4), and a cubic schedule ending at the same step. Accuracy is that of the exported float32
file on the 10,000 test images; bytes are those of the file, raw and gzipped. The net for spoken digits is
trained here, and pruned over 15 epochs; it is scored on 300 clips. Finished runs are kept in the
cache folder and not repeated, so that the hours can be had in pieces.
"""

import argparse
import functools
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10, speech
from tests.benchmarks.runs import Runs, mean_and_each
from tests.benchmarks.turns import show_ratios, take_turns
from tfsqueeze.models.legacy import import_tfmot

TASKS = {"cifar10": cifar10, "speech": speech}
SETTINGS = {
    "50 %": {"sparsity": 0.5},
    "80 %": {"sparsity": 0.8},
    "90 %": {"sparsity": 0.9},
    "95 %": {"sparsity": 0.95},
    "2:4": {"sparsity": 0.5, "pattern": "2:4"},
}
END = 0.5
FREQUENCY = 50  # twice as often as tfmot does by default


def recommended(total_steps: int, sparsity: float, pattern="unstructured") -> tfs.PruningCallback:
    """What the documentation recommends; patterns go early and at once, and have no regrowth."""
    if pattern != "unstructured":
        schedule = tfs.schedules.Constant(sparsity, begin_step=FREQUENCY)
        return tfs.PruningCallback(schedule, criterion="fisher", pattern=pattern)
    end = int(END * total_steps)
    return tfs.PruningCallback(
        tfs.schedules.Polynomial(0.0, sparsity, 0, end, frequency=FREQUENCY),
        criterion="fisher",
        scope="global",
        regrowth=tfs.Regrowth("gradient", fraction=0.3, end_step=end),
    )


def ours(task, baseline, train, seed, path, sparsity, pattern="unstructured"):
    """Trains with PruningCallback and exports."""
    keras.utils.set_random_seed(seed)
    total = task.steps(train[0], task.EPOCHS)
    model = task.compiled(keras.models.clone_model(baseline), total)
    model.set_weights(baseline.get_weights())
    pruning = recommended(total, sparsity, pattern)
    model.fit(task.batches(*train, seed), epochs=task.EPOCHS, verbose=0, callbacks=[pruning])
    tfs.export_tflite(model, path)


def plain(task, baseline, train, seed, path):
    """The same training without pruning."""
    keras.utils.set_random_seed(seed)
    model = task.compiled(keras.models.clone_model(baseline), task.steps(train[0], task.EPOCHS))
    model.set_weights(baseline.get_weights())
    model.fit(task.batches(*train, seed), epochs=task.EPOCHS, verbose=0)
    tfs.export_tflite(model, path)


def tfmot(task, baseline, train, seed, path, sparsity, pattern="unstructured"):
    """The same with tfmot's wrappers on tf_keras, stripped and converted by the plain converter."""
    import tensorflow as tf

    sparse = import_tfmot().sparsity.keras
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    model = task.twin(tf_keras, baseline)
    total = task.steps(train[0], task.EPOCHS)
    if pattern == "unstructured":
        schedule = sparse.PolynomialDecay(0.0, sparsity, 0, int(END * total), frequency=FREQUENCY)
        wrapped = sparse.prune_low_magnitude(model, pruning_schedule=schedule)
    else:
        n_of_m = tuple(map(int, pattern.split(":")))
        wrapped = sparse.prune_low_magnitude(
            model, pruning_schedule=sparse.ConstantSparsity(sparsity, 0), sparsity_m_by_n=n_of_m
        )
    task.compiled(wrapped, total, library=tf_keras)
    callbacks = [sparse.UpdatePruningStep()]
    wrapped.fit(task.batches(*train, seed), epochs=task.EPOCHS, verbose=0, callbacks=callbacks)
    converter = tf.lite.TFLiteConverter.from_keras_model(sparse.strip_pruning(wrapped))
    path.write_bytes(converter.convert())


SIDES = {"float": plain, "tfsqueeze": ours, "tfmot": tfmot}


def step_time(cache: Path, steps: int = 1000) -> None:
    """Prints the time of a training step with PruningCallback over that of plain `fit`.

    The two trainings take turns step by step; a ratio is that of the sums over as many steps as lie between
    two updates of the masks.
    """
    train, _ = cifar10.load(cache)
    data = cifar10.batches(*train, 0).take(steps // 10).cache().repeat()

    def training(*callbacks):
        model = cifar10.compiled(cifar10.published(), steps)
        options = {"steps_per_epoch": steps, "verbose": 0}
        return lambda turn: model.fit(data, callbacks=[*callbacks, turn], **options)

    plain, pruned = take_turns([training(), training(recommended(2 * steps, 0.9))])
    show_ratios("step with PruningCallback / plain", pruned, plain, FREQUENCY)


def accuracy(task, cache: Path, seeds, settings, sides) -> None:
    """Runs all settings and seeds that were not run before, and prints the table after each seed."""
    data = task.load(cache)
    runs = Runs(cache / f"pruning-{task.__name__.split('.')[-1]}.json")
    for seed in seeds:
        for side in sides:
            for setting in settings if side != "float" else ["-"]:
                run = functools.partial(run_once, task, cache, data, seed, side, setting)
                runs.measure((setting, side), seed, run)
        show(runs)


def run_once(task, cache: Path, data, seed: int, side: str, setting: str) -> tuple:
    """Trains once; returns the accuracy of the file, its bytes, and those gzipped."""
    train, test = data
    path = cache / f"{side}-{seed}.tflite"
    baseline = task.baseline(cache, train, seed)
    SIDES[side](task, baseline, train, seed, path, **SETTINGS.get(setting, {}))
    return (task.file_accuracy(path, *test), *task.bytes_of(path))


def show(runs: Runs) -> None:
    """Prints the table so far."""
    print("| sparsity | | accuracy (each seed) | bytes | gzipped |\n|---|---|---|---|---|")
    for (setting, side), (accuracies, raw, packed) in runs.rows().items():
        sizes = f"{int(np.mean(raw)):,} | {int(np.mean(packed)):,}"
        print(f"| {setting} | {side} | {mean_and_each(accuracies)} | {sizes} |", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "step"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and results")
    parser.add_argument("--task", default="cifar10", choices=list(TASKS))
    arguments = parser.parse_args()
    if arguments.what == "step":
        step_time(arguments.cache)
    else:
        accuracy(TASKS[arguments.task], arguments.cache, arguments.seeds, arguments.settings, arguments.sides)


if __name__ == "__main__":
    main()
