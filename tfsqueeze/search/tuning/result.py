"""What a search of hyper-parameters found, as table and file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.studies.trial import TrialRecord

TRIALS_SHOWN = 20


@dataclass(frozen=True, repr=False)
class Tuning(Presentation):
    """Trials of a search, and the best of them. Print it for a table.

    Attributes:
        trials: all of them, in the order of their beginning.
        metrics: names of the scores.
        directions: "maximize" or "minimize" for each.
        name: of the study.
    """

    FILE_NAME: ClassVar[str] = "tuning.json"

    trials: list[TrialRecord]
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    name: str = "tune"

    @property
    def ranked(self) -> list[TrialRecord]:
        """The complete trials, best first by the first metric; equal ones in their order."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: self._costs(trial)[0])

    @property
    def best(self) -> TrialRecord | None:
        """The best trial, by the first metric; None if none is complete."""
        return self.ranked[0] if self.ranked else None

    @property
    def best_parameters(self) -> dict[str, Any] | None:
        """Parameters of the best trial; None if none is complete."""
        return self.best and self.best.parameters

    @property
    def best_score(self) -> float | None:
        """The first score of the best trial; None if none is complete."""
        return self.best and self.best.score

    @property
    def front(self) -> list[TrialRecord]:
        """The complete trials that no other equals in all metrics and beats in one, best first."""
        return [one for one in self.ranked if not any(self._beats(other, one) for other in self.ranked)]

    @classmethod
    def from_folder(cls, output) -> "Tuning":
        """Reads what `tune` left in its output folder; of named options the names.

        Raises:
            ValueError: if the folder holds no search that has ended.
        """
        path = Path(output, cls.FILE_NAME)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            trials = [TrialRecord.of(row) for row in stored["trials"]]
            return cls(trials, tuple(stored["metrics"]), tuple(stored["directions"]), stored["name"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} cannot be read as the result of tune() ({type(error).__name__}: {error}). "
                "Call tune() with this `output` again: it goes on where it was stopped, and writes it."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "name": self.name,
            "metrics": list(self.metrics),
            "directions": list(self.directions),
            "best": self.best and self.best.number,
            "trials": [trial.to_dict() for trial in self.trials],
        }

    def tables(self):
        """One row per trial, the best first; those without a score are counted below."""
        shown = (self.ranked if len(self.metrics) == 1 else self.front)[:TRIALS_SHOWN]
        names = list(shown[0].labels) if shown else []
        rows = [
            [
                str(trial.number),
                *(f"{score:.5g}" for score in trial.scores),
                *(_shown(trial.labels[name]) for name in names),
                f"{trial.seconds:.1f}",
            ]
            for trial in shown
        ]
        columns = ["trial", *self.metrics, *names, "seconds"]
        title = "Best trials" if len(self.metrics) == 1 else "Trials that no other beats"
        return [Table(f"{title} ({self.name})", columns, rows, self._notes())]

    def _notes(self) -> list[str]:
        states = [trial.state for trial in self.trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        notes = [f"{len(states)} trials: {counts or 'none'}. Best: {self._wish()}."]
        if self.best is None:
            notes.append("No trial gave a score: look at `error` of the trials, or give more time.")
        failed = next((trial for trial in self.trials if trial.error), None)
        return notes + ([f"Trial {failed.number} failed: {failed.error}"] if failed else [])

    def _wish(self) -> str:
        ways = {"maximize": "highest", "minimize": "lowest"}
        return ", ".join(
            f"{ways[way]} {name}" for way, name in zip(self.directions, self.metrics, strict=True)
        )

    def _costs(self, trial: TrialRecord) -> list[float]:
        signs = [-1 if direction == "maximize" else 1 for direction in self.directions]
        return [sign * score for sign, score in zip(signs, trial.scores, strict=True)]

    def _beats(self, one: TrialRecord, other: TrialRecord) -> bool:
        pairs = list(zip(self._costs(one), self._costs(other), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _shown(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
