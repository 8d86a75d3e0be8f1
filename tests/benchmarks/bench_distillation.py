"""Distillation against keras.distillation.Distiller: time per step, and accuracy on CIFAR-10.

    python -m tests.benchmarks.bench_distillation step
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation cifar10 --seeds 0 1 2

`step` needs no data. It fits both distillers and the student alone in turns on random images, with soft
targets and with one feature loss besides, and prints median times and ratios. `cifar10` trains a ResNet8 of
half the width by the fine-tuned ResNet8, by itself, and by Keras' Distiller: the same epochs, batches and
optimizer.
"""

import argparse
import statistics
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tfsqueeze import distillation as kd

EPOCHS = 12
TEMPERATURE = 4.0
ALPHA = 0.9
KERAS_LOGITS = {"temperature": TEMPERATURE, "loss": keras.losses.KLDivergence()}


def resnet8(width: int = 16, name: str = "resnet8"):
    """The network of MLPerf Tiny's image classification, for images of 0..255."""
    image = keras.Input((32, 32, 3))
    x = block_part(layers.Rescaling(1 / 255)(image), width, 3)
    for index, factor in enumerate((1, 2, 4)):
        stride = 1 if index == 0 else 2
        y = block_part(x, width * factor, 3, stride)
        y = layers.BatchNormalization()(layers.Conv2D(width * factor, 3, padding="same")(y))
        if stride > 1:
            x = layers.Conv2D(width * factor, 1, strides=stride)(x)
        x = layers.ReLU(name=f"block{index}")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name=name)


def block_part(x, width, size, stride=1):
    """Convolution, normalisation, activation."""
    x = layers.Conv2D(width, size, strides=stride, padding="same")(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def keras_distiller(student, teacher, with_features: bool):
    """Keras' own with the same losses; it has no adapters, so a layer of equal width is compared."""
    losses = [keras.distillation.LogitsDistillation(**KERAS_LOGITS)]
    if with_features:
        losses.append(keras.distillation.FeatureDistillation("mse", "logits", "logits"))
    return keras.distillation.Distiller(teacher, student, losses, student_loss_weight=1 - ALPHA)


def our_distiller(student, teacher, with_features: bool):
    """Ours with the same losses."""
    losses = [kd.SoftTargets()]
    if with_features:
        losses.append(kd.Features("logits"))
    return tfs.Distiller(student, teacher, losses, alpha=ALPHA, temperature=TEMPERATURE)


def alone(student, teacher, with_features: bool):
    """The student without a teacher."""
    return student


def time_steps(rounds: int, steps: int, batch: int) -> None:
    """Prints the time per step of each side, measured in turns, for both sets of losses."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (steps * batch, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sides = {"student alone": alone, "keras": keras_distiller, "tfsqueeze": our_distiller}
    for with_features in (False, True):
        models = {name: make(resnet8(8), resnet8(16), with_features) for name, make in sides.items()}
        for model in models.values():
            model.compile("adam", loss)
            model.fit(x[: 2 * batch], y[: 2 * batch], batch_size=batch, verbose=0)
        teacher = resnet8(16)
        teacher.predict(x[: 2 * batch], batch_size=batch, verbose=0)
        times: dict[str, list[float]] = {name: [] for name in [*sides, "teacher forward"]}
        for _ in range(rounds):
            for name, model in models.items():
                options = {"batch_size": batch, "verbose": 0, "shuffle": False}
                times[name].append(seconds(model.fit, x, y, **options) / steps)
            forward = seconds(teacher.predict, x, batch_size=batch, verbose=0)
            times["teacher forward"].append(forward / steps)
        show_times("soft targets and a feature loss" if with_features else "soft targets", times)


def seconds(action, *arguments, **options) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action(*arguments, **options)
    return time.perf_counter() - start


def show_times(title: str, times: dict[str, list[float]]) -> None:
    """Prints medians, and ratios of runs made in the same round."""
    bound = [a + b for a, b in zip(times["student alone"], times["teacher forward"], strict=True)]
    print(f"\n{title}\n| | ms per step (median, range) |\n|---|---|")
    for name, values in times.items():
        middle, low, high = (1e3 * f(values) for f in (statistics.median, min, max))
        print(f"| {name} | {middle:.1f} ({low:.1f}-{high:.1f}) |")
    for name, others in (("keras", times["keras"]), ("student alone + teacher forward", bound)):
        ratios = [a / b for a, b in zip(times["tfsqueeze"], others, strict=True)]
        print(f"tfsqueeze / {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")


def accuracies(cache: Path, seeds: list[int], epochs: int) -> None:
    """Prints the students' test accuracies after each seed."""
    train, (x, y) = cifar10.load(cache)
    rows: dict[str, list[float]] = {}
    for seed in seeds:
        teacher = cifar10.baseline(cache, train, seed)
        note(rows, "teacher", float((teacher.predict(x, verbose=0).argmax(1) == y).mean()))
        logits = without_softmax(teacher)
        for name, make in {"alone": alone, "keras": keras_distiller, "tfsqueeze": our_distiller}.items():
            keras.utils.set_random_seed(seed)
            student = resnet8(8)
            model = make(student, logits, False)
            rate = keras.optimizers.schedules.CosineDecay(2e-3, cifar10.steps(train[0], epochs))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(keras.optimizers.Adam(rate), loss)
            model.fit(cifar10.batches(*train, seed), epochs=epochs, verbose=0)
            guesses = student.predict(x.astype("float32"), verbose=0).argmax(1)
            note(rows, name, float((guesses == y).mean()))


def without_softmax(teacher):
    """The teacher with logits, which Keras' loss needs."""
    head = teacher.layers[-1]
    logits = layers.Dense(head.units, name="logits")
    model = keras.Model(teacher.input, logits(head.input))
    logits.set_weights(head.get_weights())
    return model


def note(rows: dict[str, list[float]], name: str, accuracy: float) -> None:
    """Adds one measurement and prints all of its kind."""
    rows.setdefault(name, []).append(accuracy)
    each = ", ".join(f"{value:.4f}" for value in rows[name])
    print(f"| {name} | {np.mean(rows[name]):.4f} ({each}) |", flush=True)


def main() -> None:
    """Runs the benchmark that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    step = parts.add_parser("step")
    step.add_argument("--rounds", type=int, default=7)
    step.add_argument("--steps", type=int, default=20)
    step.add_argument("--batch", type=int, default=64)
    cifar = parts.add_parser("cifar10")
    cifar.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    cifar.add_argument("--epochs", type=int, default=EPOCHS)
    cifar.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and baselines")
    arguments = parser.parse_args()
    if arguments.part == "step":
        time_steps(arguments.rounds, arguments.steps, arguments.batch)
    else:
        accuracies(arguments.cache, arguments.seeds, arguments.epochs)


if __name__ == "__main__":
    main()
