"""The state of gradual pruning, kept in a folder between its rounds."""

import json
from pathlib import Path

import keras

from tfsqueeze.core.files import atomic_write, check_writable
from tfsqueeze.core.resuming import check_same_work

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
        if self.path is None or not (self.path / STATE).exists():
            return 0, None, []
        try:
            stored = json.loads((self.path / STATE).read_text(encoding="utf-8"))
            number, history, settings = stored["round"], stored["history"], stored["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(self.path / STATE)!r} is damaged or was not written by prune_channels_gradually() "
                f"({error}). Give another `storage`, or delete it to begin anew."
            ) from error
        check_same_work(self.path, settings, self.settings)
        return number, keras.models.load_model(self._model(number)), history

    def write(self, number: int, model: keras.Model, history: list[dict]) -> None:
        """Keeps a finished round; the folder holds it when this returns."""
        if self.path is None:
            return
        with atomic_write(self._model(number)) as temporary:
            model.save(temporary)
        state = {"round": number, "history": history, "settings": self.settings}
        with atomic_write(self.path / STATE) as temporary:
            temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
        self._model(number - 1).unlink(missing_ok=True)

    def _model(self, number) -> Path:
        return self.path / f"round-{number}.keras"
