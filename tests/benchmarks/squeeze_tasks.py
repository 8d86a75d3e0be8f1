"""What the squeeze benchmark makes smaller: trained networks, and data to train on, choose by, report on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.benchmarks import cifar10, speech, tiny
from tfsqueeze import quickstart

BATCH_SIZE = 32
VGG_EPOCHS = 15


@dataclass(frozen=True)
class Task:
    """A network and its data.

    Attributes:
        model: trained and compiled.
        train: in a form `fit` takes.
        validation: examples to choose by.
        held_out: examples to report on.
        twin: makes the same network in another Keras, for tfmot; None where there is none.
    """

    model: keras.Model
    train: Any
    validation: tuple[np.ndarray, np.ndarray]
    held_out: tuple[np.ndarray, np.ndarray]
    twin: Callable | None = None


def digits(cache: Path, seed: int, limit: int | None) -> Task:
    """The quickstart's network on scikit-learn's digits."""
    (x, y), test = quickstart.load_digits(seed)
    part = len(x) // 5
    train, validation = (x[part:], y[part:]), (x[:part], y[:part])

    def trained():
        network = quickstart.build_network()
        network.fit(*train, batch_size=32, epochs=12, verbose=0)
        return network

    return Task(_kept(cache / f"digits-{seed}.keras", seed, trained), _some(train, limit), validation, test)


def resnet8(cache: Path, seed: int, limit: int | None) -> Task:
    """MLPerf Tiny's ResNet8 on CIFAR-10; chosen on one half of the test images, reported on the other."""
    train, test = cifar10.load(cache)
    model = cifar10.baseline(cache, train, seed)
    validation, held_out = ((x.astype("float32"), y) for x, y in _halves(*test))
    batches = cifar10.batches(*_some(train, limit), seed)
    return Task(model, batches, validation, held_out, lambda library: cifar10.twin(library, model))


def spoken(cache: Path, seed: int, limit: int | None) -> Task:
    """The net of the pruning benchmark on spoken digits; chosen on one half of the test clips."""
    train, test = speech.load(cache)
    model = speech.baseline(cache, train, seed)
    batches = speech.batches(*_some(train, limit), seed)
    return Task(model, batches, *_halves(*test), lambda library: speech.twin(library, model))


def vgg(cache: Path, seed: int, limit: int | None) -> Task:
    """A wide, over-parameterised VGG for spoken digits; chosen on one half of the test clips."""
    train, test = speech.load(cache)

    def trained():
        model = speech.compiled(build_vgg(), speech.steps(train[0], VGG_EPOCHS))
        model.fit(speech.batches(*train, seed), epochs=VGG_EPOCHS, verbose=2)
        return model

    def twin(library):
        copy = build_vgg(library)
        copy.set_weights(model.get_weights())
        return copy

    model = _kept(cache / f"vgg-{seed}.keras", seed, trained)
    return Task(model, speech.batches(*_some(train, limit), seed), *_halves(*test), twin)


def build_vgg(library=keras):
    """Six convolutions in three stages and a wide dense layer, 2.6 million weights."""
    layers = library.layers
    model = library.Sequential([layers.InputLayer((61, 40, 1))])
    for filters in (32, 64, 128):
        for _ in range(2):
            model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
            model.add(layers.BatchNormalization())
            model.add(layers.ReLU())
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(512, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(10, activation="softmax"))
    return model


def kws(cache: Path, seed: int, limit: int | None) -> Task:
    """MLPerf Tiny's keyword spotting, as published."""
    return _published("kws", "kws_ref_model", seed, limit)


def vww(cache: Path, seed: int, limit: int | None) -> Task:
    """MLPerf Tiny's visual wake words, as published."""
    return _published("vww", "vww_96.h5", seed, limit)


def _published(name: str, file: str, seed: int, limit: int | None) -> Task:
    """One half of the evaluation set is to train on and to choose by, a quarter each; the other to report."""
    model, *examples = tiny.labelled(name)
    search, held_out = _halves(*examples, seed)
    train, validation = _halves(*search, seed)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"], jit_compile=False)
    path = cifar10.data_folder() / "mlperf_tiny" / "models" / file
    return Task(
        model,
        _some(train, limit),
        validation,
        held_out,
        lambda library: library.models.load_model(path, compile=False),
    )


TASKS = {"digits": digits, "resnet8": resnet8, "speech": spoken, "vgg": vgg, "kws": kws, "vww": vww}


def _kept(path: Path, seed: int, make: Callable[[], keras.Model]) -> keras.Model:
    """A trained network, trained once."""
    if not path.exists():
        keras.utils.set_random_seed(seed)
        make().save(path)
    return keras.models.load_model(path)


def _some(data, limit: int | None):
    return tuple(values[:limit] for values in data)


def _halves(x, y, seed: int = 0):
    """Parts examples at random: they may be stored class by class."""
    order = np.random.default_rng(seed).permutation(len(x))
    return tuple((x[rows], y[rows]) for rows in np.array_split(order, 2))
