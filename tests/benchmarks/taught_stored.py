"""A student taught from stored soft labels, beside one with a running teacher."""

import time

import keras
import tensorflow as tf

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tests.benchmarks.taught import (
    ALPHA,
    BLOCK,
    FROM_LOGITS,
    TEMPERATURE,
    accuracy,
    fitted,
    resnet8,
)
from tests.benchmarks.turns import show_ratios, take_turns
from tfsqueeze import distillation as kd

EPOCHS = 4
STORED = ("running teacher", "all classes", "five classes")


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


def stored(cache, data, teacher, seed, limit, side) -> tuple[float]:
    """Accuracy of the half-width student."""
    source, batches = stored_data(cache, data, teacher, seed, limit, side)
    keras.utils.set_random_seed(seed)
    net = resnet8(8)
    fitted(tfs.Distiller(net, source, alpha=ALPHA, temperature=TEMPERATURE), batches, EPOCHS, limit)
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
