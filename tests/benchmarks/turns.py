"""Trainings that take turns step by step, so that whatever else the machine does slows all alike."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

MANY = 1_000_000
CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}


class Turn(keras.callbacks.Callback):
    """Waits before each step until it is this training's turn; the last callback of each training.

    Attributes:
        mine: released when the step may begin.
        seconds: of each step, one entry for each of `CLOCKS`.
    """

    def __init__(self):
        super().__init__()
        self.mine = threading.Semaphore(0)
        self.seconds: list[list[float]] = []
        self.following: Turn = self

    def on_train_batch_begin(self, batch, logs=None):
        self.begin()

    def on_train_batch_end(self, batch, logs=None):
        self.end()

    def begin(self) -> None:
        """Waits for the turn and starts the clocks."""
        self.mine.acquire()
        self._start = [clock() for clock in CLOCKS.values()]

    def end(self) -> None:
        """Keeps the time, and lets the next side make its step."""
        self.seconds.append(
            [clock() - start for clock, start in zip(CLOCKS.values(), self._start, strict=True)]
        )
        self.following.mine.release()


def take_turns(sides: Sequence[Callable[[Turn], None]]) -> np.ndarray:
    """Runs all sides at once, one step of each after the other.

    Args:
        sides: functions that make the same number of steps, each between `begin()` and `end()` of the turn
            they are called with, such as a `fit` with the turn among its callbacks.

    Returns:
        Seconds, shape (sides, steps, clocks) with the clocks of `CLOCKS`.
    """
    turns = [Turn() for _ in sides]
    for index, turn in enumerate(turns):
        turn.following = turns[(index + 1) % len(turns)]
    with ThreadPoolExecutor(len(sides)) as pool:
        turns[0].mine.release()
        runs = [pool.submit(_run, side, turn) for side, turn in zip(sides, turns, strict=True)]
    for run in runs:
        run.result()
    return np.array([turn.seconds for turn in turns])


def _run(side, turn: Turn) -> None:
    try:
        side(turn)
    finally:
        # Nobody waits for a side that has failed.
        turn.following.mine.release(MANY)


def ratios(one: np.ndarray, other: np.ndarray, block: int, warm_up: int = 20) -> dict[str, np.ndarray]:
    """Quartiles of the ratio of two sides' times, summed over blocks of steps; by clock.

    Args:
        one, other: seconds, shape (steps, clocks).
        block: steps per sum.
        warm_up: first steps that are left out.
    """
    count = (len(one) - warm_up) // block
    sums = [
        side[warm_up : warm_up + count * block].reshape(count, block, -1).sum(axis=1) for side in (one, other)
    ]
    quartiles = np.quantile(sums[0] / sums[1], [0.25, 0.5, 0.75], axis=0)
    return dict(zip(CLOCKS, quartiles.T, strict=True))


def show_ratios(title: str, one: np.ndarray, other: np.ndarray, block: int, warm_up: int = 20) -> None:
    """Prints the ratio for both clocks: median and quartiles."""
    for clock, (low, middle, high) in ratios(one, other, block, warm_up).items():
        print(f"{title}, {clock} time: {middle:.3f} ({low:.3f}-{high:.3f})", flush=True)
