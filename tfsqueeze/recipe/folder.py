"""The output folder of a recipe: what each finished step left, so that a second run goes on behind it."""

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.files import atomic_write
from tfsqueeze.core.resuming import weights_digest
from tfsqueeze.recipe.step import Step
from tfsqueeze.version import __version__

STEPS = "steps"
MODEL = "model.keras"
RECORD = "step.json"


class OutputFolder:
    """Finished steps by number, each in a folder such as `steps/02-fine_tune`.

    Args:
        path: the folder, made if it is missing.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._steps = self.path / STEPS
        self._steps.mkdir(parents=True, exist_ok=True)

    def finished(self, steps: list[Step], fingerprints: list[str]) -> list[dict[str, Any]]:
        """The records of the finished steps from the first on, up to one from which the model is known."""
        records = []
        for step, fingerprint in zip(steps, fingerprints, strict=True):
            record = self._read(step)
            if record is None or record["fingerprint"] != fingerprint or not self._is_whole(record):
                break
            records.append(record)
        lost = [n for n, record in enumerate(records) if record["changed"] and not record["saved"]]
        known = [n for n, record in enumerate(records) if record["saved"]]
        if lost and max(lost) > max(known, default=-1):
            return records[: lost[0]]
        return records

    def model_file(self, step: Step) -> Path:
        """Where a step keeps its model."""
        return self._folder(step) / MODEL

    def save(self, step: Step, model: keras.Model | None, record: dict[str, Any]) -> None:
        """Keeps what a step gave; once this returns, the step is finished.

        Args:
            step: the step.
            model: the model it returned, or None if it left the model as it was.
            record: plain data, with "fingerprint".
        """
        for stale in self._steps.glob(f"{step.number:02d}-*"):
            if (stale / RECORD).exists() or stale == self._folder(step):
                shutil.rmtree(stale)
        saved = model is not None and self._save_model(step, model)
        with atomic_write(self._folder(step) / RECORD) as temporary:
            content = {**record, "changed": model is not None, "saved": saved}
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _save_model(self, step, model) -> bool:
        try:
            with atomic_write(self.model_file(step)) as temporary:
                model.save(temporary)
        except Exception as error:
            # A model with layers of the user's own may not save; the run itself goes on without.
            warnings.warn(
                f"The model of {step.title} cannot be saved, so that a second run repeats the step: {error}",
                stacklevel=2,
            )
            return False
        return True

    def _folder(self, step: Step) -> Path:
        return self._steps / f"{step.number:02d}-{step.verb}"

    def _read(self, step: Step) -> dict[str, Any] | None:
        try:
            return json.loads((self._folder(step) / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _is_whole(self, record) -> bool:
        """Whether the file a step wrote is still there as it was."""
        path = record["path"]
        return path is None or (
            (file := self.path / path).exists() and file.stat().st_size == record["bytes"]
        )


def fingerprint(*parts: Any) -> str:
    """A digest of plain data."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def model_fingerprint(model: keras.Model) -> str:
    """What tells a model from another across runs of the program: weights, and layers but for their names."""
    layers = [[type(layer).__name__, _settings(layer)] for layer in model._flatten_layers(include_self=False)]
    return fingerprint(__version__, weights_digest(model), layers)


def _settings(layer) -> dict[str, str]:
    """The simple settings of a layer; names are given anew in each program."""
    try:
        config = layer.get_config()
    except NotImplementedError:
        return {}
    simple = (bool, int, float, str, tuple, list, np.number)
    return {
        key: repr(value)
        for key, value in config.items()
        if isinstance(value, simple) and key not in ("name", "layers", "input_layers", "output_layers")
    }
