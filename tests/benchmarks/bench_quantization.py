"""Quantization of ResNet8 on CIFAR-10 against tfmot and the converter, from the same float baseline.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization qat --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization step

qat: every side gets the same fine-tuned weights, optimizer (Adam, cosine from 1e-3), batches of 128 (flipped
and cropped) and epochs (4). Accuracy is that of the exported file on the 10,000 test images; bytes are those
of the file, raw and gzipped. Below 8 bits ours freezes ranges and batch statistics for the last epoch.
"Taught" has the float baseline as teacher.
The converter quantizes the baseline after training, with 200 training images. Finished runs are kept in the
cache folder and not repeated.
step: the time of a training step over that of plain `fit`, and that of tfmot's over plain `tf_keras`; they
take turns step by step.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization post-training
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization rescaled

quantize without training or labels: see `post_training` and `rescaled`.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_quantization latency

times int8 files against float32 ones.
"""

import argparse
import functools
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10, post_training, quantized_latency, rescaled
from tests.benchmarks.runs import Runs, mean_and_each
from tests.benchmarks.turns import show_ratios, take_turns
from tfsqueeze.models.legacy import import_tfmot

EPOCHS = 4
CALIBRATION = 512
BLOCK = 50


def frozen_at_the_end(steps: int) -> tfs.QuantizationCallback:
    """Ranges and statistics freeze for the last quarter, so that the end trains on what the file computes."""
    start = steps * 3 // 4
    return tfs.QuantizationCallback(freeze_ranges_step=start, freeze_batch_norm_step=start)


def ours(preset, baseline, train, seed, path, *, is_frozen=True, is_taught=False):
    """Quantization-aware training and export without data."""
    steps = cifar10.steps(train[0], EPOCHS)
    qat = tfs.quantize_aware(baseline, preset, data=train[0][:CALIBRATION].astype("float32"))
    trained = cifar10.compiled(tfs.Distiller(qat, baseline) if is_taught else qat, steps)
    callbacks = [frozen_at_the_end(steps) if is_frozen else tfs.QuantizationCallback()]
    trained.fit(cifar10.batches(*train, seed), epochs=EPOCHS, verbose=0, callbacks=callbacks)
    tfs.export_tflite(qat, path, quantize="int8")


def float_training(baseline, train, seed, path):
    """The same epochs in float."""
    model = cifar10.compiled(baseline, cifar10.steps(train[0], EPOCHS))
    model.fit(cifar10.batches(*train, seed), epochs=EPOCHS, verbose=0)
    tfs.export_tflite(model, path)


def converter(baseline, train, seed, path):
    """TensorFlow's converter after training, no training of ours."""
    images = train[0][np.random.default_rng(seed).choice(len(train[0]), 200, replace=False)]
    post_training.converter(baseline, images.astype("float32"), path)


def tfmot_model(baseline, steps: int):
    """`quantize_model` on tf_keras, compiled."""
    quantization = import_tfmot().quantization.keras
    import tf_keras

    qat = quantization.quantize_model(cifar10.twin(tf_keras, baseline))
    return cifar10.compiled(qat, steps, library=tf_keras)


def tfmot(baseline, train, seed, path):
    """tfmot's training, converted by the plain converter."""
    import tensorflow as tf

    qat = tfmot_model(baseline, cifar10.steps(train[0], EPOCHS))
    qat.fit(cifar10.batches(*train, seed), epochs=EPOCHS, verbose=0)
    convert = tf.lite.TFLiteConverter.from_keras_model(qat)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    path.write_bytes(convert.convert())


LOW_BITS = ("int4", "ternary", "binary")
SIDES = {
    "float": float_training,
    "converter": converter,
    "tfmot": tfmot,
    "int8": functools.partial(ours, "int8", is_frozen=False),
    "int8, taught": functools.partial(ours, "int8", is_frozen=False, is_taught=True),
    "int8, frozen at the end": functools.partial(ours, "int8"),
    **{preset: functools.partial(ours, preset) for preset in LOW_BITS},
}


def run_once(cache: Path, data, seed: int, side: str) -> tuple:
    """The accuracy of one file, its bytes, and those gzipped."""
    train, test = data
    path = cache / f"quantization-{side}-{seed}.tflite"
    model = cifar10.baseline(cache, train, seed)
    keras.utils.set_random_seed(seed)
    SIDES[side](model, train, seed, path)
    return (cifar10.file_accuracy(path, *test), *cifar10.bytes_of(path))


def qat(arguments) -> None:
    """All sides and seeds that were not run before; prints the table after each seed."""
    data = cifar10.load(arguments.cache)
    runs = Runs(arguments.cache / "quantization-cifar10.json")
    for seed in arguments.seeds:
        for side in arguments.sides:
            runs.measure((side,), seed, functools.partial(run_once, arguments.cache, data, seed, side))
        show(runs)


def show(runs: Runs) -> None:
    """Prints the table so far."""
    print("| | accuracy (each seed) | bytes | gzipped |\n|---|---|---|---|")
    for (side,), (accuracies, raw, packed) in runs.rows().items():
        sizes = f"{int(np.mean(raw)):,} | {int(np.mean(packed)):,}"
        print(f"| {side} | {mean_and_each(accuracies)} | {sizes} |", flush=True)


def step(arguments) -> None:
    """Prints how much longer a training step takes than that of plain `fit`."""
    import tf_keras

    steps = arguments.steps
    train, _ = cifar10.load(arguments.cache)
    data = cifar10.batches(*train, 0).take(steps // 10).cache().repeat()
    model = cifar10.published()

    def training(model, library, *callbacks):
        def run(turn):
            clock = library.callbacks.LambdaCallback(
                on_train_batch_begin=lambda batch, logs=None: turn.begin(),
                on_train_batch_end=lambda batch, logs=None: turn.end(),
            )
            model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=[*callbacks, clock])

        return run

    def quantized(preset):
        twin = tfs.quantize_aware(model, preset, data=train[0][:CALIBRATION].astype("float32"))
        return training(cifar10.compiled(twin, steps), keras, tfs.QuantizationCallback())

    plain = {
        "fit": training(cifar10.compiled(cifar10.published(), steps), keras),
        "fit of tf_keras": training(
            cifar10.compiled(cifar10.twin(tf_keras, model), steps, library=tf_keras), tf_keras
        ),
        "tfmot": training(tfmot_model(model, steps), tf_keras),
    }
    presets = ("int8", *LOW_BITS)
    sides = plain | {preset: quantized(preset) for preset in presets}
    seconds = dict(zip(sides, take_turns(list(sides.values())), strict=True))
    show_ratios("tfmot / fit of tf_keras", seconds["tfmot"], seconds["fit of tf_keras"], BLOCK)
    for preset in presets:
        show_ratios(f"{preset} / fit", seconds[preset], seconds["fit"], BLOCK)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("qat", help="quantization-aware training")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    command.set_defaults(run=qat)
    command = commands.add_parser("step", help="time of a training step")
    command.add_argument("--steps", type=int, default=300, help="steps of each side")
    command.set_defaults(run=step)
    command = commands.add_parser(
        "post-training", help="files made without training, of the MLPerf Tiny networks"
    )
    command.add_argument("--tasks", nargs="+", default=list(post_training.TASKS), choices=post_training.TASKS)
    command.set_defaults(run=post_training.post_training)
    command = commands.add_parser("rescaled", help="MobileNets with channels scaled apart")
    command.add_argument("--nets", nargs="+", default=list(rescaled.NETS), choices=rescaled.NETS)
    command.add_argument("--images", type=int, default=2000, help="test images to compare on")
    command.set_defaults(run=rescaled.rescaled)
    command = commands.add_parser("latency", help="int8 files against float32 ones")
    names = quantized_latency.NETWORKS
    command.add_argument("--networks", nargs="+", default=list(names), choices=names)
    command.set_defaults(run=quantized_latency.latency)
    for command in commands.choices.values():
        command.add_argument(
            "--cache", type=Path, default=Path("benchmark-cache"), help="for data and baselines"
        )
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
