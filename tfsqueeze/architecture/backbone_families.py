"""What the networks of `keras.applications` are called and what inputs they expect."""

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from tfsqueeze.core.checks import did_you_mean


def constructors() -> dict[str, Callable]:
    """The functions of `keras.applications` that build a network, by name."""
    return {
        name: value
        for name, value in sorted(vars(keras.applications).items())
        if name[0].isupper() and inspect.isfunction(value)
    }


def find_constructor(name: str) -> str:
    """The name in `keras.applications` of a backbone, however its letters are written.

    Raises:
        ValueError: if there is none; lists all.
    """
    names = list(constructors())
    found = [known for known in names if _plain(known) == _plain(str(name))]
    if not found:
        raise ValueError(
            f"Unknown backbone {name!r}. {did_you_mean(str(name), names)} keras.applications has: "
            f"{', '.join(names)}."
        )
    return found[0]


def family_of(model: keras.Model) -> str | None:
    """The name in `keras.applications` that a model's own name tells ("mobilenetv2_1.00_224"), or None."""
    plain = _plain(model.name)
    found = [name for name in constructors() if plain.startswith(_plain(name))]
    if not found and plain.startswith("nasnet"):
        return "NASNetMobile"
    return max(found, key=len, default=None)


@dataclass(frozen=True)
class Preprocessing:
    """What a network's inputs are, from colours 0..255 in the order red, green, blue.

    Attributes:
        matrix: shape (3, 3), colours to channels.
        offset: shape (3,), added.
    """

    matrix: np.ndarray
    offset: np.ndarray

    def __eq__(self, other) -> bool:
        return np.allclose(self.matrix, other.matrix) and np.allclose(self.offset, other.offset)

    def __str__(self) -> str:
        low, high = (self(np.full((1, 3), value)).ravel() for value in (0.0, 255.0))
        order = "RGB" if self.matrix[0, 0] else "BGR"
        return f"{order} from {np.round(low, 2).tolist()} to {np.round(high, 2).tolist()}"

    def __call__(self, colours: np.ndarray) -> np.ndarray:
        """Applies it to an array (n, 3)."""
        return colours @ self.matrix + self.offset

    def then(self, other: "Preprocessing") -> "Preprocessing":
        """What turns inputs made by `self` into those of `other`."""
        back = np.linalg.inv(self.matrix)
        return Preprocessing(back @ other.matrix, other.offset - self.offset @ back @ other.matrix)


def preprocessing_of(name: str) -> Preprocessing:
    """What `preprocess_input` of a family does, found by trying it: it is linear in every family."""
    preprocess = sys.modules[constructors()[name].__module__].preprocess_input
    probes = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype("float32")
    values = np.asarray(preprocess(probes.reshape(1, 4, 1, 3).copy(), data_format="channels_last")).reshape(
        4, 3
    )
    return Preprocessing((values[1:] - values[0]) / 255, values[0])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
