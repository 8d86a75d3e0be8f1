"""Distillation: time per step and accuracy, against keras.distillation and against no teacher at all.

    python -m tests.benchmarks.bench_distillation step
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation student --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation own --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation stored --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation speech --seeds 0 1 2 3 4

step: a step of Keras' distiller, of ours, of the student alone, and a pass of the teacher take turns, with
soft targets and with one feature loss besides; random images.
student: ResNet8 of half the width on CIFAR-10, 12 epochs, alone, by Keras' distiller, by ours. The teacher is
the fine-tuned ResNet8.
own: ResNet8 pruned to 90 % zeros, cut to half of its multiply-accumulates, and in int4, each trained with and
without its float self as teacher: the same epochs, batches, optimizer and callbacks.
stored: the student of half the width taught by a running teacher and from stored logits (all of them, and the
five largest), the same augmented images; and their steps in turns.
speech: a quarter of the width on spoken digits: alone, by the teacher, over an assistant of half the width,
two of its kind learning from each other, and with exits that its own end teaches.

All of one part get the same optimizer (Adam, cosine). Finished runs are kept in the cache folder and not
repeated, so that the hours can be had in pieces; `--limit` makes a trial of so many steps per epoch, which is
judged by 500 examples.
"""

import argparse
import functools
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfsqueeze as tfs
from tests.benchmarks import cifar10, speech
from tests.benchmarks.runs import Runs, mean_and_each
from tests.benchmarks.turns import show_ratios, take_turns
from tfsqueeze import distillation as kd

STUDENT_EPOCHS, SPEECH_EPOCHS = 12, 30
TEMPERATURE = 4.0
ALPHA = 0.9
TEACHER_SEED = 0
BATCH, BLOCK = 64, 20
KERAS_LOGITS = {"temperature": TEMPERATURE, "loss": keras.losses.KLDivergence()}
FROM_LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def resnet8(width: int = 16, name: str = "resnet8"):
    """The network of MLPerf Tiny's image classification, for images of 0..255, with logits."""
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


def keras_distiller(student, teacher, with_features: bool = False):
    """Keras' own with the same losses; it has no adapters, so a layer of equal width is compared."""
    losses = [keras.distillation.LogitsDistillation(**KERAS_LOGITS)]
    if with_features:
        losses.append(keras.distillation.FeatureDistillation("mse", "logits", "logits"))
    return keras.distillation.Distiller(teacher, student, losses, student_loss_weight=1 - ALPHA)


def our_distiller(student, teacher, with_features: bool = False):
    """Ours with the same losses."""
    losses = [kd.SoftTargets()]
    if with_features:
        losses.append(kd.Features("logits"))
    return tfs.Distiller(student, teacher, losses, alpha=ALPHA, temperature=TEMPERATURE)


def alone(student, teacher, with_features: bool = False):
    """The student without a teacher."""
    return student


SIDES = {"alone": alone, "keras": keras_distiller, "tfsqueeze": our_distiller}


def compare_steps(arguments) -> None:
    """Prints the time of a step over that of Keras, and over that of student and teacher by themselves."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (8 * BATCH, 32, 32, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 10, len(x)))).batch(BATCH).cache().repeat()
    steps = max(arguments.limit or 400, 2 * BLOCK)

    def training(make, with_features):
        model = make(resnet8(8), resnet8(16), with_features)
        model.compile("adam", FROM_LOGITS)
        return lambda turn: model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=[turn])

    def forward(turn):
        # Compiled as `fit` compiles the steps of the other sides.
        run = tf.function(functools.partial(resnet8(16), training=False), jit_compile=True)
        batches = iter(data)
        for _ in range(steps):
            turn.begin()
            run(next(batches)[0])
            turn.end()

    for with_features in (False, True):
        sides = [training(make, with_features) for make in SIDES.values()]
        student, peer, ours, teacher = take_turns([*sides, forward])
        losses = "soft targets and a feature loss" if with_features else "soft targets"
        show_ratios(f"{losses}: tfsqueeze / keras", ours, peer, BLOCK)
        show_ratios(f"{losses}: tfsqueeze / (student + teacher forward)", ours, student + teacher, BLOCK)


def fitted(model, data, epochs: int, limit, *callbacks, rate=2e-3, loss=FROM_LOGITS):
    """Trains with a cosine learning rate, without XLA (slower on one thread); `limit` cuts the epochs."""
    data = data if limit is None else data.take(limit)
    steps = int(data.cardinality()) * epochs
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(keras.optimizers.Adam(schedule), loss, jit_compile=False)
    model.fit(data, epochs=epochs, verbose=0, callbacks=list(callbacks))


def accuracy(model, test) -> float:
    """Top-1 of a model's predictions."""
    return float((model.predict(test[0], verbose=0, batch_size=500).argmax(1) == test[1]).mean())


def with_logits(teacher):
    """The teacher without its softmax, which Keras' loss needs."""
    head = teacher.layers[-1]
    logits = layers.Dense(head.units, name="logits")
    model = keras.Model(teacher.input, logits(head.input))
    logits.set_weights(head.get_weights())
    return model


def student(data, teacher, seed, limit, side) -> tuple[float]:
    """Accuracy of the half-width student on CIFAR-10."""
    train, test = data
    keras.utils.set_random_seed(seed)
    net = resnet8(8)
    fitted(SIDES[side](net, with_logits(teacher)), cifar10.batches(*train, seed), STUDENT_EPOCHS, limit)
    return (accuracy(net, test),)


def sparse(model, train, steps):
    """All weights, yet to be pruned; a cubic schedule over half of the steps."""
    schedule = tfs.schedules.Polynomial(0.0, 0.9, 0, steps * 4 // 2, frequency=50)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin, [tfs.PruningCallback(schedule, scope="global")], 4


def cut(model, train, steps):
    """Half of the multiply-accumulates, chosen and refitted by 2,000 training images."""
    return tfs.prune_channels(model, macs=0.5, data=train[0][:2000].astype("float32")), [], 6


def int4(model, train, steps):
    """Weights of 4 bits; ranges and statistics freeze for the last quarter."""
    qat = tfs.quantize_aware(model, "int4", data=train[0][:500].astype("float32"))
    end = steps * 4 * 3 // 4
    freezing = tfs.QuantizationCallback(freeze_ranges_step=end, freeze_batch_norm_step=end)
    return qat, [freezing], 4


COPIES = {"90 % zeros": sparse, "half the MACs": cut, "int4": int4}


def own(data, teacher, seed, limit, copy, side) -> tuple[float]:
    """Accuracy of a compressed copy trained alone, or by the model it was made of; int4 as a file."""
    train, test = data
    keras.utils.set_random_seed(seed)
    net, callbacks, epochs = COPIES[copy](teacher, train, limit or cifar10.steps(train[0], 1))
    model = net if side == "alone" else tfs.Distiller(net, teacher, alpha=ALPHA, temperature=TEMPERATURE)
    batches = cifar10.batches(*train, seed)
    fitted(model, batches, epochs, limit, *callbacks, rate=1e-3, loss="sparse_categorical_crossentropy")
    if copy != "int4":
        return (accuracy(net, test),)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int4.tflite"
        tfs.export_tflite(net, path, quantize="int8")
        return (cifar10.file_accuracy(path, *test),)


def distort(image, seed):
    """Flipped and cropped."""
    padded = tf.pad(image, [[4, 4], [4, 4], [0, 0]])
    return tf.image.stateless_random_flip_left_right(
        tf.image.stateless_random_crop(padded, image.shape, seed), seed + 1
    )


def stored_data(cache, data, teacher, seed, limit, side):
    """The stored answers and the batches for one side; a running teacher sees the same images."""
    (x, y), _ = data
    if limit is not None:
        x, y = x[: limit * cifar10.BATCH_SIZE], y[: limit * cifar10.BATCH_SIZE]
    top_k = 5 if side == "five classes" else None
    folder = cache / f"soft-labels-{top_k}-{len(x)}"
    labels = kd.SoftLabels.write(folder, teacher, x, top_k=top_k, augment=distort, batch_size=250)
    batches = labels.dataset(x, y, augment=distort, batch_size=cifar10.BATCH_SIZE, seed=seed)
    if side == "running teacher":
        return teacher, batches.map(lambda images, targets: (images, targets["labels"]))
    return labels, batches


STORED = ("running teacher", "all classes", "five classes")


def stored(cache, data, teacher, seed, limit, side) -> tuple[float]:
    """Accuracy of the half-width student."""
    source, batches = stored_data(cache, data, teacher, seed, limit, side)
    keras.utils.set_random_seed(seed)
    net = resnet8(8)
    fitted(tfs.Distiller(net, source, alpha=ALPHA, temperature=TEMPERATURE), batches, STUDENT_EPOCHS, limit)
    return (accuracy(net, data[1]),)


def compare_stored_steps(cache, data, teacher, limit) -> None:
    """Prints the time of a step from stored logits over that with a running teacher, and that of storing."""
    steps = max(limit or 300, 2 * BLOCK)
    start = time.perf_counter()
    sources = [stored_data(cache, data, teacher, 0, limit, side) for side in STORED]
    print(f"{time.perf_counter() - start:.0f} s to store (seconds where it was done before)")

    def training(source, batches):
        model = tfs.Distiller(resnet8(8), source, alpha=ALPHA, temperature=TEMPERATURE)
        model.compile("adam", FROM_LOGITS)
        return lambda turn: model.fit(batches.repeat(), steps_per_epoch=steps, verbose=0, callbacks=[turn])

    running, *others = take_turns([training(*source) for source in sources])
    for side, seconds in zip(STORED[1:], others, strict=True):
        show_ratios(f"step from stored logits ({side}) / running teacher", seconds, running, BLOCK)


def by_teacher(teacher, train, fit):
    """The quarter-width student taught by the whole net."""
    net = tfs.scale_width(teacher, 0.25, inherit=False)
    fit(tfs.Distiller(net, teacher, alpha=ALPHA, temperature=TEMPERATURE))
    return net


def by_assistant(teacher, train, fit):
    """The same, by way of a net of half the width."""
    nets = [tfs.scale_width(teacher, width, inherit=False) for width in (0.5, 0.25)]
    options = {"alpha": ALPHA, "temperature": TEMPERATURE}
    return kd.teach_in_turn(teacher, nets, lambda distiller, index: fit(distiller), **options)


def by_each_other(teacher, train, fit):
    """The first of two that learn together."""
    cohort = kd.MutualLearning([tfs.scale_width(teacher, 0.25, inherit=False) for _ in range(2)])
    fit(cohort)
    return cohort.students[0]


def by_itself(teacher, train, fit):
    """The whole of a net with two exits."""
    taught = kd.SelfDistillation(tfs.scale_width(teacher, 0.25, inherit=False), exits=2)
    fit(taught)
    return taught.student


def by_labels(teacher, train, fit):
    """Without any teacher."""
    net = tfs.scale_width(teacher, 0.25, inherit=False)
    fit(net)
    return net


WAYS = {
    "labels alone": by_labels,
    "teacher": by_teacher,
    "assistant": by_assistant,
    "each other": by_each_other,
    "own exits": by_itself,
}


def spoken(data, teacher, seed, limit, side) -> tuple[float]:
    """Accuracy of a quarter-width net for spoken digits."""
    train, test = data
    keras.utils.set_random_seed(seed)

    def fit(model):
        batches = speech.batches(*train, seed)
        fitted(model, batches, SPEECH_EPOCHS, limit, loss="sparse_categorical_crossentropy")

    return (accuracy(WAYS[side](teacher, train, fit), test),)


def rows_of(part: str) -> list[tuple]:
    """What there is to run in one part, the same for every seed."""
    if part == "own":
        return [(copy, side) for copy in COPIES for side in ("alone", "own teacher")]
    return [(side,) for side in {"student": SIDES, "stored": STORED, "speech": WAYS}[part]]


def measure(arguments) -> None:
    """Runs what was not run before, and prints the table after each seed."""
    cache, part, limit = arguments.cache, arguments.part, arguments.limit
    task = speech if part == "speech" else cifar10
    data = task.load(cache)
    some = slice(None if limit is None else 500)
    data = data[0], (data[1][0][some].astype("float32"), data[1][1][some])
    teacher = task.baseline(cache, data[0], TEACHER_SEED)
    print(f"teacher: {accuracy(teacher, data[1]):.3f}", flush=True)
    if part == "stored":
        compare_stored_steps(cache, data, teacher, limit)
    run = {"student": student, "own": own, "speech": spoken, "stored": functools.partial(stored, cache)}[part]
    trial = "" if limit is None else f"-trial-{limit}"
    runs = Runs(cache / f"distillation-{part}{trial}.json")
    for seed in arguments.seeds:
        for row in rows_of(part):
            if not arguments.rows or row[0] in arguments.rows:
                runs.measure(row, seed, functools.partial(run, data, teacher, seed, limit, *row))
        for row, (accuracies,) in runs.rows().items():
            print(f"| {' | '.join(row)} | {mean_and_each(accuracies)} |", flush=True)


def main() -> None:
    """Runs the part that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["step", "student", "own", "stored", "speech"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", help="only these of the part's rows")
    parser.add_argument("--limit", type=int, help="steps per epoch (of `step`: steps), for a trial")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and results")
    arguments = parser.parse_args()
    (compare_steps if arguments.part == "step" else measure)(arguments)


if __name__ == "__main__":
    main()
