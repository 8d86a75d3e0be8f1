"""CamVid road scenes in 11 classes, and a small U-Net for them."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.benchmarks.cifar10 import data_folder, decoded

HEIGHT, WIDTH = 176, 240
CLASSES, VOID = 11, 11
BATCH_SIZE = 8


def load(cache: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images as uint8 (n, 176, 240, 3) with classes (n, 176, 240), for "train" and "test"; decoded once."""
    stored = cache / "camvid.npz"
    if not stored.exists():
        source = np.load(data_folder() / "camvid" / "camvid_240x180.npz")
        arrays = {}
        for part in ("train", "test"):
            arrays[f"x_{part}"] = decoded(source[f"{part}_jpeg"], source[f"{part}_off"])[:, :HEIGHT]
            arrays[f"y_{part}"] = source[f"y_{part}"][:, :HEIGHT]
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(stored, **arrays)
    arrays = np.load(stored)
    return {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}


def unet(widths=(16, 32, 64)) -> keras.Model:
    """Two stages down and up with skip connections; dilated convolutions at the bottom see far."""

    def block(x, width, name, dilation=1):
        for index in (1, 2):
            x = layers.Conv2D(
                width, 3, padding="same", use_bias=False, dilation_rate=dilation, name=f"{name}_conv{index}"
            )(x)
            x = layers.ReLU()(layers.BatchNormalization(name=f"{name}_norm{index}")(x))
        return x

    image = keras.Input((HEIGHT, WIDTH, 3), name="image")
    x, skips = layers.Rescaling(1 / 127.5, -1)(image), []
    for index, width in enumerate(widths[:-1]):
        x = block(x, width, f"encoder{index}")
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, widths[-1], "bottom", dilation=2)
    x = block(x, widths[-1], "bottom_far", dilation=4)
    for index, width in reversed(list(enumerate(widths[:-1]))):
        x = layers.Concatenate()([layers.UpSampling2D(interpolation="bilinear")(x), skips.pop()])
        x = block(x, width, f"decoder{index}")
    return keras.Model(image, layers.Conv2D(CLASSES, 1, name="classes")(x), name="unet")


def train(model: keras.Model, images, masks, epochs: int, seed: int) -> None:
    """Adam with a cosine learning rate; images are flipped at random and brought to the input size."""
    size, output = model.input_shape[1:3], model.output_shape[1:3]

    def prepare(index, image, mask):
        image, mask = tf.cast(image, tf.float32), tf.cast(mask, tf.int32)[..., None]
        flip = tf.random.stateless_uniform((), (index, seed)) < 0.5
        image = tf.image.resize(tf.cond(flip, lambda: image[:, ::-1], lambda: image), size, antialias=True)
        mask = tf.cond(flip, lambda: mask[:, ::-1], lambda: mask)
        return image, tf.image.resize(mask, output, method="nearest")[..., 0]

    data = tf.data.Dataset.from_tensor_slices((np.arange(len(images)), images, masks))
    data = data.shuffle(len(images), seed=seed).map(prepare, num_parallel_calls=2)
    data = data.batch(BATCH_SIZE, drop_remainder=True).prefetch(2)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * (len(images) // BATCH_SIZE))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID)
    model.compile(keras.optimizers.Adam(schedule), loss, jit_compile=False)
    model.fit(data, epochs=epochs, shuffle=False, verbose=0)


def mean_iou(path: Path, images, masks) -> float:
    """Mean intersection over union of the 11 classes at full size, by the interpreter, without void."""
    from tfsqueeze.tflite.runner import Runner

    runner = Runner(path)
    (port,) = runner.inputs
    counts = np.zeros((CLASSES, CLASSES))
    for start in range(0, len(images), BATCH_SIZE):
        resized = tf.image.resize(images[start : start + BATCH_SIZE], port.shape[1:3], antialias=True)
        scores = next(iter(runner.run({port.name: resized.numpy()}).values()))
        found = np.argmax(tf.image.resize(scores, (HEIGHT, WIDTH)), -1)
        truth = masks[start : start + BATCH_SIZE]
        valid = truth != VOID
        counts += np.bincount(truth[valid] * CLASSES + found[valid], minlength=CLASSES**2).reshape(
            counts.shape
        )
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return float(np.mean(counts.diagonal()[union > 0] / union[union > 0]))
