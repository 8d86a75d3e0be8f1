"""What tfsqueeze costs: import time, training-step time with PruningCallback, copying a model.

    python -m tests.benchmarks.bench_foundation

Every figure is measured in alternation with its peer in this one run and printed as a Markdown table.
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings

import keras
import numpy as np

import tfsqueeze as tfs

IMPORT_PROGRAM = """
import tensorflow, keras, time
start = time.perf_counter()
import tfsqueeze
print(time.perf_counter() - start)
"""

REWRITE_PROGRAM = """
import resource, sys, time, keras
from tfsqueeze.core.rewrite import rewrite
model = getattr(keras.applications, sys.argv[1])(weights=None)
weights = sum(w.numpy().nbytes for w in model.weights)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, start = peak(), time.perf_counter()
twin = rewrite(model)
print(time.perf_counter() - start, (peak() - before) / weights, weights / 1e6)
"""


def run_program(program: str, *arguments: str) -> list[float]:
    """Runs a program in its own process and reads the numbers on its last line."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return [float(word) for word in done.stdout.split()]


def bench_import(repeats: int) -> None:
    """Seconds that `import tfsqueeze` adds once TensorFlow and Keras are imported."""
    seconds = [run_program(IMPORT_PROGRAM)[0] for _ in range(repeats)]
    print("| import tfsqueeze after tensorflow and keras | seconds |\n|---|---|")
    print(f"| median of {repeats} (min to max) | {statistics.median(seconds):.3f} {spread(seconds)} |\n")


def bench_rewrite() -> None:
    """Seconds and peak memory of an exact copy."""
    print("| identity rewrite | seconds | extra peak memory / weights | weights MB |\n|---|---|---|---|")
    for name in ("MobileNetV2", "ResNet50"):
        seconds, ratio, megabytes = run_program(REWRITE_PROGRAM, name)
        print(f"| {name} | {seconds:.2f} | {ratio:.2f} | {megabytes:.1f} |")
    print()


def bench_step(repeats: int) -> None:
    """Step time of `fit` with PruningCallback against plain `fit`, in alternation."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(1024, 32, 32, 3)).astype("float32"), rng.integers(0, 10, 1024)
    steps, times = 1024 // 32, {"plain fit": [], "PruningCallback": []}
    models = {name: network() for name in times}
    schedule = tfs.schedules.Polynomial(0.0, 0.8, 0, steps * 3 * repeats, frequency=100)
    for _ in range(repeats):
        for name, model in models.items():
            clock = EpochClock()
            pruning = [tfs.PruningCallback(schedule)] if name != "plain fit" else []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                model.fit(*data, batch_size=32, epochs=3, verbose=0, callbacks=[*pruning, clock])
            times[name] += [seconds / steps for seconds in clock.seconds[1:]]
    ratios = [a / b for a, b in zip(times["PruningCallback"], times["plain fit"], strict=True)]
    print("| training step, 6 conv layers, batch 32 | ms | ratio to plain fit |\n|---|---|---|")
    print(f"| plain fit | {1000 * statistics.median(times['plain fit']):.2f} | 1 |")
    pruned = 1000 * statistics.median(times["PruningCallback"])
    print(f"| PruningCallback | {pruned:.2f} | {statistics.median(ratios):.3f} {spread(ratios)} |\n")


class EpochClock(keras.callbacks.Callback):
    """Seconds of each epoch; the first also traces the step."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def network() -> keras.Model:
    """A convolutional network of ordinary size for 32x32 images."""
    layers, stack = keras.layers, [keras.Input((32, 32, 3))]
    for filters, strides in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        stack += [layers.Conv2D(filters, 3, strides, "same"), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def spread(values: list[float]) -> str:
    """The range of repeated measurements."""
    return f"({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Runs all three and prints their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each (default: 7)")
    repeats = parser.parse_args().repeats
    bench_import(repeats)
    bench_rewrite()
    bench_step(repeats)


if __name__ == "__main__":
    main()
