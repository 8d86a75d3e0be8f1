"""How small `tfs.squeeze` makes a model in how much time, beside int8 alone and beside random proposals.

    python -m tests.benchmarks.bench_squeeze --cache squeeze-runs                       # digits, some minutes
    TFSQUEEZE_DATA=<folder> python -m tests.benchmarks.bench_squeeze resnet8 --cache squeeze-runs

Each search keeps its trials in the cache: run again, it goes on. The curve is the best size so far of a model
within the drop against the seconds of all trials before it, those without training first.
"""

import argparse
from functools import partial
from pathlib import Path

import keras

from tests.benchmarks import cifar10, speech
from tests.benchmarks.runs import Runs
from tfsqueeze import quickstart
from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.reporting.report import report
from tfsqueeze.search.squeezing.squeeze import squeeze

MAX_DROP = 0.02
SAMPLERS = ("tpe", "random")


def digits(cache: Path, seed: int):
    """The quickstart's network on scikit-learn's digits: trained, with training, validation and test data."""
    (x, y), test = quickstart.load_digits(seed)
    part = len(x) // 5
    train, validation = (x[part:], y[part:]), (x[:part], y[:part])
    path = cache / f"digits-{seed}.keras"
    if not path.exists():
        keras.utils.set_random_seed(seed)
        network = quickstart.build_network()
        network.fit(*train, batch_size=32, epochs=12, verbose=0)
        network.save(path)
    return keras.models.load_model(path), train, validation, test


def resnet8(cache: Path, seed: int):
    """MLPerf Tiny's ResNet8 on CIFAR-10; chosen on one half of the test images, reported on the other."""
    train, (x, y) = cifar10.load(cache)
    model = cifar10.baseline(cache, train, seed)
    half = len(x) // 2
    return model, cifar10.batches(*train, seed), _floats(x[:half], y[:half]), _floats(x[half:], y[half:])


def wide(cache: Path, seed: int):
    """A wide network for spoken digits; chosen on one half of the test clips, reported on the other."""
    train, (x, y) = speech.load(cache)
    model = speech.baseline(cache, train, seed)
    half = len(x) // 2
    return model, speech.batches(*train, seed), (x[:half], y[:half]), (x[half:], y[half:])


TASKS = {"digits": digits, "resnet8": resnet8, "speech": wide}


def _floats(x, y):
    return x.astype("float32"), y


def int8_alone(model, train, validation, held_out, folder: Path, seconds):
    """Bytes and drop of the file that export alone makes."""
    files = {
        name: export_tflite(model, folder / f"{name}.tflite", quantize=kind, representative_data=train).path
        for name, kind in {"float32": None, "int8": "int8"}.items()
    }
    before, after = (report(path, data=held_out, latency=False) for path in files.values())
    metric = next(iter(before.metrics))
    return before.file_bytes, after.file_bytes, before.metrics[metric] - after.metrics[metric], 0.0


def searched(sampler: str, seed: int, **settings):
    """A search with a sampler: bytes before and after, drop on the held-out data, seconds of the trials."""

    def run(model, train, validation, held_out, folder: Path, seconds):
        found = squeeze(
            model,
            train,
            validation,
            held_out=held_out,
            max_drop=MAX_DROP,
            sampler=sampler,
            seed=seed,
            time_budget=seconds,
            output=folder / f"{sampler}-{seed}",
            **settings,
        )
        print(found)
        show_curve(found)
        return found.report["original"].file_bytes, found.best.bytes, found.held_out.drop, found.is_within

    return run


def show_curve(found) -> None:
    """The best so far among what was trained, in the order it was tried."""
    best = None
    for number, one in enumerate(found.attempts, 1):
        if one.verdict.is_within and (best is None or one.bytes < best):
            best = one.bytes
            print(f"  attempt {number}: candidate {one.candidate}, {one.epochs} epochs, {best:,} bytes")


def main() -> None:
    """Runs what the arguments name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", nargs="?", choices=TASKS, default="digits")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--trainings", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1800)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(arguments, name) for name in ("trials", "trainings", "epochs")}
    runs = Runs(arguments.cache / f"{arguments.task}.json")
    folder = arguments.cache / arguments.task
    folder.mkdir(exist_ok=True)
    for seed in arguments.seeds:
        data = TASKS[arguments.task](arguments.cache, seed)
        methods = {"int8 alone": int8_alone}
        methods |= {sampler: searched(sampler, seed, **settings) for sampler in arguments.samplers}
        for name, run in methods.items():
            runs.measure((name,), seed, partial(run, *data, folder, arguments.seconds))
    for (name,), (before, after, drop, *_) in runs.rows().items():
        ratios = ", ".join(f"{a / b:.1f}x" for a, b in zip(before, after, strict=True))
        print(f"{name:12} {ratios} smaller, drop on held-out data {', '.join(f'{d:.4f}' for d in drop)}")


if __name__ == "__main__":
    main()
