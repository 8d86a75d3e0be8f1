"""Segmentation of road scenes (CamVid) at full, half and quarter output and input size.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_resolution --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_resolution --epochs 1 --images 16 --cache trial

All variants are made from the same untrained U-Net and get the same training (Adam, cosine from 2e-3, 40
epochs, batches of 8, flipped). Mean IoU is that of the float32 file on the 233 test images at 240x176, scores
up-sampled where they are smaller. Latency is that of the files on one thread, all in alternation. Finished
trainings are kept in the cache folder and not repeated.
"""

import argparse
import functools
from pathlib import Path

import keras

import tfsqueeze as tfs
from tests.benchmarks import camvid
from tests.benchmarks.runs import Runs, mean_and_each
from tfsqueeze.reporting.report import time_subjects
from tfsqueeze.reporting.subjects import open_subject

HALF = (camvid.HEIGHT // 2, camvid.WIDTH // 2)
QUARTER = (camvid.HEIGHT // 4, camvid.WIDTH // 4)
VARIANTS = {
    "full": lambda model: model,
    "output 1/2": lambda model: tfs.downsample_output(model, 2),
    "output 1/4": lambda model: tfs.downsample_output(model, 4),
    "input 1/2": lambda model: tfs.with_input_size(model, HALF),
    "input 1/4": lambda model: tfs.with_input_size(model, QUARTER),
}


def run_once(cache: Path, data, variant: str, seed: int, epochs: int) -> tuple:
    """Trains and exports one variant; returns its mean IoU, MACs and parameters."""
    keras.utils.set_random_seed(seed)
    model = VARIANTS[variant](camvid.unet())
    camvid.train(model, *data["train"], epochs, seed)
    path = file_of(cache, variant)
    tfs.export_tflite(model, path)
    facts = tfs.report(path, latency=False)
    return camvid.mean_iou(path, *data["test"]), facts.macs, facts.parameters


def file_of(cache: Path, variant: str) -> Path:
    """Where the exported file of a variant is kept."""
    return cache / f"camvid-{variant.replace(' ', '-').replace('/', '')}.tflite"


def show(runs: Runs, cache: Path, variants) -> None:
    """Prints the table, with latencies measured now."""
    files = {variant: file_of(cache, variant) for variant in variants if file_of(cache, variant).exists()}
    timings, _ = time_subjects({name: open_subject(path) for name, path in files.items()}, True, 50, 1, 1)
    print("| | mean IoU (each seed) | MACs | parameters | ms (90th percentile) |\n|---|---|---|---|---|")
    for (variant,), (scores, macs, parameters) in runs.rows().items():
        latency = timings.get(variant)
        cell = f"{latency.median_ms:.1f} ({latency.p90_ms:.1f})" if latency else "-"
        print(
            f"| {variant} | {mean_and_each(scores)} | {macs[0]:,} | {parameters[0]:,} | {cell} |", flush=True
        )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--images", type=int, default=None, help="use fewer images, to try it out")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and results")
    arguments = parser.parse_args()
    data = camvid.load(arguments.cache)
    data = {part: (x[: arguments.images], y[: arguments.images]) for part, (x, y) in data.items()}
    runs = Runs(arguments.cache / f"resolution-{arguments.epochs}.json")
    for seed in arguments.seeds:
        for variant in arguments.variants:
            run = functools.partial(run_once, arguments.cache, data, variant, seed, arguments.epochs)
            runs.measure((variant,), seed, run)
    show(runs, arguments.cache, arguments.variants)


if __name__ == "__main__":
    main()
