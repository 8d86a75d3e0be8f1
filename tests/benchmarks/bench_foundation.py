"""What tfsqueeze costs: import time, copying a model.

    python -m tests.benchmarks.bench_foundation

Figures are printed as Markdown tables. For the time of a training step see bench_pruning.py.
"""

import argparse
import statistics
import subprocess
import sys

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


def spread(values: list[float]) -> str:
    """The range of repeated measurements."""
    return f"({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    """Runs both and prints their tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each (default: 7)")
    repeats = parser.parse_args().repeats
    bench_import(repeats)
    bench_rewrite()


if __name__ == "__main__":
    main()
