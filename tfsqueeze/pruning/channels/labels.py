"""Channel labels: numbers that follow channels through a graph, and which of them belong together."""

import numpy as np

FIXED = 0

Labels = np.ndarray | None


class LabelSets:
    """Disjoint sets of channel labels; the channels of one set are kept or cut together.

    The labels of an axis are an integer array with one label per position, or None if no position of the
    axis can be cut. The label FIXED marks single positions that cannot be cut. A set may be pinned, with
    the reason why none of its channels can be cut.
    """

    def __init__(self):
        self._parent = [FIXED]
        self._reasons: dict[int, str] = {FIXED: "not a channel of any layer"}

    def new(self, size: int) -> np.ndarray:
        """Labels for the channels of an axis that a layer produces."""
        first = len(self._parent)
        self._parent.extend(range(first, first + size))
        return np.arange(first, first + size)

    def all(self) -> np.ndarray:
        """Every label there is, FIXED included."""
        return np.arange(len(self._parent))

    def join(self, one: Labels, other: Labels, reason: str) -> Labels:
        """Makes two axes of one size keep and cut the same positions.

        Args:
            one, other: labels of the two axes.
            reason: what is told of channels that turn out to be joined with what cannot be cut.

        Returns:
            Labels that stand for both axes.
        """
        if one is None or other is None or len(one) != len(other):
            self.pin(one, reason)
            self.pin(other, reason)
            return None
        if one is not other and not np.array_equal(one, other):
            for pair in set(zip(one.tolist(), other.tolist(), strict=True)):
                self._union(*pair, reason)
        return one

    def tie(self, labels: Labels, units: np.ndarray, reason: str) -> None:
        """Joins the positions of one axis that have the same number in `units`."""
        if labels is None:
            return
        first = {}
        for label, unit in zip(labels.tolist(), units.tolist(), strict=True):
            self._union(first.setdefault(unit, label), label, reason)

    def pin(self, labels: Labels, reason: str, *, override: bool = False) -> None:
        """Says that none of these channels can be cut; the first reason given stays unless overridden."""
        for label in () if labels is None else np.unique(labels).tolist():
            root = self._root(label)
            if override or root not in self._reasons:
                self._reasons[root] = reason

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """One number per set, and FIXED for pinned channels."""
        found = [self._root(label) for label in labels.tolist()]
        return np.array([FIXED if root in self._reasons else root for root in found], dtype=np.int64)

    def reasons(self, labels: Labels) -> list[str]:
        """Why some of these channels cannot be cut, each reason once."""
        roots = [] if labels is None else [self._root(label) for label in np.unique(labels).tolist()]
        return list(dict.fromkeys(self._reasons[root] for root in roots if root in self._reasons))

    def _root(self, label: int) -> int:
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def _union(self, one: int, other: int, reason: str) -> None:
        one, other = sorted((self._root(one), self._root(other)))
        if one == other:
            return
        if one == FIXED:
            self._reasons.setdefault(other, reason)
            return
        self._parent[other] = one
        if other in self._reasons:
            self._reasons.setdefault(one, self._reasons.pop(other))
