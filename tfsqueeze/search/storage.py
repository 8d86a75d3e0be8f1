"""Scores kept in a JSON file as they are measured, so that nothing is measured twice."""

import json

from tfsqueeze.core.files import atomic_write, check_writable
from tfsqueeze.core.resuming import check_same_work


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
        if self.path is not None and self.path.exists():
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
            content = {"settings": self.settings, "metric": self.metric, "scores": self._rows()}
            with atomic_write(self.path) as temporary:
                temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _rows(self) -> list[dict]:
        return [
            {"layer": layer, "sparsity": sparsity, "score": score}
            for (layer, sparsity), score in self._scores.items()
        ]

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            settings, self.metric = content["settings"], content["metric"]
            self._scores = {(row["layer"], row["sparsity"]): row["score"] for row in content["scores"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(self.path)!r} is no storage of scores, or it is damaged ({type(error).__name__}: "
                f"{error}). Give another `storage`, or delete it to begin anew."
            ) from error
        check_same_work(self.path, settings, self.settings)
