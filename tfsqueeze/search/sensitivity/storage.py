"""Scores kept in a JSON file as they are measured, so that nothing is measured twice."""

from tfsqueeze.core.files import check_writable
from tfsqueeze.core.resuming import read_work, write_work


class ScoreFile:
    """Scores by (layer, sparsity), read from and written to a file if there is one.

    Args:
        path: a JSON file, or None to keep the scores in memory.
        settings: what the scores depend on; a file with others is refused.

    Attributes:
        metric: what the scores are, "" while there is none.

    Raises:
        ValueError: if the file cannot be read or written, or belongs to other settings.
    """

    def __init__(self, path, settings: dict[str, str]):
        self.path = None if path is None else check_writable(path)
        self.settings = settings
        self.metric = ""
        self._scores: dict[tuple[str, float], float] = {}
        if self.path is not None:
            self._read()

    def __contains__(self, key: tuple[str, float]) -> bool:
        return key in self._scores

    def __getitem__(self, key: tuple[str, float]) -> float:
        return self._scores[key]

    def add(self, key: tuple[str, float], score: float, metric: str) -> None:
        """Keeps a score; the file holds it when this returns."""
        self._scores[key] = score
        self.metric = metric
        if self.path is not None:
            write_work(self.path, self.settings, metric=self.metric, scores=self._rows())

    def _rows(self) -> list[dict]:
        return [
            {"layer": layer, "sparsity": sparsity, "score": score}
            for (layer, sparsity), score in self._scores.items()
        ]

    def _read(self) -> None:
        stored = read_work(self.path, self.settings, ("metric", "scores"), "scores")
        if stored is not None:
            self.metric = stored["metric"]
            self._scores = {(row["layer"], row["sparsity"]): row["score"] for row in stored["scores"]}
