"""How small `tfs.squeeze` makes a model in how much time, beside other ways to the same end.

    python -m tests.benchmarks.bench_squeeze --cache squeeze-runs                       # digits, some minutes
    TFSQUEEZE_DATA=<folder> python -m tests.benchmarks.bench_squeeze resnet8 --cache squeeze-runs
    TFSQUEEZE_DATA=<folder> python -m tests.benchmarks.bench_squeeze kws --cache trial \\
        --limit 64 --trials 2 --trainings 1 --epochs 1                                  # to see that it runs

Methods: our search with each of the samplers, int8 export alone, and tfmot's pruning and quantization-aware
training on a grid of sparsities. All are chosen on the validation half by the same test: the smallest file
whose drop is within 2 points with 90 % confidence; the drop printed is that on the other half. MACs and
latency (one thread, median) are of that file and of the float one. `curve-<task>.png` shows the best size so
far against the seconds since the beginning, preparation included, pauses between runs left out. Finished
methods and trials are kept in the cache and not repeated.
"""

import argparse
import datetime
import itertools
import time
from functools import partial
from pathlib import Path

import optuna

from tests.benchmarks.runs import Runs
from tests.benchmarks.squeeze_tasks import TASKS, Task
from tests.benchmarks.tfmot_grid import SPARSITIES, grid
from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.reporting.plots import COLOURS, new_figure, saved
from tfsqueeze.reporting.report import report
from tfsqueeze.search.squeezing.attempts import ATTEMPTS
from tfsqueeze.search.squeezing.paired_test import Judge
from tfsqueeze.search.squeezing.squeeze import squeeze

MAX_DROP, CONFIDENCE = 0.02, 0.9
SAMPLERS = ("tpe", "random")
INT8, TFMOT = "int8 alone", "tfmot grid"


def compared(task: Task, folder: Path, files) -> tuple:
    """Judges files as they come, and measures the smallest that is good enough.

    Args:
        task: what they were made of.
        folder: for the float file.
        files: pairs of seconds and a file.

    Returns:
        What `measured` returns; the float file itself where none is good enough.
    """
    original = export_tflite(task.model, folder / "float.tflite").path
    examples = collect(task.validation, input_specs(task.model))
    judge = Judge(original, task.model, examples, None, MAX_DROP, CONFIDENCE)
    best, curve = original, []
    for seconds, path in files:
        verdict = judge.verdict(path)
        print(f"  {path.name}: {path.stat().st_size:,} bytes, drop {verdict.drop:.4f}", flush=True)
        if verdict.is_within and path.stat().st_size < best.stat().st_size:
            best = path
            curve.append((seconds, path.stat().st_size))
    return measured(original, best, task.held_out, curve)


def measured(original: Path, best: Path, held_out, curve) -> tuple:
    """Ratios of bytes, gzipped bytes, MACs and latency, the drop on the held-out data, and the curve."""
    before, after = (report(path, data=held_out, latency=True) for path in (original, best))
    pairs = [
        (before.facts.file_bytes, after.facts.file_bytes),
        (before.facts.gzip_bytes, after.facts.gzip_bytes),
        (before.facts.macs, after.facts.macs),
        (before.latency.median_ms, after.latency.median_ms),
    ]
    name = next(iter(before.metrics))
    drop = before.metrics[name] - after.metrics[name]
    return (*(was / now for was, now in pairs), drop, curve)


def int8_alone(task: Task, folder: Path, arguments) -> tuple:
    """The file that export alone makes."""
    begin = time.monotonic()
    path = export_tflite(
        task.model, folder / "int8.tflite", quantize="int8", representative_data=task.train
    ).path
    return compared(task, folder, [(time.monotonic() - begin, path)])


def tfmot_grid(task: Task, folder: Path, arguments) -> tuple:
    """tfmot's files, as many as the time allows."""
    files = grid(task, arguments.epochs, folder, arguments.sparsities)
    return compared(task, folder, itertools.takewhile(lambda pair: pair[0] <= arguments.seconds, files))


def searched(sampler: str, task: Task, folder: Path, arguments, *, seed: int) -> tuple:
    """A search with a sampler."""
    output = folder / f"{sampler}-{seed}"
    begun = output / "begun"
    output.mkdir(exist_ok=True)
    if not begun.exists():
        begun.write_text(datetime.datetime.now().isoformat())
    found = squeeze(
        task.model,
        task.train,
        task.validation,
        max_drop=MAX_DROP,
        confidence=CONFIDENCE,
        sampler=sampler,
        seed=seed,
        time_budget=arguments.seconds,
        trials=arguments.trials,
        trainings=arguments.trainings,
        epochs=arguments.epochs,
        output=output,
    )
    print(found)
    curve = search_curve(output / "study.db", datetime.datetime.fromisoformat(begun.read_text()))
    return measured(output / "original.tflite", found.path, task.held_out, curve)


def search_curve(storage: Path, begun: datetime.datetime) -> list[tuple[float, int]]:
    """Seconds and bytes whenever a search found a smaller file that is good enough.

    Seconds are those of the preparation and of all trials begun before, so that pauses do not count.
    """
    url = f"sqlite:///{storage}"
    trials = [
        trial
        for name in optuna.get_all_study_names(url)
        for trial in optuna.load_study(study_name=name, storage=url).trials
        if trial.datetime_complete is not None
    ]
    trials.sort(key=lambda trial: trial.datetime_start)
    seconds, best, curve = (trials[0].datetime_start - begun).total_seconds(), None, []
    for trial in trials:
        seconds += trial.duration.total_seconds()
        good = [row["bytes"] for row in trial.user_attrs.get(ATTEMPTS, []) if row["verdict"]["is_within"]]
        if good and (best is None or min(good) < best):
            best = min(good)
            curve.append((seconds, best))
    return curve


def draw_curves(runs: Runs, path: Path) -> None:
    """The best size so far against time, a line per method and seed."""
    figure, axes = new_figure(7, 4.5)
    for colour, ((method,), columns) in zip(COLOURS, runs.rows().items(), strict=False):
        for number, curve in enumerate(columns[-1]):
            if curve:
                seconds, sizes = zip(*curve, strict=True)
                label = method if number == 0 else None
                axes.step(seconds, sizes, where="post", marker="o", markersize=4, color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("smallest file within 2 points, bytes")
    axes.legend(frameon=False)
    saved(figure, path)


def show(runs: Runs) -> None:
    """Prints a row per method; a value for each seed."""
    titles = ["smaller", "gzipped", "fewer MACs", "faster"]
    print(f"| | {' | '.join(titles)} | drop, held out | seconds to the best |\n|{'---|' * 7}")
    for (method,), (*ratios, drops, curves) in runs.rows().items():
        cells = [", ".join(f"{value:.1f}x" for value in values) for values in ratios]
        ends = ", ".join(f"{curve[-1][0]:.0f}" if curve else "none found" for curve in curves)
        print(f"| {method} | {' | '.join(cells)} | {', '.join(f'{d:.4f}' for d in drops)} | {ends} |")


def main() -> None:
    """Runs what the arguments name."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", nargs="?", choices=TASKS, default="digits")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=[INT8, TFMOT, *SAMPLERS])
    parser.add_argument("--sparsities", type=float, nargs="+", default=SPARSITIES, help="of tfmot's grid")
    parser.add_argument("--limit", type=int, help="most training examples, to see that everything runs")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--trainings", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1800, help="for each method")
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    runs = Runs(arguments.cache / f"{arguments.task}.json")
    for seed in arguments.seeds:
        task = TASKS[arguments.task](arguments.cache, seed, arguments.limit)
        folder = arguments.cache / f"{arguments.task}-{seed}"
        folder.mkdir(exist_ok=True)
        known = {INT8: int8_alone, **({TFMOT: tfmot_grid} if task.twin else {})}
        for method in arguments.methods:
            if method in known:
                run = known[method]
            elif method == TFMOT:
                continue
            else:
                run = partial(searched, method, seed=seed)
            runs.measure((method,), seed, partial(run, task, folder, arguments))
    show(runs)
    draw_curves(runs, arguments.cache / f"curve-{arguments.task}.png")


if __name__ == "__main__":
    main()
