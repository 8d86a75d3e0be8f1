"""Removing channels: which architectures it works on, and what it costs.

    python -m tests.benchmarks.bench_channels coverage
    python -m tests.benchmarks.bench_channels coverage --names ResNet50 DenseNet201
    python -m tests.benchmarks.bench_channels latency

coverage: every architecture of `keras.applications` (random weights, smallest legal input) is asked for half
of its channels; the result must run, reload and export with the same outputs. "faster" is the time of the
original's `.tflite` over that of the cut one's (fastest runs, one thread, in alternation). Finished rows are
kept.
latency: the exported files of MobileNetV2 and ResNet50 at 224 x 224, at half of the MACs, likewise.
"""

import argparse
import functools
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks.runs import Runs
from tfsqueeze.pruning.channels.graph import find_groups
from tfsqueeze.pruning.channels.one_shot import prune_channels

SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
SMALLEST = 32


def architectures() -> dict[str, type]:
    """Every architecture there is, by name."""
    found = vars(keras.applications).items()
    return {name: make for name, make in found if callable(make) and name[0].isupper()}


def build(name: str, size: int = 0) -> keras.Model:
    """An architecture with random weights, by default with the smallest input it takes."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    size = size or SIZES.get(name, SMALLEST)
    return architectures()[name](weights=None, input_shape=(size, size, 3))


def cover(name: str) -> tuple:
    """One row: layers, parameters and the fraction kept, the same of MACs, seconds, how much faster."""
    model = build(name)
    start = time.perf_counter()
    graph = find_groups(model)
    found = time.perf_counter()
    small = prune_channels(model, ratio=0.5)
    pruned = time.perf_counter()
    kept = find_groups(small)
    check_reloads(small)
    return (
        len(model.layers),
        graph.params(),
        kept.params() / graph.params(),
        graph.macs(),
        kept.macs() / graph.macs(),
        found - start,
        pruned - found,
        speed_up(model, small),
    )


def check_reloads(model: keras.Model) -> None:
    """Raises if outputs are not finite or differ after a round trip through a file."""
    image = np.random.default_rng(0).uniform(0, 255, (1, *model.input_shape[1:])).astype("float32")
    expected = np.asarray(model(image))
    assert np.isfinite(expected).all()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        np.testing.assert_array_equal(np.asarray(keras.models.load_model(path)(image)), expected)


def speed_up(model: keras.Model, small: keras.Model) -> float:
    """How many times faster the exported small model is; the export compares outputs with Keras'."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {"before": Path(folder) / "before.tflite", "after": Path(folder) / "after.tflite"}
        for path, exported in zip(paths.values(), (model, small), strict=True):
            tfs.export_tflite(exported, path)
        reports = tfs.compare(paths, threads=1).reports
        return reports["before"].latency.min_ms / reports["after"].latency.min_ms


def coverage(arguments) -> None:
    """Prints the table of all architectures, a row when it is known."""
    runs = Runs(arguments.cache / "channels-coverage.json")
    print("| architecture | layers | params | kept | MACs | kept | find s | prune s | faster |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.names or architectures():
        runs.measure((name,), 0, functools.partial(cover, name))
        layers, params, params_kept, macs, macs_kept, find, prune, faster = runs.read()[f"{name}|0"]
        cells = f"{params / 1e6:.1f} M | {params_kept:.3f} | {macs / 1e6:.0f} M | {macs_kept:.3f}"
        print(f"| {name} | {layers} | {cells} | {find:.1f} | {prune:.1f} | {faster:.2f}x |", flush=True)


def latency(arguments) -> None:
    """Prints how much faster half of the MACs are."""
    for name in arguments.names or ("MobileNetV2", "ResNet50"):
        model = build(name, 224)
        small = tfs.prune_channels(model, macs=0.5, round_to=8)
        kept = find_groups(small).macs() / find_groups(model).macs()
        print(f"{name}: {kept:.3f} of the MACs, {speed_up(model, small):.2f}x as fast", flush=True)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["coverage", "latency"])
    parser.add_argument("--names", nargs="*", help="only these architectures")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for results")
    arguments = parser.parse_args()
    {"coverage": coverage, "latency": latency}[arguments.what](arguments)


if __name__ == "__main__":
    main()
