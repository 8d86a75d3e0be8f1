"""Shared weights against tfmot, from the same float baseline: ResNet8 on CIFAR-10, and spoken digits.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_clustering --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_clustering --task speech

Both sides get the same fine-tuned weights, optimizer (Adam, cosine from 1e-3, or from `--rate`), batches and
epochs; the published practice of tfmot, a lower rate, is tried with `--rate 1e-4`. "packed" is the file of
`tfs.pack`, also for tfmot's weights; the ratio is that of all weights in float32 to that file, the limit
that of Shannon for the weights alone. "90 % + 16" prunes over half of the epochs and clusters for the
others: Deep Compression counts 35x to 49x there, with no architecture in the file. Finished runs are kept.
"""

import argparse
import functools
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10, speech
from tests.benchmarks.runs import Runs, mean_and_each
from tfsqueeze.models.legacy import import_tfmot

TASKS = {"cifar10": cifar10, "speech": speech}


def fresh(task, baseline, epochs, train, rate):
    """The float network, compiled for so many epochs."""
    model = keras.models.clone_model(baseline)
    model.set_weights(baseline.get_weights())
    return task.compiled(model, task.steps(train[0], epochs), rate)


def train_on(task, model, train, seed, epochs, *callbacks):
    """Ordinary training."""
    model.fit(task.batches(*train, seed), epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model


def clustered(task, baseline, train, seed, rate, clusters, **options):
    """Clusters and trains the shared values."""
    model = fresh(task, baseline, task.EPOCHS, train, rate)
    callback = tfs.ClusteringCallback(clusters, seed=seed, **options)
    return train_on(task, model, train, seed, task.EPOCHS, callback)


def quantized(task, baseline, train, seed, rate, clusters, length, with_data=False):
    """Product quantization, and training of the codebooks."""
    model = fresh(task, baseline, task.EPOCHS, train, rate)
    data = train[0][:256].astype("float32") if with_data else None
    small = tfs.product_quantize(model, clusters, length=length, data=data, seed=seed)
    return train_on(task, small, train, seed, task.EPOCHS, tfs.ClusteringCallback())


def pruned_and_clustered(task, baseline, train, seed, rate, sparsity, clusters):
    """Half of the epochs for pruning, half for the shared values of what is left."""
    first = task.EPOCHS // 2
    end = int(0.7 * task.steps(train[0], first))
    schedule = tfs.schedules.Polynomial(0.0, sparsity, 0, end, frequency=50)
    pruning = tfs.PruningCallback(schedule, criterion="fisher", scope="global")
    # The rate of pruning is its own: it moves many weights far.
    model = train_on(task, fresh(task, baseline, first, train, 1e-3), train, seed, first, pruning)
    rest = task.EPOCHS - first
    model = task.compiled(model, task.steps(train[0], rest), rate)
    return train_on(task, model, train, seed, rest, tfs.ClusteringCallback(clusters, seed=seed, reassign=50))


def plain(task, baseline, train, seed, rate):
    """The same training without sharing."""
    return train_on(task, fresh(task, baseline, task.EPOCHS, train, rate), train, seed, task.EPOCHS)


def tfmot(task, baseline, train, seed, rate, clusters):
    """tfmot's wrappers on tf_keras, stripped, with their weights put back into the Keras 3 network."""
    clustering = import_tfmot().clustering.keras
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    start = clustering.CentroidInitialization.KMEANS_PLUS_PLUS
    wrapped = clustering.cluster_weights(
        task.twin(tf_keras, baseline), number_of_clusters=clusters, cluster_centroids_init=start
    )
    task.compiled(wrapped, task.steps(train[0], task.EPOCHS), rate, library=tf_keras)
    wrapped.fit(task.batches(*train, seed), epochs=task.EPOCHS, verbose=0)
    model = keras.models.clone_model(baseline)
    model.set_weights(clustering.strip_clustering(wrapped).get_weights())
    return model


SETTINGS = {
    "float": plain,
    **{f"{n} tfmot": functools.partial(tfmot, clusters=n) for n in (16, 32)},
    **{f"{n} each": functools.partial(clustered, clusters=n) for n in (16, 32)},
    **{f"{n} sum": functools.partial(clustered, clusters=n, gradients="sum") for n in (16, 32)},
    **{f"{n} reassigned": functools.partial(clustered, clusters=n, reassign=50) for n in (16, 32)},
    "64 words of 4": functools.partial(quantized, clusters=64, length=4),
    "64 words of 4, data": functools.partial(quantized, clusters=64, length=4, with_data=True),
    "90 % + 16": functools.partial(pruned_and_clustered, sparsity=0.9, clusters=16),
}


def run_once(task, cache: Path, data, seed: int, setting: str, rate: float) -> tuple:
    """Trains once; returns accuracy, gzipped `.tflite`, packed file, limit of the weights, ratio."""
    train, (inputs, labels) = data
    keras.utils.set_random_seed(seed)
    model = SETTINGS[setting](task, task.baseline(cache, train, seed), train, seed, rate)
    path = cache / "clustering.tflite"
    tfs.export_tflite(model, path)
    packed = tfs.pack(model, cache / "clustering.tfsq")
    sizes = (task.bytes_of(path)[1], packed.bytes, packed.limit_bytes, round(packed.ratio, 2))
    return (task.file_accuracy(path, inputs, labels), *sizes)


def show(runs: Runs) -> None:
    """Prints the table so far."""
    print(
        "| | rate | accuracy (each seed) | gzipped | packed | limit | ratio |\n|---|---|---|---|---|---|---|"
    )
    for (setting, rate), (accuracies, *sizes, ratio) in runs.rows().items():
        columns = " | ".join(f"{int(np.mean(size)):,}" for size in sizes)
        print(f"| {setting} | {rate} | {mean_and_each(accuracies)} | {columns} | {np.mean(ratio):.1f}x |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and results")
    parser.add_argument("--task", default="cifar10", choices=list(TASKS))
    arguments = parser.parse_args()
    task, cache = TASKS[arguments.task], arguments.cache
    data = task.load(cache)
    runs = Runs(cache / f"clustering-{arguments.task}.json")
    for seed in arguments.seeds:
        for setting in arguments.settings:
            run = functools.partial(run_once, task, cache, data, seed, setting, arguments.rate)
            runs.measure((setting, f"{arguments.rate:g}"), seed, run)
        show(runs)


if __name__ == "__main__":
    main()
