"""What a recipe's run gives back."""

import importlib.util
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.reporting.compare import Comparison
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.report import Report
from tfsqueeze.reporting.tables import UNKNOWN, Table, counted


@dataclass(frozen=True)
class StepResult:
    """What one step gave.

    Attributes:
        number: its place in the recipe, from 1; 0 for the model the recipe began with.
        verb: the verb's name.
        summary: the step with its arguments.
        seconds: how long it took when it was run.
        is_reused: whether it was finished by an earlier run.
        parameters: of the model after the step.
        macs: multiply-accumulates per example of the model or file, None if unknown.
        bytes: size of the file the step wrote, or None.
        metrics: scores on the validation data, of the file if the step wrote one.
        path: the file the step wrote, or None.
    """

    number: int
    verb: str
    summary: str
    seconds: float = 0.0
    is_reused: bool = False
    parameters: int | None = None
    macs: int | None = None
    bytes: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    path: Path | None = None

    @property
    def title(self) -> str:
        """Number and verb: "2 fine_tune"."""
        return f"{self.number} {self.verb}" if self.number else self.verb


@dataclass(frozen=True, repr=False)
class RecipeResult(Presentation):
    """The result of `Recipe.run`. Print it for a table with one row per step.

    Attributes:
        model: the model after the last step.
        steps: what each step gave, in order, the first being the model the recipe began with.
        report: what the last `compare` or `report` step measured, or None.
        output: the folder with everything, or None.
    """

    model: keras.Model
    steps: list[StepResult]
    report: Comparison | Report | None = None
    output: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """The files that steps wrote, in order."""
        return [step.path for step in self.steps if step.path is not None]

    @property
    def path(self) -> Path | None:
        """The last file a step wrote, or None."""
        return self.paths[-1] if self.paths else None

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Scores by step; without validation data they are empty."""
        return {step.title: step.metrics for step in self.steps}

    def to_dict(self) -> dict[str, Any]:
        """Steps and report as plain data."""
        rows = [
            {**asdict(step), "path": None if step.path is None else str(step.path)} for step in self.steps
        ]
        return {
            "output": None if self.output is None else str(self.output),
            "steps": rows,
            "report": None if self.report is None else self.report.to_dict(),
        }

    def plot(self, path=None):
        """Draws what each step left of parameters and MACs, with its score and bytes.

        Args:
            path: an image file to write (.png, .svg, .pdf), or None.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: if matplotlib is not installed.
            ValueError: if nothing was measured (`run(measure=False)`).
        """
        from tfsqueeze.recipe.plot import plot_steps

        return plot_steps(self, path)

    def save(self) -> list[Path]:
        """Writes tables and pictures to `output`, as `Recipe.run(output=...)` does.

        Returns:
            The files: `report.md`, `report.json`; where matplotlib is installed `steps.png`, and
            `accuracy-size.png` if the last report is a comparison.

        Raises:
            ValueError: if there is no `output`.
        """
        if self.output is None:
            raise ValueError("There is no folder to write to: the recipe was run without `output`.")
        files = {"report.md": self.to_markdown, "report.json": self.to_json}
        if importlib.util.find_spec("matplotlib") is not None:
            files |= {"steps.png": self.plot} if any(step.parameters for step in self.steps) else {}
            files |= {"accuracy-size.png": self.report.plot} if isinstance(self.report, Comparison) else {}
        for name, write in files.items():
            write(self.output / name)
        return [self.output / name for name in files]

    def tables(self):
        """One row per step, then the report's tables."""
        scores = list(dict.fromkeys(name for step in self.steps for name in step.metrics))
        columns = ["step", "parameters", "MACs", "file bytes", *scores, "seconds"]
        rows = [_row(step, scores) for step in self.steps]
        reused = [str(step.number) for step in self.steps if step.is_reused]
        notes = [f"Finished by an earlier run: step {', '.join(reused)}."] if reused else []
        notes += [f"Wrote {path}" for path in self.paths]
        own = Table("Recipe", columns, rows, notes)
        return [own, *([] if self.report is None else self.report.tables())]


def _row(step: StepResult, scores: list[str]) -> list[str]:
    return [
        f"{step.number} {step.summary}" if step.number else step.summary,
        UNKNOWN if step.parameters is None else f"{step.parameters:,}",
        counted(step.macs),
        UNKNOWN if step.bytes is None else f"{step.bytes:,}",
        *(f"{step.metrics[name]:.4f}" if name in step.metrics else UNKNOWN for name in scores),
        f"{step.seconds:.1f}",
    ]
