"""The state of gradual pruning, kept in a folder between its rounds."""

from pathlib import Path

import keras

from tfsqueeze.core.files import atomic_write, check_writable
from tfsqueeze.core.resuming import read_work, write_work

STATE = "rounds.json"


class RoundFolder:
    """Keeps the model after the last finished round, and what is known of all rounds.

    Args:
        path: a folder, made if missing; None keeps nothing.
        settings: what the work depends on; a folder with others is refused.
    """

    def __init__(self, path, settings: dict[str, str]):
        self.path = None if path is None else Path(path)
        self.settings = settings
        if self.path is not None:
            check_writable(self.path / STATE)

    def read(self) -> tuple[int, keras.Model | None, list[dict]]:
        """The number of finished rounds, the model after the last of them, and a row per round.

        Raises:
            ValueError: if the folder holds other work, or is damaged.
        """
        stored = None
        if self.path is not None:
            names = ("round", "history")
            stored = read_work(self.path / STATE, self.settings, names, "pruning in rounds")
        if stored is None:
            return 0, None, []
        return stored["round"], keras.models.load_model(self._model(stored["round"])), stored["history"]

    def write(self, number: int, model: keras.Model, history: list[dict]) -> None:
        """Keeps a finished round; the folder holds it when this returns."""
        if self.path is None:
            return
        with atomic_write(self._model(number)) as temporary:
            model.save(temporary)
        write_work(self.path / STATE, self.settings, round=number, history=history)
        self._model(number - 1).unlink(missing_ok=True)

    def _model(self, number) -> Path:
        return self.path / f"round-{number}.keras"
