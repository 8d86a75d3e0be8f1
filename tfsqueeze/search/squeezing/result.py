"""What `squeeze` found, as table, picture and data."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.recipe.recipe import Recipe
from tfsqueeze.reporting.compare import Comparison
from tfsqueeze.reporting.plots import COLOURS, new_figure, saved
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.pareto import pareto_front
from tfsqueeze.search.squeezing.attempts import Attempt
from tfsqueeze.search.squeezing.paired_test import Verdict
from tfsqueeze.search.squeezing.techniques import OFF


@dataclass(frozen=True, repr=False)
class Squeezed(Presentation):
    """The smallest model found that is good enough, or the best trade. Print it for tables.

    Attributes:
        model: the model; its file is what was judged.
        path: its `.tflite` file.
        recipe: makes it again from the original.
        best: its setting, cost and verdict.
        attempts: all of them, in order.
        report: its file beside the baseline's, on all validation examples.
        max_drop: the drop that was allowed.
        metric: what was scored.
        baseline: the score of the baseline's file.
        held_out: how it compares on the held-out examples, or None.
        skipped: techniques that were left out, with the reasons.
        output: the folder with everything.
    """

    model: keras.Model
    path: Path
    recipe: Recipe
    best: Attempt
    attempts: list[Attempt]
    report: Comparison
    max_drop: float
    metric: str
    baseline: float
    held_out: Verdict | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    output: Path | None = None

    @property
    def is_within(self) -> bool:
        """Whether the allowed drop was kept, with the confidence asked for."""
        return self.best.verdict.is_within

    @property
    def front(self) -> list[Attempt]:
        """The attempts that no other equals in cost and drop and beats in one, dearest first."""
        cheapest_first = pareto_front(
            self.attempts, cost=lambda one: one.cost, loss=lambda one: one.verdict.drop
        )
        return cheapest_first[::-1]

    def file_of(self, attempt: Attempt) -> Path:
        """The `.tflite` file of an attempt of the front.

        Raises:
            ValueError: if it is not there: another machine made it, or it is not of the front.

        Example:
            >>> [(found.file_of(one), one.verdict.drop) for one in found.front]
        """
        path = attempt.folder(self.output) / "model.tflite"
        if not path.exists():
            raise ValueError(
                f"There is no {str(path)!r}. Files are kept of the attempts in `front`, on the "
                "machine that made them."
            )
        return path

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model as plain data."""
        return {
            "path": str(self.path),
            "is_within": self.is_within,
            "max_drop": self.max_drop,
            "metric": self.metric,
            "baseline": self.baseline,
            "best": asdict(self.best),
            "front": [asdict(one) for one in self.front],
            "attempts": [asdict(one) for one in self.attempts],
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "skipped": self.skipped,
            "recipe": self.recipe.to_dict(),
            "report": self.report.to_dict(),
        }

    def tables(self):
        """The front, then the winner beside the baseline."""
        rows = [_row(one, one == self.best) for one in self.front]
        columns = ["candidate", "epochs", "file bytes", "cost", self.metric, "drop", "at most"]
        return [Table("Smaller and smaller", columns, rows, self._notes()), *self.report.tables()]

    def plot(self, path=None):
        """Draws drop against cost: every attempt, the front, the drop allowed.

        Args:
            path: an image file to write (.png, .svg, .pdf), or None.

        Returns:
            The matplotlib figure.
        """
        figure, axes = new_figure(7, 4.5)
        axes.axhline(self.max_drop, color="#888888", linewidth=1, linestyle="--", label="allowed")
        axes.scatter(*_places(self.attempts), color=COLOURS[6], s=24, label="attempts")
        axes.plot(*_places(self.front), color=COLOURS[0], marker="o", label="front")
        axes.scatter(*_places([self.best]), color=COLOURS[1], s=90, marker="*", zorder=3, label="chosen")
        axes.set_xscale("log")
        axes.set_xlabel("cost, relative to the baseline")
        axes.set_ylabel(f"drop of {self.metric}")
        axes.legend(frameon=False)
        return saved(figure, path)

    def _notes(self) -> list[str]:
        best, verdict = self.best, self.best.verdict
        found = f"{1 / best.cost:.1f}x better than the baseline's file at a drop of {verdict.drop:.4f}"
        sure = f"at most {verdict.upper:.4f} with the confidence asked for, on {verdict.examples:,} examples"
        if self.is_within:
            notes = [f"Chosen (*): {found} ({sure}); {self.max_drop:g} was allowed."]
        else:
            notes = [
                f"NOTHING is within a drop of {self.max_drop:g}. The best trade (*) is {found} ({sure}). "
                "Allow more `epochs`, `trials` or `max_drop`, or give more validation data."
            ]
        if self.held_out is not None:
            notes.append(
                f"On {self.held_out.examples:,} held-out examples the drop is {self.held_out.drop:.4f}."
            )
        notes += [f"Left out: {name}: {reason}" for name, reason in self.skipped.items()]
        return notes


def _row(one: Attempt, is_best: bool) -> list[str]:
    setting = ", ".join(f"{name} {value}" for name, value in one.setting.items() if value != OFF.get(name))
    return [
        f"{'* ' if is_best else ''}{setting}",
        f"{one.epochs} + {one.aware_epochs}" if one.aware_epochs else str(one.epochs),
        f"{one.bytes:,}",
        f"{one.cost:.4f}",
        f"{one.verdict.score:.4f}",
        f"{one.verdict.drop:+.4f}",
        f"{one.verdict.upper:+.4f}",
    ]


def _places(attempts: list[Attempt]) -> tuple[list[float], list[float]]:
    return [one.cost for one in attempts], [one.verdict.drop for one in attempts]
