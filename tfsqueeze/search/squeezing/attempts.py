"""What the training stage of a search has tried, how long it trains, and where it keeps the files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfsqueeze.search.squeezing.paired_test import Verdict

ATTEMPTS = "attempts"


class Epochs(NamedTuple):
    """How long a candidate is trained.

    Attributes:
        plain: epochs before it is quantized.
        aware: epochs after that, rounded as its file is.
    """

    plain: int = 0
    aware: int = 0


@dataclass(frozen=True)
class Attempt:
    """A candidate, trained for some epochs and judged as a file.

    Attributes:
        candidate: its number among the quick candidates.
        setting: an option for each technique.
        epochs: it was trained before it was quantized; 0 for none.
        cost: relative to the baseline, less is better.
        bytes: of the file.
        verdict: how it compares with the baseline.
        aware_epochs: it was trained quantization-aware after that; 0 for none.
    """

    candidate: int
    setting: dict[str, Any]
    epochs: int
    cost: float
    bytes: int
    verdict: Verdict
    aware_epochs: int = 0

    @classmethod
    def of(cls, stored: dict) -> "Attempt":
        """The attempt as it was noted with a trial."""
        return cls(**{**stored, "verdict": Verdict(**stored["verdict"])})

    @property
    def trained(self) -> Epochs:
        """How long it was trained."""
        return Epochs(self.epochs, self.aware_epochs)

    def folder(self, output: Path) -> Path:
        """Where in the folder of a search it keeps its steps and its file."""
        return attempt_folder(output, self.candidate, self.trained)


def attempt_folder(output: Path, candidate: int, epochs: Epochs) -> Path:
    """Where in the folder of a search an attempt keeps its steps and its file."""
    aware = f"-aware-{epochs.aware}" if epochs.aware else ""
    return output / ATTEMPTS / f"candidate-{candidate}-epochs-{epochs.plain}{aware}"


def next_epochs(done: Epochs, rungs: Sequence[int], is_lost_by_rounding: bool) -> Epochs | None:
    """How long to train a candidate next that is not good enough yet, or None for no longer.

    Args:
        done: how long it was trained.
        rungs: numbers of epochs to train for, one after the other; the first is 0.
        is_lost_by_rounding: whether it is good enough in float, so that further epochs must teach it to do
            with integers. After all epochs in float a part more is trained so.

    Example:
        >>> next_epochs(Epochs(3), (0, 3, 9), False)
        Epochs(plain=9, aware=0)
        >>> next_epochs(Epochs(3), (0, 3, 9), True)
        Epochs(plain=3, aware=6)
    """
    more = next((rung for rung in rungs if rung > sum(done)), None)
    if not done.aware and not is_lost_by_rounding:
        return None if more is None else Epochs(more)
    if more is not None:
        return Epochs(done.plain, more - done.plain)
    return None if done.aware else Epochs(done.plain, rungs[1])


def is_hopeless(drops: list[float], max_drop: float) -> bool:
    """Whether training on will not do: the next part is expected to gain no more than the last one did.

    Args:
        drops: after no training, after the first part of the epochs, and so on.
        max_drop: the drop allowed.
    """
    if len(drops) < 2:
        return False
    return drops[-1] - max_drop > max(drops[-2] - drops[-1], 0.0)
