"""What an architecture search found."""

from dataclasses import dataclass, field
from typing import Any

import keras

from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.pareto import pareto_front
from tfsqueeze.search.studies.trial import TrialRecord

NETWORKS_SHOWN = 15


@dataclass(frozen=True, repr=False)
class Architectures(Presentation):
    """Networks that were tried, and the best of them. Print it for a table.

    Attributes:
        model: the best network within the limits, trained; None if there is none.
        trials: all trials; `notes` hold the costs, and why a candidate was not trained.
        baseline: the score of the original.
        costs: the original's MACs and weights.
        metric: what the scores are; higher is better.
        skipped: why changes do not apply to this model, by name.
    """

    model: keras.Model | None
    trials: list[TrialRecord]
    baseline: float
    costs: dict[str, float]
    metric: str = "score"
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def ranked(self) -> list[TrialRecord]:
        """The trials that were trained to the end, best first."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: -trial.score)

    @property
    def best(self) -> TrialRecord | None:
        """The trial of `model`."""
        return self.ranked[0] if self.ranked else None

    @property
    def front(self) -> list[TrialRecord]:
        """The trials that no other beats with as few MACs, the cheapest first."""
        return pareto_front(self.ranked, cost=lambda one: one.notes["macs"], loss=lambda one: -one.score)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model as plain data."""
        rows = [trial.to_dict() for trial in self.trials]
        whole = {"metric": self.metric, "baseline": self.baseline, "costs": self.costs}
        return {**whole, "skipped": self.skipped, "trials": rows}

    def tables(self):
        """One row per network, the best first."""
        names = list(self.ranked[0].labels) if self.ranked else []
        rows = [
            [
                str(trial.number),
                f"{trial.score:.4f}",
                f"{trial.notes['macs'] / self.costs['macs']:.1%}",
                f"{trial.notes['params'] / self.costs['params']:.1%}",
                *(str(trial.labels[name]) for name in names),
            ]
            for trial in self.ranked[:NETWORKS_SHOWN]
        ]
        return [Table("Networks", ["trial", self.metric, "MACs", "weights", *names], rows, self._notes())]

    def _notes(self) -> list[str]:
        beyond = sum("beyond" in trial.notes for trial in self.trials)
        misfits = sum("misfit" in trial.notes for trial in self.trials)
        notes = [
            f"The original scores {self.baseline:.4f}. {len(self.trials)} trials, {len(self.ranked)} trained "
            f"to the end, {beyond} beyond the limits, {misfits} whose changes do not go together."
        ]
        if self.model is None:
            notes.append("No network is within the limits: raise them, or give more trials.")
        return notes + [f"Not changed: {reason}." for reason in self.skipped.values()]
