"""What tfsqueeze costs: import time, training-step time with PruningCallback, copying a model.

    python -m tests.benchmarks.bench_foundation

Every figure is measured in alternation with its peer in this one run and printed as a Markdown table.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time

import keras
import numpy as np

import tfsqueeze as tfs

STEPS = 10

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
    """Step time of `fit` with PruningCallback against plain `fit`: two trainings that take turns."""
    rng = np.random.default_rng(0)
    images, labels = (
        rng.normal(size=(STEPS * 32, 32, 32, 3)).astype("float32"),
        rng.integers(0, 10, STEPS * 32),
    )
    epochs = 10 * repeats
    schedule = tfs.schedules.Polynomial(0.0, 0.8, 0, STEPS * epochs, frequency=100)
    turns = {"plain fit": threading.Semaphore(1), "PruningCallback": threading.Semaphore(0)}
    clocks = {
        "plain fit": EpochClock(turns["plain fit"], turns["PruningCallback"]),
        "PruningCallback": EpochClock(turns["PruningCallback"], turns["plain fit"]),
    }

    def train(name):
        pruning = [tfs.PruningCallback(schedule)] if name == "PruningCallback" else []
        callbacks = [*pruning, clocks[name]]
        network().fit(images, labels, batch_size=32, epochs=epochs, verbose=0, callbacks=callbacks)

    threads = [threading.Thread(target=train, args=(name,)) for name in clocks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("| training step, 6 conv layers, batch 32 | ms | ratio to plain fit (quartiles) |\n|---|---|---|")
    for kind, index in (("wall", 0), ("processor", 1)):
        plain, pruned = ([times[index] for times in clock.times[2:]] for clock in clocks.values())
        ratios = [a / b for a, b in zip(pruned, plain, strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        ms = [1000 * statistics.median(seconds) / STEPS for seconds in (plain, pruned)]
        print(f"| plain fit, {kind} time | {ms[0]:.2f} | 1 |")
        print(f"| PruningCallback, {kind} time | {ms[1]:.2f} | {median:.3f} ({low:.3f} to {high:.3f}) |")
    print()


class EpochClock(keras.callbacks.Callback):
    """Wall and processor seconds of each epoch, which waits for its turn and then gives it away."""

    def __init__(self, own: threading.Semaphore, other: threading.Semaphore):
        super().__init__()
        self.times = []
        self._own, self._other = own, other

    def on_epoch_begin(self, epoch, logs=None):
        self._own.acquire()
        self._start = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        wall, processor = self._start
        self.times.append((time.perf_counter() - wall, time.process_time() - processor))
        self._other.release()


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
