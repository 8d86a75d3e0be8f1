"""Latencies of networks predicted from a table of operators, beside those of whole-model runs.

    python -m tests.benchmarks.bench_latency_table [--variants 12] [--runs 200] [--seed 0] [--table FILE]

The networks are random settings of an architecture search around a ResNet8 for CIFAR-10 (untrained: latency
does not depend on weights). The table begins empty, unless a file is given. All files are timed in
alternation.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

from tfsqueeze.search.architectures.changes_space import ArchitectureSpace
from tfsqueeze.search.architectures.latency_table import LatencyTable
from tfsqueeze.search.architectures.limits import rank_correlation
from tfsqueeze.search.latencies import model_latencies


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--variants", type=int, default=12)
    parser.add_argument("--runs", type=int, default=200, help="timed calls of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="where latencies of operators are kept")
    arguments = parser.parse_args()
    networks = _networks(arguments.variants, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        table = LatencyTable(arguments.table or Path(folder, "table.json"), arguments.runs)
        filling, _ = _timed(table, networks)
        looking_up, predicted = _timed(table, networks)
        start = time.perf_counter()
        measured = model_latencies(networks, arguments.runs)
        timing = (time.perf_counter() - start) / len(networks)
    print("| network | predicted, ms | timed, ms |\n|---|---|---|")
    for name in sorted(networks, key=measured.get):
        print(f"| {name} | {predicted[name]:.3f} | {measured[name]:.3f} |")
    correlation = rank_correlation([predicted[name] for name in networks], [*map(measured.get, networks)])
    print(
        f"\nRank correlation {correlation:.3f} over {len(networks)} networks, {len(table.entries)} operators."
    )
    print("\n| seconds per network | |\n|---|---|")
    print(f"| timed as a whole | {timing:.2f} |")
    print(f"| predicted, operators not yet in the table | {filling / len(networks):.2f} |")
    print(f"| predicted, operators in the table | {looking_up / len(networks):.2f} |")


def _timed(table, networks) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    predicted = {name: table.predict(network) for name, network in networks.items()}
    return time.perf_counter() - start, predicted


def _networks(count: int, seed: int) -> dict[str, keras.Model]:
    """The original and random other settings of the space around it, by a short name of the setting."""
    model = resnet8()
    around = ArchitectureSpace(model)
    rng = np.random.default_rng(seed)
    found = {"as it is": model}
    while len(found) < count:
        setting = {
            name: list(choice.options.values())[rng.integers(len(choice.options))]
            for name, choice in around.space.parameters.items()
        }
        name = ", ".join(map(str, setting.values()))
        try:
            found[name] = around.build(setting)
        except ValueError:
            continue
    print(f"Settings: {', '.join(around.space.parameters)}.\n")
    return found


def resnet8() -> keras.Model:
    """A residual network of three stages, as MLPerf Tiny has it for CIFAR-10."""
    image = keras.Input((32, 32, 3))
    x = _normalized(layers.Conv2D(16, 3, padding="same")(image))
    for width, strides in ((16, 1), (32, 2), (64, 2)):
        y = _normalized(layers.Conv2D(width, 3, strides, padding="same")(x))
        y = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same")(y))
        x = x if strides == 1 else layers.Conv2D(width, 1, strides, padding="same")(x)
        x = layers.Activation("relu")(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax")(x), name="resnet8")


def _normalized(x):
    return layers.Activation("relu")(layers.BatchNormalization()(x))


if __name__ == "__main__":
    main()
