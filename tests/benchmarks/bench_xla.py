"""What XLA, which Keras compiles with by default, costs and gains on this machine.

    python -m tests.benchmarks.bench_xla

Processor time of the first call, which traces and compiles, and of each further one, with XLA and without.
The data are random. A first call of `fit` with XLA can take minutes.
"""

import argparse
import time

import keras
import numpy as np

from tests.benchmarks.bench_precision import NETWORKS, examples


def seconds(work) -> float:
    """Processor time of a call, over all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def measure(name: str, what: str, xla: bool, arguments) -> tuple[float, float]:
    """Seconds of the first call and of each further one."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    model.compile("adam", "mse", jit_compile=xla)
    x, y = examples(model, arguments.batch_size)
    work = {"fit": lambda: model.train_on_batch(x, y), "predict": lambda: model.predict_on_batch(x)}[what]
    first = seconds(work)
    return first, np.median([seconds(work) for _ in range(arguments.steps)])


def main() -> None:
    """Prints a row for each network and verb."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    arguments = parser.parse_args()
    print("| network | | first call, s: XLA / without | each further, ms: XLA / without |\n|---|---|---|---|")
    for name in arguments.networks:
        for what in ("predict", "fit"):
            found = [measure(name, what, xla, arguments) for xla in (True, False)]
            first = " / ".join(f"{first:.1f}" for first, _ in found)
            further = " / ".join(f"{further * 1000:.0f}" for _, further in found)
            print(f"| {name} | {what} | {first} | {further} |", flush=True)


if __name__ == "__main__":
    main()
