"""The files of stored soft labels: rows of numbers that can be mapped into memory and appended to."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tfsqueeze.core.files import atomic_write, check_writable

FACTS, EXAMPLES = "facts.json", "examples.bin"
VERSION = 2
PROGRESS = ("rows", "is_finished", "marks")
"""What of the facts comes about while writing."""
DIGEST_BYTES = 8
REMEDY = "Delete the folder and write the labels anew."


@dataclass
class StoredOutput:
    """One output of the teacher: logits or values of every example.

    Attributes:
        name: of the output.
        shape: of one example's output, (..., classes).
        activation: "softmax", "sigmoid" or "linear".
        top_k: how many classes are stored, or None for all.
    """

    name: str
    shape: tuple[int, ...]
    activation: str
    top_k: int | None

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of what is stored of one example."""
        return (*self.shape[:-1], self.shape[-1] if self.top_k is None else self.top_k)


@dataclass
class Facts:
    """What a store holds.

    Attributes:
        outputs: the teacher's outputs, in the order of `keras.tree.flatten`.
        features: shape of one example's features, by layer.
        dtype: "float16" or "float32".
        inputs: name, shape and dtype of each input of the teacher.
        teacher: digest of the teacher's weights.
        seed: of the augmentation, None without one.
        epochs: passes over the data, each with its own augmentation.
        rows: rows written so far.
        is_finished: whether all are.
        marks: by which the augmentation is known again; empty without one.
    """

    outputs: list[StoredOutput]
    features: dict[str, tuple[int, ...]]
    dtype: str
    inputs: list
    teacher: str
    seed: int | None
    epochs: int
    rows: int = 0
    is_finished: bool = False
    marks: list[float] = field(default_factory=list)
    version: int = VERSION

    def columns(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Files with the dtype and shape of one row of each."""
        number = f"<{np.dtype(self.dtype).str[1:]}"
        columns = {EXAMPLES: ("u1", (DIGEST_BYTES,))}
        for index, output in enumerate(self.outputs):
            columns[values_file(index)] = (number, output.stored_shape)
            if output.top_k is not None:
                columns[classes_file(index)] = ("<u4", output.stored_shape)
        for index, shape in enumerate(self.features.values()):
            columns[features_file(index)] = (number, shape)
        return columns

    def settings(self) -> dict[str, str]:
        """What must be the same to go on writing, as text."""
        present = _plain(self)
        return {name: str(value) for name, value in present.items() if name not in PROGRESS}


def values_file(output: int) -> str:
    """The file with the logits or values of an output."""
    return f"output-{output}.bin"


def classes_file(output: int) -> str:
    """The file with the classes that the stored logits of an output belong to."""
    return f"output-{output}-classes.bin"


def features_file(index: int) -> str:
    """The file with the features of a layer."""
    return f"features-{index}.bin"


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
            ValueError: if it holds something else, if its description is damaged or of another version, or
                a file too short.
        """
        if not (self.path / FACTS).exists():
            self._check_is_free()
            return None
        try:
            facts = _read(json.loads((self.path / FACTS).read_text(encoding="utf-8")))
            columns = facts.columns()
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{str(self.path / FACTS)!r} describes no soft labels, is of another version or damaged "
                f"({error}). {REMEDY}"
            ) from error
        for name, (dtype, shape) in columns.items():
            expected = facts.rows * _row_bytes(dtype, shape)
            size = (self.path / name).stat().st_size if (self.path / name).exists() else 0
            if size < expected or (facts.is_finished and size != expected):
                raise ValueError(
                    f"{str(self.path / name)!r} is truncated or damaged: {size} bytes instead of {expected} "
                    f"for {facts.rows} rows. {REMEDY}"
                )
        return facts

    def _check_is_free(self) -> None:
        if self.path.is_file() or (self.path.is_dir() and any(self.path.glob("*.bin"))):
            raise ValueError(
                f"{str(self.path)!r} is no folder of soft labels: it has no {FACTS!r}. Give another folder."
            )

    def begin(self, facts: Facts) -> None:
        """Starts an empty store, or cuts off what was half-written when the last writing was interrupted."""
        check_writable(self.path / FACTS)
        self.write_facts(facts)
        for name, (dtype, shape) in facts.columns().items():
            with open(self.path / name, "ab") as file:
                file.truncate(facts.rows * _row_bytes(dtype, shape))

    def append(self, facts: Facts, columns: dict[str, np.ndarray]) -> None:
        """Appends rows; they count once the facts are written after them."""
        for name, (dtype, _) in facts.columns().items():
            with open(self.path / name, "ab") as file:
                file.write(np.ascontiguousarray(columns[name], dtype).tobytes())
        facts.rows += len(columns[EXAMPLES])
        self.write_facts(facts)

    def write_facts(self, facts: Facts) -> None:
        """Replaces the description in one go."""
        with atomic_write(self.path / FACTS) as temporary:
            temporary.write_text(json.dumps(_plain(facts), indent=1), encoding="utf-8")

    def mapped(self, facts: Facts) -> dict[str, np.ndarray]:
        """All rows of each file, mapped into memory, read-only."""
        return {
            name: np.memmap(self.path / name, dtype, "r", shape=(facts.rows, *shape))
            for name, (dtype, shape) in facts.columns().items()
        }


def example_digests(inputs: dict[str, np.ndarray]) -> np.ndarray:
    """A digest of each example's inputs, uint8 of shape (examples, 8)."""
    names = sorted(inputs)
    arrays = [np.ascontiguousarray(inputs[name]) for name in names]
    digests = [
        hashlib.blake2b(b"".join(array[i].tobytes() for array in arrays), digest_size=DIGEST_BYTES).digest()
        for i in range(len(arrays[0]))
    ]
    return np.frombuffer(b"".join(digests), "u1").reshape(-1, DIGEST_BYTES)


def _read(stored: dict) -> Facts:
    if stored["version"] != VERSION:
        raise ValueError(f"version {stored['version']} instead of {VERSION}")
    outputs = [
        StoredOutput(**{**output, "shape": tuple(map(int, output["shape"]))}) for output in stored["outputs"]
    ]
    features = {layer: tuple(map(int, shape)) for layer, shape in stored["features"].items()}
    facts = Facts(**{**stored, "outputs": outputs, "features": features})
    for name, least in (("rows", 0), ("epochs", 1)):
        value = getattr(facts, name)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r}")
    if facts.is_finished and (facts.rows == 0 or facts.rows % facts.epochs):
        raise ValueError(f"{facts.rows} rows of {facts.epochs} passes")
    return facts


def _row_bytes(dtype: str, shape) -> int:
    return int(np.dtype(dtype).itemsize * np.prod(shape))


def _plain(facts: Facts) -> dict:
    return json.loads(json.dumps(asdict(facts)))
