"""Latency: how long one call takes, with its spread, so that a difference can be told from noise."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

WARM_UP_CALLS = 3
ROUNDS = 5
SECONDS_PER_ENTRY = 5.0


@dataclass(frozen=True)
class Latency:
    """Measured wall-clock time of one call.

    Attributes:
        median_ms: median over the runs, in milliseconds.
        p90_ms: 90th percentile; far above the median means a noisy machine.
        min_ms: fastest run, the least disturbed one.
        runs: number of timed calls.
        threads: threads the interpreter was given; None where it cannot be set (Keras).
        delegate: what ran the model: "XNNPACK", "none" (the interpreter's own kernels), "tf.function".
        batch_size: examples per call.
    """

    median_ms: float
    p90_ms: float
    min_ms: float
    runs: int
    threads: int | None
    delegate: str
    batch_size: int


@dataclass(frozen=True)
class Timed:
    """Something whose calls can be timed: the call itself and the conditions it runs under."""

    call: Callable[[], object]
    threads: int | None
    delegate: str
    batch_size: int


def measure(entries: Mapping[str, Timed], runs: int = 50) -> dict[str, Latency]:
    """Times all entries in alternation: a few calls of each, then again, so that noise hits all alike.

    Args:
        entries: what to time, by name.
        runs: timed calls per entry. An entry that would take more than 5 seconds gets fewer, at least 5.

    Returns:
        The measured latency by name.
    """
    counts = {name: _affordable_runs(entry.call, runs) for name, entry in entries.items()}
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for turn in range(ROUNDS):
        for name, entry in entries.items():
            for _ in range(_share(counts[name], turn)):
                seconds[name].append(_seconds(entry.call))
    return {name: _summarize(seconds[name], entry) for name, entry in entries.items()}


def _affordable_runs(call, runs) -> int:
    """Warms up, and returns how many calls fit the time limit."""
    fastest = min(_seconds(call) for _ in range(WARM_UP_CALLS))
    affordable = int(SECONDS_PER_ENTRY / max(fastest, 1e-9))
    return min(runs, max(affordable, ROUNDS))


def _share(count, turn) -> int:
    """The calls of one round, so that all rounds together make exactly `count`."""
    return count * (turn + 1) // ROUNDS - count * turn // ROUNDS


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _summarize(seconds, entry: Timed) -> Latency:
    milliseconds = np.array(seconds) * 1000
    return Latency(
        median_ms=float(np.median(milliseconds)),
        p90_ms=float(np.percentile(milliseconds, 90)),
        min_ms=float(milliseconds.min()),
        runs=len(seconds),
        threads=entry.threads,
        delegate=entry.delegate,
        batch_size=entry.batch_size,
    )
