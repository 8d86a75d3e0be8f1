"""What a sensitivity analysis found, as table, picture and budget."""

import re
from dataclasses import dataclass, field
from typing import Any

from tfsqueeze.core.checks import check_fraction
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.search.sensitivity.budget import distribute_zeros, extended

NAMES_NOTED = 5
# How much of the smallest density measured a budget may leave in a layer.
GUESSED_DENSITY = 0.25


@dataclass(frozen=True, repr=False)
class Sensitivity(Presentation):
    """Scores of a model with one layer pruned at a time. Print it for a table.

    Attributes:
        baseline: the score of the model as it is; higher is better.
        scores: score by layer path and sparsity, layers in the model's order, sparsities rising.
        weights: number of weights by layer path.
        metric: what the score is, such as "accuracy"; "-mean_squared_error" is the error negated.
        skipped: why other layers with weights were not tried, by path.
        max_sparsity: the greatest fraction of zeros the pattern allows.
    """

    baseline: float
    scores: dict[str, dict[float, float]]
    weights: dict[str, int]
    metric: str = "score"
    skipped: dict[str, str] = field(default_factory=dict)
    max_sparsity: float = 1.0

    @property
    def sparsities(self) -> list[float]:
        """The sparsities measured, rising."""
        return list(next(iter(self.scores.values())))

    def losses(self, layer: str) -> dict[float, float]:
        """Loss of score by sparsity for one layer; below 0 where pruning did good."""
        return {sparsity: self.baseline - score for sparsity, score in self.scores[layer].items()}

    def most_sensitive(self) -> list[str]:
        """Layer paths, those first that lose most on average over the sparsities."""
        return sorted(self.scores, key=lambda layer: -sum(self.losses(layer).values()))

    def budget(self, sparsity: float) -> dict[str, float]:
        """Sparsities per layer that together make `sparsity` and cost least by the measured curves.

        The losses of the layers are taken to add up. Between measured sparsities a layer's loss is
        interpolated, made monotone (noise cannot make a sparser layer better) and convex. Beyond the last
        one it is a cautious guess: keeping a quarter of the weights it kept there costs the worst loss
        measured in any layer, or what the last slope foretells, whichever is more; no layer goes further.
        Then the zeros that cost least per weight are taken first, over all layers, until there are enough
        of them; zeros of equal cost are taken in equal parts.

        Args:
            sparsity: fraction of zeros over the weights of all layers analysed, in [0, 1). Measure
                sparsities at least as high as this.

        Returns:
            Sparsity by layer path, for `scope=` of `tfs.prune` and `tfs.PruningCallback` (paths with
            characters that mean something in regular expressions are escaped). The zeros in total are
            `sparsity` of all weights, rounded to whole weights.

        Raises:
            ValueError: if `sparsity` is out of range, more than the pattern allows, or so far beyond what
                was measured that no guess is possible.

        Example:
            >>> tfs.prune(model, 0.9, scope=found.budget(0.9))
        """
        last = self.sparsities[-1]
        end = min(self.max_sparsity, 1 - (1 - last) * GUESSED_DENSITY)
        if check_fraction("sparsity", sparsity) > end:
            raise ValueError(
                f"`sparsity` must not exceed {end:.4g} here: the pattern allows at most "
                f"{self.max_sparsity:.4g}, and the largest sparsity measured is {last:g}. Received: "
                f"sparsity={sparsity!r}. To go beyond what was measured, add higher `sparsities` to "
                "sensitivity(); with `storage` only the new ones are measured."
            )
        curves = [[(0.0, 0.0), *self.losses(layer).items()] for layer in self.scores]
        worst = max(loss for curve in curves for _, loss in curve)
        curves = [extended(curve, worst, end) for curve in curves]
        sizes = [self.weights[layer] for layer in self.scores]
        zeros = distribute_zeros(sizes, curves, sparsity)
        shares = {layer: count / self.weights[layer] for layer, count in zip(self.scores, zeros, strict=True)}
        # A scope's key also matches the last part of a path: the deeper path must come first to win there.
        deepest_first = sorted(shares, key=lambda layer: -layer.count("/"))
        return {_as_pattern(layer): shares[layer] for layer in deepest_first}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data; sparsities are text, as keys of JSON are."""
        return {
            "metric": self.metric,
            "baseline": self.baseline,
            "layers": {
                layer: {
                    "weights": self.weights[layer],
                    "scores": {str(sparsity): score for sparsity, score in scores.items()},
                }
                for layer, scores in self.scores.items()
            },
            "skipped": dict(self.skipped),
        }

    def tables(self):
        """One row per layer: its score at each sparsity and what that loses."""
        columns = ["layer", "weights", *(f"{sparsity:g}" for sparsity in self.sparsities)]
        rows = [
            [layer, f"{self.weights[layer]:,}", *(self._cell(score) for score in scores.values())]
            for layer, scores in self.scores.items()
        ]
        return [Table(f"Sensitivity ({self.metric})", columns, rows, self._notes())]

    def plot(self, path=None):
        """Draws the score against the sparsity, a line per layer; the most sensitive ones in colour.

        Args:
            path: an image file to write (.png, .svg, .pdf), or None.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: if matplotlib is not installed.
        """
        from tfsqueeze.search.sensitivity.plot import plot_sensitivity

        return plot_sensitivity(self, path)

    def _cell(self, score: float) -> str:
        return f"{score:.4g}\n{score - self.baseline:+.4f}"

    def _notes(self) -> list[str]:
        notes = [
            f"{self.metric} with one layer pruned to the sparsity above, and the difference to the "
            f"unpruned model's {self.baseline:.4g}.",
            f"Most sensitive first: {_listed(self.most_sensitive())}.",
        ]
        return notes + ([f"Not tried, see `skipped`: {_listed(list(self.skipped))}."] if self.skipped else [])


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_NOTED
    return ", ".join(names[:NAMES_NOTED]) + (f" and {more} more" if more > 0 else "")


def _as_pattern(path: str) -> str:
    """The path itself unless it holds characters that mean something in a regular expression."""
    return path if re.fullmatch(r"[\w/-]+", path) else re.escape(path)
