"""What an architecture search found."""

from dataclasses import dataclass, field
from typing import Any

import keras

from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.architectures.limits import LATENCY, MACS, PARAMS, prediction_correlation
from tfsqueeze.search.pareto import pareto_front
from tfsqueeze.search.studies.trial import TrialRecord

NETWORKS_SHOWN = 15


@dataclass(frozen=True, repr=False)
class Architectures(Presentation):
    """Networks that were tried, and the best of them. Print it for a table.

    Attributes:
        model: the best network within the limits, trained; None if no trial met them and was trained to the
            end. `best` is then None too, `ranked` and `front` are empty.
        trials: all trials; `notes` hold the costs, and why a candidate was not trained: "beyond" the limits,
            or a "misfit" of changes.
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
        """The trial of `model`; None if there is none."""
        return self.ranked[0] if self.ranked else None

    @property
    def front(self) -> list[TrialRecord]:
        """The trials that no other beats with as few MACs, the cheapest first."""
        return pareto_front(self.ranked, cost=lambda one: one.notes[MACS], loss=lambda one: -one.score)

    @property
    def latency_correlation(self) -> float | None:
        """Rank correlation of latencies predicted from operators and those timed, over all networks timed.

        None without `latency_ms`, or with fewer than three such networks.
        """
        return prediction_correlation([trial.notes for trial in self.trials])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model as plain data."""
        return {
            "metric": self.metric,
            "baseline": self.baseline,
            "costs": self.costs,
            "latency_correlation": self.latency_correlation,
            "skipped": self.skipped,
            "trials": [trial.to_dict() for trial in self.trials],
        }

    def tables(self):
        """One row per network, the best first."""
        shown = self.ranked[:NETWORKS_SHOWN]
        names = list(shown[0].labels) if shown else []
        times = ["ms"] if any(LATENCY in trial.notes for trial in shown) else []
        rows = [
            [
                str(trial.number),
                f"{trial.score:.4f}",
                f"{trial.notes[MACS] / self.costs[MACS]:.1%}",
                f"{trial.notes[PARAMS] / self.costs[PARAMS]:.1%}",
                *(f"{trial.notes[LATENCY]:.3g}" for _ in times),
                *(str(trial.labels[name]) for name in names),
            ]
            for trial in shown
        ]
        columns = ["trial", self.metric, "MACs", "weights", *times, *names]
        return [Table("Networks", columns, rows, self._notes())]

    def _notes(self) -> list[str]:
        beyond = sum("beyond" in trial.notes for trial in self.trials)
        misfits = sum("misfit" in trial.notes for trial in self.trials)
        notes = [
            f"The original scores {self.baseline:.4f}. {len(self.trials)} trials, {len(self.ranked)} trained "
            f"to the end, {beyond} beyond the limits, {misfits} whose changes do not go together."
        ]
        if self.model is None:
            notes.append("No network is within the limits: raise them, or give more trials.")
        if self.latency_correlation is not None:
            notes.append(
                f"Latencies predicted from operators and timed: rank correlation "
                f"{self.latency_correlation:.2f}."
            )
        return notes + [f"Not changed: {reason}." for reason in self.skipped.values()]
