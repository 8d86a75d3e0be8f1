"""The MLPerf Tiny networks with their evaluation sets: the common ground of the post-training benchmarks."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10

FRAMES = 5
WINDOW_STRIDE = 14
CALIBRATION = 200


@dataclass(frozen=True)
class Task:
    """A trained network, what to calibrate on, what to run on, and what its outputs are worth.

    Attributes:
        model: the float network.
        calibration: unlabelled inputs.
        inputs: the evaluation set.
        score: from outputs to a score, higher being better.
        published: published full-integer file, or None.
    """

    model: keras.Model
    calibration: np.ndarray
    inputs: np.ndarray
    score: Callable[[np.ndarray], float]
    published: str | None = None


def task(name: str, cache) -> Task:
    """One of "resnet8", "kws", "vww", "ad"."""
    return {"resnet8": _resnet8, "kws": _kws, "vww": _vww, "ad": _ad}[name](cache)


def labelled(name: str) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """The float network "kws" or "vww" with its evaluation set and labels."""
    data = np.load(_folder() / "eval" / f"{name}01.npz")
    inputs, labels = data["x"].astype("float32"), data["y"].ravel()
    if name == "kws":
        inputs = (inputs - 83) * np.float32(0.5847029)
        return tfs.load_model(_folder() / "models" / "kws_ref_model"), inputs, labels
    return tfs.load_model(_folder() / "models" / "vww_96.h5"), inputs / 255, labels


def _resnet8(cache) -> Task:
    train, (images, labels) = cifar10.load(cache)
    model = cifar10.baseline(cache, train, 0)
    calibration = train[0][:1024].astype("float32")
    return Task(model, calibration, images.astype("float32"), _accuracy(labels))


def _kws(cache) -> Task:
    model, inputs, labels = labelled("kws")
    return Task(model, _some(inputs), inputs, _accuracy(labels), "kws_ref_model.tflite")


def _vww(cache) -> Task:
    model, inputs, labels = labelled("vww")
    return Task(model, _some(inputs), inputs, _accuracy(labels), "vww_96_int8.tflite")


def _ad(cache) -> Task:
    from sklearn.metrics import roc_auc_score

    data = np.load(_folder() / "eval" / "ad01.npz")
    starts = range(0, data["x"].shape[1] - FRAMES + 1, WINDOW_STRIDE)
    clips = np.stack([data["x"][:, i : i + FRAMES].reshape(len(data["x"]), -1) for i in starts], 1)
    clips = clips.astype("float32")

    def auc(outputs):
        errors = np.square(outputs.reshape(clips.shape) - clips).mean((1, 2))
        return float(roc_auc_score(data["y"], errors))

    inputs = clips.reshape(-1, clips.shape[-1])
    model = tfs.load_model(_folder() / "models" / "ad01.h5")
    return Task(model, _some(inputs, 1000), inputs, auc, "ad01_int8.tflite")


def _folder():
    return cifar10.data_folder() / "mlperf_tiny"


def _some(inputs, count: int = CALIBRATION) -> np.ndarray:
    """Inputs drawn from the evaluation set, without their labels: these tasks have no other data here."""
    return inputs[np.random.default_rng(0).permutation(len(inputs))[:count]]


def _accuracy(labels) -> Callable[[np.ndarray], float]:
    return lambda outputs: float((outputs.argmax(1) == labels.ravel()).mean())
