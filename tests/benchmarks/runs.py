"""Finished runs of a benchmark, kept so that hours of training can be had in pieces."""

import json
from collections.abc import Callable
from pathlib import Path

from tfsqueeze.core.files import atomic_write


class Runs:
    """Measurements by what was run and the seed, in a JSON file.

    Args:
        path: the file; made when the first run is finished.
    """

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, list]:
        """All measurements, by "what|...|seed"."""
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def measure(self, what: tuple[str, ...], seed: int, run: Callable[[], tuple]) -> None:
        """Runs what was not run before with this seed, and keeps and prints what it measures."""
        key = "|".join((*what, str(seed)))
        if key in self.read():
            return
        measured = run()
        print(key, measured, flush=True)
        # Read again: another process may have finished runs meanwhile.
        content = json.dumps(self.read() | {key: measured}, indent=1)
        with atomic_write(self.path) as temporary:
            temporary.write_text(content)

    def rows(self) -> dict[tuple[str, ...], list[tuple]]:
        """For each thing that was run, the columns of its measurements over the seeds."""
        rows: dict[tuple[str, ...], list] = {}
        for key, measured in sorted(self.read().items()):
            rows.setdefault(tuple(key.split("|")[:-1]), []).append(measured)
        return {what: list(zip(*measured, strict=True)) for what, measured in rows.items()}


def mean_and_each(values) -> str:
    """A mean with what it is the mean of."""
    return f"{sum(values) / len(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"
