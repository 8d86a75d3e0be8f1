"""Distillation: time per step and accuracy, against keras.distillation and against no teacher at all.

    python -m tests.benchmarks.bench_distillation step
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation student --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation own --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation stored --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_distillation speech --seeds 0 1 2 3 4

step: a step of Keras' distiller, of ours, of the student alone, and a pass of the teacher take turns, with
soft targets and with one feature loss besides; random images.
student: ResNet8 of half the width on CIFAR-10, 12 epochs, alone, by Keras' distiller, by ours, with new
weights and with weights inherited from the teacher, which is the fine-tuned ResNet8.
own: ResNet8 pruned to 90 % zeros, cut to half of its multiply-accumulates, and in int4, each trained with and
without its float self as teacher: the same epochs, batches, optimizer and callbacks.
stored: the student of half the width taught by a running teacher and from stored logits (all of them, and the
five largest), 4 epochs of the same augmented images; and their steps in turns.
speech: a quarter of the width on spoken digits: alone, by the teacher, over an assistant of half the width,
two of its kind learning from each other, and with exits that its own end teaches.

All of one part get the same optimizer (Adam, cosine). Finished runs are kept in the cache folder and not
repeated, so that the hours can be had in pieces; `--limit` makes a trial of so many steps per epoch, which is
judged by 500 examples.
"""

import argparse
import functools
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.benchmarks import cifar10, speech
from tests.benchmarks.runs import Runs, mean_and_each
from tests.benchmarks.taught import BLOCK, FROM_LOGITS, SIDES, STUDENTS, accuracy, resnet8, student
from tests.benchmarks.taught_copies import COPIES, own
from tests.benchmarks.taught_speech import WAYS, spoken
from tests.benchmarks.taught_stored import STORED, compare_stored_steps, stored
from tests.benchmarks.turns import show_ratios, take_turns

TEACHER_SEED = 0
BATCH = 64


def compare_steps(arguments) -> None:
    """Prints the time of a step over that of Keras, and over that of student and teacher by themselves."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 255, (8 * BATCH, 32, 32, 3)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, rng.integers(0, 10, len(x)))).batch(BATCH).cache().repeat()
    steps = max(arguments.limit or 400, 2 * BLOCK)

    def training(make, with_features):
        model = make(resnet8(8), resnet8(16), with_features)
        model.compile("adam", FROM_LOGITS)
        return lambda turn: model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=[turn])

    def forward(turn):
        # Compiled as `fit` compiles the steps of the other sides.
        run = tf.function(functools.partial(resnet8(16), training=False), jit_compile=True)
        batches = iter(data)
        for _ in range(steps):
            turn.begin()
            run(next(batches)[0])
            turn.end()

    for with_features in (False, True):
        sides = [training(make, with_features) for make in SIDES.values()]
        student, peer, ours, teacher = take_turns([*sides, forward])
        losses = "soft targets and a feature loss" if with_features else "soft targets"
        show_ratios(f"{losses}: tfsqueeze / keras", ours, peer, BLOCK)
        show_ratios(f"{losses}: tfsqueeze / (student + teacher forward)", ours, student + teacher, BLOCK)


def rows_of(part: str) -> list[tuple]:
    """What there is to run in one part, the same for every seed."""
    if part == "own":
        return [(copy, side) for copy in COPIES for side in ("alone", "own teacher")]
    return [(side,) for side in {"student": STUDENTS, "stored": STORED, "speech": WAYS}[part]]


def measure(arguments) -> None:
    """Runs what was not run before, and prints the table after each seed."""
    cache, part, limit = arguments.cache, arguments.part, arguments.limit
    task = speech if part == "speech" else cifar10
    data = task.load(cache)
    some = slice(None if limit is None else 500)
    data = data[0], (data[1][0][some].astype("float32"), data[1][1][some])
    teacher = task.baseline(cache, data[0], TEACHER_SEED)
    print(f"teacher: {accuracy(teacher, data[1]):.3f}", flush=True)
    if part == "stored":
        compare_stored_steps(cache, data, teacher, limit)
    run = {"student": student, "own": own, "speech": spoken, "stored": functools.partial(stored, cache)}[part]
    trial = "" if limit is None else f"-trial-{limit}"
    runs = Runs(cache / f"distillation-{part}{trial}.json")
    for seed in arguments.seeds:
        for row in rows_of(part):
            if not arguments.rows or row[0] in arguments.rows:
                runs.measure(row, seed, functools.partial(run, data, teacher, seed, limit, *row))
        for row, (accuracies,) in runs.rows().items():
            print(f"| {' | '.join(row)} | {mean_and_each(accuracies)} |", flush=True)


def main() -> None:
    """Runs the part that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["step", "student", "own", "stored", "speech"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", help="only these of the part's rows")
    parser.add_argument("--limit", type=int, help="steps per epoch (of `step`: steps), for a trial")
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and results")
    arguments = parser.parse_args()
    (compare_steps if arguments.part == "step" else measure)(arguments)


if __name__ == "__main__":
    main()
