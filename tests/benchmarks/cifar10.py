"""CIFAR-10 and the MLPerf Tiny ResNet8 fine-tuned on it: the common ground of the training benchmarks."""

import gzip
import io
import itertools
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

EPOCHS = 4
BATCH_SIZE = 128
BASELINE_EPOCHS = 6


def data_folder() -> Path:
    """The folder that TFSQUEEZE_DATA names."""
    folder = os.environ.get("TFSQUEEZE_DATA")
    if not folder:
        raise SystemExit("Set TFSQUEEZE_DATA to the folder with the benchmark data.")
    return Path(folder)


def decoded(jpegs: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Images as uint8 (n, height, width, 3) from the bytes of JPEG files, one behind the other."""
    from PIL import Image

    blob, pairs = jpegs.tobytes(), itertools.pairwise(offsets)
    return np.stack([np.asarray(Image.open(io.BytesIO(blob[a:b])).convert("RGB")) for a, b in pairs])


def load(cache: Path):
    """Training and test images as uint8 (n, 32, 32, 3) with labels; decoded once into `cache`."""
    stored = cache / "cifar10.npz"
    if not stored.exists():
        source = np.load(data_folder() / "cifar10" / "cifar10_jpeg_60k.npz")
        arrays = {}
        for part in ("train", "test"):
            arrays[f"x_{part}"] = decoded(source[f"{part}_jpeg"], source[f"{part}_off"])
            arrays[f"y_{part}"] = source[f"y_{part}"].ravel()
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(stored, **arrays)
    arrays = np.load(stored)
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def batches(images, labels, seed: int, augment: bool = True) -> tf.data.Dataset:
    """Shuffled batches in float32, flipped and cropped at random; the same for the same seed."""

    def distort(index, image, label):
        image = tf.cast(tf.pad(image, [[4, 4], [4, 4], [0, 0]]), tf.float32)
        image = tf.image.stateless_random_crop(image, (32, 32, 3), (index, seed))
        return tf.image.stateless_random_flip_left_right(image, (index, seed + 1)), label

    def plain(index, image, label):
        return tf.cast(image, tf.float32), label

    dataset = tf.data.Dataset.from_tensor_slices((np.arange(len(images)), images, labels))
    dataset = dataset.shuffle(len(images), seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.map(distort if augment else plain, num_parallel_calls=2)
    return dataset.batch(BATCH_SIZE, drop_remainder=True).prefetch(4)


def steps(images, epochs: int) -> int:
    """Training steps in so many epochs."""
    return len(images) // BATCH_SIZE * epochs


def published():
    """The published network, trained by others on lossless images."""
    path = data_folder() / "mlperf_tiny" / "models" / "pretrainedResnet.h5"
    return keras.models.load_model(path, compile=False)


def twin(library, baseline):
    """The network in another Keras, with the weights of a trained one."""
    path = data_folder() / "mlperf_tiny" / "models" / "pretrainedResnet.h5"
    model = library.models.load_model(path, compile=False)
    model.set_weights(baseline.get_weights())
    return model


def compiled(model, total_steps: int, rate: float = 1e-3, library=keras):
    """Adam with a cosine learning rate; without XLA, which is slower on few threads."""
    schedule = library.optimizers.schedules.CosineDecay(rate, total_steps)
    loss = "sparse_categorical_crossentropy"
    model.compile(library.optimizers.Adam(schedule), loss, metrics=["accuracy"], jit_compile=False)
    return model


def baseline(cache: Path, train, seed: int, epochs: int = BASELINE_EPOCHS):
    """The float network after fine-tuning on the JPEG images, kept in `cache`."""
    stored = cache / f"baseline-{epochs}-{seed}.keras"
    if not stored.exists():
        keras.utils.set_random_seed(seed)
        model = compiled(published(), steps(train[0], epochs))
        model.fit(batches(*train, seed), epochs=epochs, verbose=2)
        model.save(stored)
    return keras.models.load_model(stored)


def file_accuracy(path, images, labels) -> float:
    """Accuracy of a `.tflite` file by the interpreter."""
    from tfsqueeze.tflite.runner import Runner

    runner = Runner(path)
    name = runner.inputs[0].name
    outputs = runner.run({name: images.astype("float32")})
    scores = next(iter(outputs.values()))
    return float((scores.argmax(1) == labels).mean())


def bytes_of(path) -> tuple[int, int]:
    """Size of a file, raw and gzipped."""
    content = Path(path).read_bytes()
    return len(content), len(gzip.compress(content, 9))
