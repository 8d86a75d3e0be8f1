"""What a searched function's result is worth: which metrics count, and which way is better."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfsqueeze.core.checks import check_choice, did_you_mean
from tfsqueeze.search.scoring import direction_of
from tfsqueeze.search.studies.trial import UnusableResult

DIRECTIONS = ("maximize", "minimize")
UNNAMED = "score"
# Parts of names that tell the direction of metrics that Keras does not know.
LOWER_IS_BETTER = ("loss", "error", "mse", "mae", "mape", "perplexity", "latency", "bytes", "size", "seconds")
HIGHER_IS_BETTER = ("acc", "auc", "precision", "recall", "f1", "iou", "io_u", "r2")


@dataclass(frozen=True)
class Metrics:
    """The metrics searched, with the direction of each.

    Attributes:
        names: such as "val_accuracy"; "score" for a number without a name.
        directions: "maximize" or "minimize" for each.
        are_named: whether results are looked up by these names.
    """

    names: tuple[str, ...]
    directions: tuple[str, ...]
    are_named: bool = True

    @classmethod
    def of(cls, metric: str | Sequence[str] | None, direction: str | Sequence[str] | None) -> "Metrics":
        """Reads the arguments of `tune`.

        Raises:
            ValueError: if a direction is unknown or cannot be told, or there are not as many as metrics.
        """
        wanted = None if direction is None else (direction,) if isinstance(direction, str) else direction
        for one in wanted or ():
            check_choice("direction", one, DIRECTIONS)
        if metric is None:
            directions = tuple(wanted or ("maximize",))
            count = len(directions)
            names = (UNNAMED,) if count == 1 else tuple(f"{UNNAMED}_{index}" for index in range(count))
            return cls(names, directions, are_named=False)
        names = (metric,) if isinstance(metric, str) else tuple(metric)
        directions = tuple(wanted) if wanted else tuple(_direction(name) for name in names)
        if len(directions) != len(names) or not names:
            raise ValueError(
                f"`direction` must name one direction per metric. Received: {len(directions)} directions "
                f"({', '.join(directions)}) for the metrics {', '.join(names) or 'none'}."
            )
        return cls(names, directions)

    def scores(self, result) -> Any:
        """What a searched function returned, as one number per metric where it named them.

        Raises:
            UnusableResult: if a metric is missing.
        """
        history = getattr(result, "history", None)
        if isinstance(history, Mapping):
            return [
                self._best_epoch(_looked_up(history, name), direction)
                for name, direction in self._wanted(history)
            ]
        if isinstance(result, Mapping):
            return [_looked_up(result, name) for name, _ in self._wanted(result)]
        return result

    def _wanted(self, found: Mapping) -> list[tuple[str, str]]:
        if not self.are_named:
            raise UnusableResult(
                "Name the `metric` to search, as the function returned several. Received: metric=None, and "
                f"{', '.join(map(repr, found)) or 'an empty result'}."
            )
        return list(zip(self.names, self.directions, strict=True))

    @staticmethod
    def _best_epoch(values, direction: str) -> float:
        finite = [float(value) for value in values if math.isfinite(value)]
        choose = max if direction == "maximize" else min
        return choose(finite, default=math.nan)


def _looked_up(found: Mapping, name: str):
    if name not in found:
        hint = did_you_mean(name, [str(key) for key in found])
        raise UnusableResult(
            f"The function returned no {name!r}, which `metric` names. Received: "
            f"{', '.join(map(repr, found)) or 'nothing'}. {hint}".rstrip()
        )
    return found[name]


def _direction(name: str) -> str:
    plain = name.lower().removeprefix("val_")
    known = direction_of(plain)
    if known is not None:
        return "maximize" if known == "up" else "minimize"
    if any(part in plain for part in LOWER_IS_BETTER):
        return "minimize"
    if any(part in plain for part in HIGHER_IS_BETTER):
        return "maximize"
    raise ValueError(
        f"Whether a higher {name!r} is better is not known. Give `direction`: 'maximize' or 'minimize'."
    )
