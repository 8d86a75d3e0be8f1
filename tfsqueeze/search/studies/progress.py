"""Shows a study under way: one line per trial, and how many are done, the best so far and the time left."""

import math
import sys
import time


class StudyProgress:
    """Progress on stderr: a bar on a terminal, lines where there is none.

    Args:
        study: the `Study`.
        limit: number of trials it is to have; may be infinite.
        time_budget: seconds it may take, or None.
        is_shown: whether to show anything.
    """

    def __init__(self, study, limit: float, time_budget: float | None, is_shown: bool):
        self._study, self._limit, self._budget, self._is_shown = study, limit, time_budget, is_shown
        self._told: set[int] = set()
        self._began = time.monotonic()
        self._bar = self._task = None

    def __enter__(self) -> "StudyProgress":
        if not self._is_shown:
            return self
        self._told = {trial.number for trial in self._study.trials if trial.seconds is not None}
        if sys.stderr.isatty():
            self._open_bar()
        self.update()
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self) -> None:
        """Tells of the trials that ended since the last call."""
        if not self._is_shown:
            return
        trials = self._study.trials
        best = self._study.best_of(trials)
        for trial in trials:
            if trial.seconds is not None and trial.number not in self._told:
                self._told.add(trial.number)
                self._say(self._line(trial, best))
        if self._bar is not None:
            ended = sum(trial.seconds is not None for trial in trials)
            done = ended if self._limit < math.inf else time.monotonic() - self._began
            shown = f"{self._study.name}: {ended} trials, best {_scores(best) if best else '-'}"
            self._bar.update(self._task, completed=done, description=shown)

    def _line(self, trial, best) -> str:
        result = _scores(trial) if trial.scores else trial.error or "no score"
        standing = f"; best {_scores(best)} of trial {best.number}" if best else ""
        return f"trial {trial.number} {trial.state}: {result} in {trial.seconds:.1f} s{standing}"

    def _say(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(file=sys.stderr))
        total = self._limit if self._limit < math.inf else self._budget
        self._task = self._bar.add_task(self._study.name, total=total)
        self._bar.start()


def _scores(trial) -> str:
    return ", ".join(f"{score:.5g}" for score in trial.scores)
