"""Going on with long work from a file: the file must belong to the same model and settings."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.files import atomic_write


def weights_digest(model: keras.Model) -> str:
    """A digest of the shapes, dtypes and values of all weights of a built model, in order."""
    return arrays_digest([variable.numpy() for variable in model.weights])


def arrays_digest(arrays) -> str:
    """A digest of the names, shapes, dtypes and values of a nested structure of arrays."""
    digest = hashlib.sha256()
    for path, value in keras.tree.flatten_with_path(arrays):
        array = np.asarray(value)
        digest.update(f"{path} {array.shape} {array.dtype}".encode())
        content = repr(array.tolist()).encode() if array.dtype.kind == "O" else array.tobytes()
        digest.update(content)
    return digest.hexdigest()[:32]


def setting_text(value: Any) -> str:
    """A setting as text that is the same in another run of the program: functions go by their name."""
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return repr(value)


def differences(stored: Mapping[str, str], present: Mapping[str, str]) -> str:
    """Which of the present settings the stored ones differ in, in words; "" if none."""
    different = [name for name in present if stored.get(name) != present[name]]
    return "; ".join(f"{name}: {stored.get(name)} there, {present[name]} now" for name in different)


def check_same_work(path, stored: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Raises ValueError if the file at `path` was begun with other settings, naming those that differ."""
    if details := differences(stored, present):
        raise ValueError(
            f"The storage {str(path)!r} holds the work on another model or with other settings ({details}). "
            "Give another `storage`, or delete it to begin anew."
        )


def read_work(path: Path, settings: Mapping[str, str], names: tuple[str, ...], what: str) -> dict | None:
    """What `write_work` keeps in a file, or None if there is no file.

    Args:
        path: the file.
        settings: what the work depends on.
        names: entries that must be there.
        what: what the file should hold, for the message.

    Raises:
        ValueError: if the file is damaged, holds something else, or work with other settings.
    """
    if not path.exists():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        begun, content = stored["settings"], {name: stored[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(path)!r} is no storage of {what}, or it is damaged ({type(error).__name__}: {error}). "
            "Give another `storage`, or delete it to begin anew."
        ) from error
    check_same_work(path, begun, settings)
    return content


def write_work(path: Path, settings: Mapping[str, str], **content) -> None:
    """Keeps what JSON can hold, with the settings it depends on; the file holds it when this returns."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"settings": settings, **content}, indent=1) + "\n", encoding="utf-8")
