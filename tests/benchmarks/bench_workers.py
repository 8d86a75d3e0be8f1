"""Trials per hour of one worker and of two on one study, each pinned to a core; the trials only sleep.

    python -m tests.benchmarks.bench_workers [--seconds 5] [--trials 12] [--rounds 3]

What is measured is thus what sharing costs: asking the storage, proposing, waiting for each other. On a
PostgreSQL server where one is installed, and on a file. Counted while all workers are at work.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.search.studies import postgres
from tfsqueeze.search.studies.storage import GRACE_SECONDS, HEARTBEAT_SECONDS


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a trial")
    parser.add_argument("--trials", type=int, default=12, help="per worker")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    places = {"file": _file}
    if not postgres.reason_to_skip():
        places["PostgreSQL"] = postgres.server
    print(f"| storage | workers | trials per hour, trials of {arguments.seconds:g} s |\n|---|---|---|")
    for name, place in places.items():
        rates = {1: [], 2: []}
        for _ in range(arguments.rounds):
            for workers, found in rates.items():
                with place() as storage:
                    found.append(_rate(storage, workers, arguments.seconds, arguments.trials * workers))
        for workers, found in rates.items():
            print(f"| {name} | {workers} | {', '.join(f'{rate:.0f}' for rate in found)} |", flush=True)


@contextlib.contextmanager
def _file():
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder, "study.db"))


def _rate(storage: str, workers: int, seconds: float, trials: int) -> float:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = [
            sys.executable,
            "-m",
            "tests.search.studies.study_worker",
            storage,
            str(log),
            str(seconds),
            str(trials),
            str(HEARTBEAT_SECONDS),
            str(GRACE_SECONDS),
        ]
        processes = [
            subprocess.Popen(
                ["taskset", "-c", str(cores[index % len(cores)]), *command], stderr=subprocess.DEVNULL
            )
            for index in range(workers)
        ]
        for process in processes:
            process.wait()
        rows = [json.loads(line) for line in log.read_text().splitlines()]
    begin = max(row["time"] for row in {row["worker"]: row for row in reversed(rows)}.values())
    ends: dict[int, list[float]] = {}
    for row in rows:
        if row["event"] == "end" and row["time"] > begin:
            ends.setdefault(row["worker"], []).append(row["time"])
    return sum(3600 * (len(times) - 1) / (times[-1] - times[0]) for times in ends.values())


if __name__ == "__main__":
    main()
