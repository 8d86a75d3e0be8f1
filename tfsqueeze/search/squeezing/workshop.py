"""Making a candidate's model and file: its recipe, run in a folder of its own."""

import contextlib
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfsqueeze.models.load import load_model
from tfsqueeze.recipe.folder import OutputFolder
from tfsqueeze.recipe.recipe import Recipe
from tfsqueeze.recipe.result import RecipeResult
from tfsqueeze.recipe.run_data import RunData
from tfsqueeze.search.squeezing.attempts import ATTEMPTS, Epochs, attempt_folder
from tfsqueeze.search.squeezing.repertoire import Repertoire

UNTRAINED = Epochs()


@dataclass(frozen=True)
class Training:
    """How candidates are trained, with the original as teacher.

    Attributes:
        batch_size: examples per step.
        learning_rate: at the beginning; it falls to 0 along a cosine.
        precision: that layers compute in before they are quantized: "float32", "float16" or "bfloat16".
    """

    batch_size: int
    learning_rate: float
    precision: str = "float32"

    def plain(self, epochs: int) -> list[dict]:
        """The recipe's steps that train a float model."""
        if not epochs or self.precision == "float32":
            return self.aware(epochs)
        there, back = ({"with_precision": name} for name in (self.precision, "float32"))
        return [there, *self.aware(epochs), back]

    def aware(self, epochs: int) -> list[dict]:
        """The recipe's steps that train a quantized model."""
        schedule = {"CosineDecay": {"initial_learning_rate": self.learning_rate, "decay_steps": "100%"}}
        options = {"epochs": epochs, "batch_size": self.batch_size, "learning_rate": schedule}
        return [{"distil": options}] if epochs else []


@dataclass(frozen=True)
class Workshop:
    """Makes candidates.

    Attributes:
        model: the model to squeeze.
        data: training and calibration data.
        repertoire: the techniques.
        training: how candidates are trained.
        output: the folder of the search.
        seed: of everything random.
        strategy: what trainings are distributed by, or None.
    """

    model: keras.Model
    data: RunData
    repertoire: Repertoire
    training: Training
    output: Path
    seed: int
    strategy: tf.distribute.Strategy | None = None

    def recipe(self, setting: dict[str, Any], epochs: Epochs = UNTRAINED, *, quick: bool = False) -> Recipe:
        """The recipe of a candidate."""
        steps = [
            *self._float_steps(setting, epochs),
            *self.repertoire.calibration(setting, quick=quick),
            *self.training.aware(epochs.aware),
            *self.repertoire.export(setting),
        ]
        return Recipe(steps, seed=self.seed)

    def quick_file(self, setting: dict[str, Any], folder) -> Path:
        """A candidate's file without training."""
        recipe = self.recipe(setting, quick=True)
        made = recipe.run(self.model, calibration=self.data.calibration, output=folder, measure=False)
        return made.path

    def make(self, setting: dict[str, Any], candidate: int, epochs: Epochs) -> RecipeResult:
        """Makes a candidate, or takes what an earlier run left."""
        folder = attempt_folder(self.output, candidate, epochs)
        if not folder.exists():
            self._begin_from_shorter(folder, candidate, epochs)
        with contextlib.nullcontext() if self.strategy is None else self.strategy.scope():
            return self.recipe(setting, epochs).run(
                self.model,
                train=self.data.train,
                calibration=self.data.calibration,
                output=folder,
                measure=False,
            )

    def float_model(self, setting: dict[str, Any], candidate: int, epochs: Epochs) -> keras.Model | None:
        """A candidate made before, as it was before it was quantized; None if that was not kept."""
        steps = self._float_steps(setting, epochs)
        if not steps:
            return self.model
        folder = OutputFolder(attempt_folder(self.output, candidate, epochs))
        path = folder.model_file(Recipe(steps).steps[-1])
        return load_model(path) if path.exists() else None

    def delete_but(self, kept: Collection[Path]) -> None:
        """Deletes the steps and files of all attempts but those in these folders."""
        for folder in (self.output / ATTEMPTS).glob("*"):
            if folder.is_dir() and folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _begin_from_shorter(self, folder: Path, candidate: int, epochs: Epochs) -> None:
        """Lets a folder begin as that of a shorter training, whose first steps are the same and done."""
        shorter = [attempt_folder(self.output, candidate, Epochs(plain)) for plain in (epochs.plain, 0)]
        before = next((one for one in shorter if one.exists()), None)
        if before is not None:
            unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
            shutil.copytree(before, unfinished, dirs_exist_ok=True)
            unfinished.rename(folder)

    def _float_steps(self, setting, epochs: Epochs) -> list[dict]:
        return [*self.repertoire.changes(setting), *self.training.plain(epochs.plain)]
