"""How much faster int8 files are than float32 ones, on one thread, timed in alternation."""

from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks.post_training import ours
from tests.benchmarks.tiny import task
from tfsqueeze.search.latencies import file_latencies

RUNS = 200
#: A network of the usual size for phones. Its weights are new: they take as long as trained ones.
LARGE = "MobileNetV1-224"
NETWORKS = ("resnet8", "kws", "vww", "ad", LARGE)


def _network(name: str, cache: Path):
    """A model and what to calibrate it on."""
    if name != LARGE:
        found = task(name, cache)
        return found.model, found.calibration
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).uniform(-1, 1, (16, 224, 224, 3)).astype("float32")
    return keras.applications.MobileNet(weights=None), images


def _files(name: str, cache: Path) -> dict[str, Path]:
    """A float32 and an int8 file; those that were made before are taken."""
    folder = cache / "latency"
    folder.mkdir(parents=True, exist_ok=True)
    files = {kind: folder / f"{name}-{kind}.tflite" for kind in ("float32", "int8")}
    if not all(path.exists() for path in files.values()):
        model, data = _network(name, cache)
        tfs.export_tflite(model, files["float32"])
        if name == LARGE:
            tfs.export_tflite(model, files["int8"], quantize="int8", representative_data=data)
        else:
            ours(model, data, files["int8"])
    return files


def latency(arguments) -> None:
    """Median milliseconds of each network's two files."""
    print("| | float32, ms | int8, ms | times as fast |\n|---|---|---|---|")
    for name in arguments.networks:
        timed = file_latencies(_files(name, arguments.cache), RUNS)
        ratio = timed["float32"] / timed["int8"]
        print(f"| {name} | {timed['float32']:.3f} | {timed['int8']:.3f} | {ratio:.2f} |", flush=True)
