"""Removing channels: which architectures it works on, and what it costs.

    python -m tests.benchmarks.bench_channels coverage
    python -m tests.benchmarks.bench_channels coverage --names ResNet50 DenseNet201 --no-export

Coverage takes every architecture of `keras.applications` (random weights, smallest legal input), asks for
half of the channels, and checks that the result runs, reloads and exports with the same outputs.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tfsqueeze.pruning.channels.graph import find_groups
from tfsqueeze.pruning.channels.one_shot import prune_channels

SIZES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
SMALLEST = 32


def architectures() -> dict[str, type]:
    """Every architecture there is, by name."""
    found = vars(keras.applications).items()
    return {name: make for name, make in found if callable(make) and name[0].isupper()}


def build(name: str) -> keras.Model:
    """An architecture with random weights and the smallest input it takes."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    size = SIZES.get(name, SMALLEST)
    return architectures()[name](weights=None, input_shape=(size, size, 3))


def cover(name: str, export: bool) -> dict:
    """Facts of one architecture; a failure is one of them."""
    model = build(name)
    row = {"name": name, "layers": len(model.layers)}
    try:
        start = time.perf_counter()
        graph = find_groups(model)
        row["find"] = time.perf_counter() - start
        start = time.perf_counter()
        small = prune_channels(model, ratio=0.5)
        row["prune"] = time.perf_counter() - start
        found = find_groups(small)
        row |= {"params": graph.params(), "params kept": found.params() / graph.params()}
        row |= {"macs": graph.macs(), "macs kept": found.macs() / graph.macs()}
        row["ok"] = " ".join(checks(small, export))
    except Exception as error:
        row["ok"] = f"FAILED: {type(error).__name__}: {error}"[:150]
    return row


def checks(model: keras.Model, export: bool) -> Iterator[str]:
    """The names of what works, each verified."""
    image = np.random.default_rng(0).uniform(0, 255, (1, *model.input_shape[1:])).astype("float32")
    expected = np.asarray(model(image))
    assert np.isfinite(expected).all()
    yield "runs"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        np.testing.assert_array_equal(np.asarray(keras.models.load_model(path)(image)), expected)
        yield "reloads"
        if export:
            tfs.export_tflite(model, Path(folder) / "model.tflite")
            yield "exports"


def coverage(arguments) -> None:
    """Prints the table of all architectures."""
    header = ("params", "kept", "MACs", "kept", "find s", "prune s", "")
    print(f"{'architecture':<20}{'layers':>7}" + "".join(f"{title:>10}" for title in header), flush=True)
    for name in arguments.names or architectures():
        row = cover(name, arguments.export)
        numbers = [
            f"{row.get('params', 0) / 1e6:.1f} M",
            f"{row.get('params kept', 0):.3f}",
            f"{row.get('macs', 0) / 1e6:.0f} M",
            f"{row.get('macs kept', 0):.3f}",
            f"{row.get('find', 0):.1f}",
            f"{row.get('prune', 0):.1f}",
        ]
        cells = "".join(f"{number:>10}" for number in numbers)
        print(f"{name:<20}{row['layers']:>7}{cells}  {row['ok']}", flush=True)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("coverage", help="every architecture of keras.applications")
    command.add_argument("--names", nargs="*", help="only these")
    command.add_argument("--export", action=argparse.BooleanOptionalAction, default=True)
    command.set_defaults(run=coverage)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
