"""What the training stage of a search has tried, and where it keeps the files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfsqueeze.search.squeezing.paired_test import Verdict

ATTEMPTS = "attempts"


@dataclass(frozen=True)
class Attempt:
    """A candidate, trained for some epochs and judged as a file.

    Attributes:
        candidate: its number among the quick candidates.
        setting: an option for each technique.
        epochs: it was trained; 0 for none.
        cost: relative to the baseline, less is better.
        bytes: of the file.
        verdict: how it compares with the baseline.
    """

    candidate: int
    setting: dict[str, Any]
    epochs: int
    cost: float
    bytes: int
    verdict: Verdict

    @classmethod
    def of(cls, stored: dict) -> "Attempt":
        """The attempt as it was noted with a trial."""
        return cls(**{**stored, "verdict": Verdict(**stored["verdict"])})


def attempt_folder(output: Path, candidate: int, epochs: int) -> Path:
    """Where in the folder of a search an attempt keeps its steps and its file."""
    return output / ATTEMPTS / f"candidate-{candidate}-epochs-{epochs}"
