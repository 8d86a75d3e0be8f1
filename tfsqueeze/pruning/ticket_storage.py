"""The state of a search for a lottery ticket, kept in a folder between its rounds."""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

from tfsqueeze.core.files import atomic_write, check_writable
from tfsqueeze.core.resuming import check_same_work

STATE, INITIAL = "ticket.npz", "initial.weights.h5"
ARRAYS = ("rewound", "trained", "masks")


@dataclass
class TicketState:
    """What is known after some rounds.

    Attributes:
        rewound: values of all weights at the point rewound to.
        trained: values of all weights at the end of the last training.
        masks: one per pruned kernel, True where a weight lives; those of the last training.
        history: a row per finished training.
    """

    rewound: list[np.ndarray]
    trained: list[np.ndarray]
    masks: list[np.ndarray]
    history: list[dict] = field(default_factory=list)


class TicketFolder:
    """Reads and writes a `TicketState`; one file holds all of it, so that it is never half of one round.

    Args:
        path: a folder, made if missing; None keeps nothing.
        settings: what the search depends on; a folder with others is refused.
    """

    def __init__(self, path, settings: dict[str, str]):
        self.path = None if path is None else Path(path)
        self.settings = settings
        if self.path is not None:
            check_writable(self.path / STATE)

    def begin(self, model: keras.Model) -> None:
        """Keeps the weights the search begins with, for a program that cannot make them again."""
        if self.path is not None:
            with atomic_write(self.path / INITIAL) as temporary:
                model.save_weights(temporary)

    def read(self) -> TicketState | None:
        """The state after the last finished round, or None if there is none.

        Raises:
            ValueError: if the folder holds another search, or its file is damaged.
        """
        if self.path is None or not (self.path / STATE).exists():
            return None
        try:
            with np.load(self.path / STATE, allow_pickle=False) as file:
                stored = json.loads(str(file["state"]))
                arrays = {
                    name: [file[f"{name}_{index}"] for index in range(stored["counts"][name])]
                    for name in ARRAYS
                }
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"{str(self.path / STATE)!r} is damaged or was not written by find_ticket() ({error}). Give "
                "another `storage`, or delete it to begin anew."
            ) from error
        self._check(stored["settings"])
        return TicketState(**arrays, history=stored["history"])

    def write(self, state: TicketState) -> None:
        """Keeps the state; the folder holds it when this returns."""
        if self.path is None:
            return
        arrays = {name: getattr(state, name) for name in ARRAYS}
        stored = {
            "settings": self.settings,
            "history": state.history,
            "counts": {name: len(values) for name, values in arrays.items()},
        }
        named = {
            f"{name}_{index}": _storable(value)
            for name, values in arrays.items()
            for index, value in enumerate(values)
        }
        with atomic_write(self.path / STATE) as temporary:
            np.savez(temporary, state=np.array(json.dumps(stored)), **named)

    def _check(self, stored: dict[str, str]) -> None:
        others = {name: text for name, text in self.settings.items() if name != "model"}
        check_same_work(self.path, stored, others)
        if stored["model"] != self.settings["model"]:
            raise ValueError(
                f"The search in {str(self.path)!r} began with other weights than the model has. To go on "
                f"with it, call model.load_weights({str(self.path / INITIAL)!r}) first. To begin anew, give "
                "another `storage`, or delete it."
            )


def _storable(array: np.ndarray) -> np.ndarray:
    """NumPy's files do not know bfloat16, whose values float32 holds exactly."""
    return array.astype("float32") if array.dtype.kind == "V" else array
