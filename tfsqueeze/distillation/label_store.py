"""The files of stored soft labels: rows of numbers that can be mapped into memory and appended to."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tfsqueeze.core.files import atomic_write, check_writable

FACTS, VALUES, CLASSES, EXAMPLES = "facts.json", "values.bin", "classes.bin", "examples.bin"
VERSION = 1
DIGEST_BYTES = 8


@dataclass
class Facts:
    """What a store holds.

    Attributes:
        shape: of one example's stored values: (..., classes) or (..., top_k).
        classes: number of classes or values of the teacher's output.
        dtype: "float16" or "float32".
        top_k: how many classes of each example are stored, or None for all.
        activation: "softmax", "sigmoid" or "linear", of the teacher's output.
        inputs: name, shape and dtype of each input of the teacher.
        teacher: digest of the teacher's weights.
        seed: of the augmentation, None without one.
        epochs: passes over the data, each with its own augmentation.
        rows: rows written so far.
        is_finished: whether all are.
    """

    shape: tuple[int, ...]
    classes: int
    dtype: str
    top_k: int | None
    activation: str
    inputs: list
    teacher: str
    seed: int | None
    epochs: int
    rows: int = 0
    is_finished: bool = False
    version: int = VERSION

    def columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Files with the dtype and shape of one row of each."""
        columns = {
            VALUES: (f"<{np.dtype(self.dtype).str[1:]}", self.shape),
            EXAMPLES: ("u1", (DIGEST_BYTES,)),
        }
        if self.top_k is not None:
            columns[CLASSES] = ("<u4", self.shape)
        return columns

    def settings(self) -> dict:
        """What must be the same to go on writing."""
        return {name: value for name, value in _plain(self).items() if name not in ("rows", "is_finished")}


class LabelStore:
    """A folder with soft labels.

    Args:
        path: the folder.
    """

    def __init__(self, path):
        self.path = Path(path)

    def read_facts(self) -> Facts | None:
        """What the folder holds; None if there is nothing yet.

        Raises:
            ValueError: if its description is damaged or of another version, or a file too short.
        """
        if not (self.path / FACTS).exists():
            return None
        try:
            stored = json.loads((self.path / FACTS).read_text())
            facts = Facts(**{**stored, "shape": tuple(stored["shape"])})
            columns = facts.columns()
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{str(self.path / FACTS)!r} is damaged ({error}). {REMEDY}") from error
        if facts.version != VERSION:
            raise ValueError(f"{str(self.path)!r} is of version {facts.version}, not {VERSION}. {REMEDY}")
        for name, (dtype, shape) in columns.items():
            expected = facts.rows * _row_bytes(dtype, shape)
            size = (self.path / name).stat().st_size if (self.path / name).exists() else 0
            if size < expected or (facts.is_finished and size != expected):
                raise ValueError(
                    f"{str(self.path / name)!r} is truncated or damaged: {size} bytes instead of {expected} "
                    f"for {facts.rows} rows. {REMEDY}"
                )
        return facts

    def begin(self, facts: Facts) -> None:
        """Starts an empty store, or cuts off what was half-written when the last writing was interrupted."""
        check_writable(self.path / FACTS)
        for name, (dtype, shape) in facts.columns().items():
            with open(self.path / name, "ab") as file:
                file.truncate(facts.rows * _row_bytes(dtype, shape))
        self.write_facts(facts)

    def append(self, facts: Facts, columns: dict[str, np.ndarray]) -> None:
        """Appends rows; they count once the facts are written after them."""
        for name, (dtype, _) in facts.columns().items():
            with open(self.path / name, "ab") as file:
                file.write(np.ascontiguousarray(columns[name], dtype).tobytes())
        facts.rows += len(columns[VALUES])
        self.write_facts(facts)

    def write_facts(self, facts: Facts) -> None:
        """Replaces the description in one go."""
        with atomic_write(self.path / FACTS) as temporary:
            temporary.write_text(json.dumps(_plain(facts), indent=1))

    def mapped(self, facts: Facts) -> dict[str, np.ndarray]:
        """All rows of each file, mapped into memory, read-only."""
        return {
            name: np.memmap(self.path / name, dtype, "r", shape=(facts.rows, *shape))
            for name, (dtype, shape) in facts.columns().items()
        }


REMEDY = "Delete the folder and write the labels anew."


def example_digests(inputs: dict[str, np.ndarray]) -> np.ndarray:
    """A digest of each example's inputs, uint8 of shape (examples, 8)."""
    names = sorted(inputs)
    arrays = [np.ascontiguousarray(inputs[name]) for name in names]
    digests = [
        hashlib.blake2b(b"".join(array[i].tobytes() for array in arrays), digest_size=DIGEST_BYTES).digest()
        for i in range(len(arrays[0]))
    ]
    return np.frombuffer(b"".join(digests), "u1").reshape(-1, DIGEST_BYTES)


def _row_bytes(dtype: str, shape) -> int:
    return int(np.dtype(dtype).itemsize * np.prod(shape))


def _plain(facts: Facts) -> dict:
    return json.loads(json.dumps(asdict(facts)))
