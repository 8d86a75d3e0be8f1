"""Spoken digits (FSDD, 3,000 clips of six speakers) and a small convolutional net, as a second task.

It offers the same functions as `cifar10.py`. The official test set is the first five takes of each speaker.
"""

import itertools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tests.benchmarks.cifar10 import bytes_of, compiled, data_folder, file_accuracy

__all__ = ["EPOCHS", "baseline", "batches", "bytes_of", "compiled", "file_accuracy", "load", "steps", "twin"]

EPOCHS = 15
BATCH_SIZE = 32
BASELINE_EPOCHS = 40
RATE, SAMPLES = 8000, 8000


def load(cache: Path):
    """Log-mel spectrograms (n, 61, 40, 1) with labels, of training and of test clips."""
    source = np.load(data_folder() / "fsdd" / "fsdd_8k.npz")
    audio = source["audio"]
    clips = [audio[start:end] for start, end in itertools.pairwise(source["off"])]
    features = np.concatenate([_log_mel(clips[i : i + 500]) for i in range(0, len(clips), 500)])
    labels, test = source["y"].astype("int64").ravel(), source["take"].ravel() < 5
    mean, spread = features[~test].mean(), features[~test].std()
    features = (features - mean) / spread
    return (features[~test], labels[~test]), (features[test], labels[test])


def _log_mel(clips) -> np.ndarray:
    audio = np.zeros((len(clips), SAMPLES), "float32")
    for row, clip in zip(audio, clips, strict=True):
        row[: min(clip.size, SAMPLES)] = clip[:SAMPLES] / 32768.0
    spectra = tf.abs(tf.signal.stft(audio, 256, 128, 256))
    mel = tf.signal.linear_to_mel_weight_matrix(40, 129, RATE, 60.0, 3800.0)
    return tf.math.log(spectra @ mel + 1e-3).numpy()[..., None].astype("float32")


def batches(features, labels, seed: int) -> tf.data.Dataset:
    """Shuffled batches, shifted in time at random; the same for the same seed."""

    def shift(index, clip, label):
        by = tf.random.stateless_uniform((), (index, seed), -6, 7, tf.int32)
        return tf.roll(clip, by, axis=0), label

    dataset = tf.data.Dataset.from_tensor_slices((np.arange(len(features)), features, labels))
    dataset = dataset.shuffle(len(features), seed=seed, reshuffle_each_iteration=True).map(shift)
    return dataset.batch(BATCH_SIZE, drop_remainder=True).prefetch(4)


def steps(features, epochs: int) -> int:
    """Training steps in so many epochs."""
    return len(features) // BATCH_SIZE * epochs


def build(library=keras):
    """Four convolutions and a classifier, 66,000 weights."""
    layers = library.layers
    model = library.Sequential([layers.InputLayer((61, 40, 1))])
    for filters, stride in ((16, 2), (32, 2), (64, 2), (64, 1)):
        model.add(layers.Conv2D(filters, 3, stride, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, activation="softmax"))
    return model


def twin(library, baseline):
    """The same network in another Keras."""
    model = build(library)
    model.set_weights(baseline.get_weights())
    return model


def baseline(cache: Path, train, seed: int):
    """The trained float network, kept in `cache`."""
    stored = cache / f"speech-{seed}.keras"
    if not stored.exists():
        keras.utils.set_random_seed(seed)
        model = compiled(build(), steps(train[0], BASELINE_EPOCHS))
        model.fit(batches(*train, seed), epochs=BASELINE_EPOCHS, verbose=2)
        model.save(stored)
    return keras.models.load_model(stored)
