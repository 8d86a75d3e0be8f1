"""`Recipe`: an ordered list of steps, written as JSON or YAML, run with results kept in one folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.core.checks import check_choice, check_model, did_you_mean
from tfsqueeze.core.files import atomic_write
from tfsqueeze.export.calibration import NEEDS_DATA
from tfsqueeze.models.load import load_model
from tfsqueeze.recipe.folder import OutputFolder
from tfsqueeze.recipe.measuring import Measure
from tfsqueeze.recipe.result import RecipeResult
from tfsqueeze.recipe.run import Run, check_data
from tfsqueeze.recipe.run_data import RunData
from tfsqueeze.recipe.step import Step
from tfsqueeze.recipe.verbs import ROLES

KEYS = ("model", "data", "metric", "seed", "steps")
ENDINGS = (".yaml", ".yml", ".json")
WRITES_FILES = ("export_tflite", "pack")


class Recipe:
    """Steps of compression in order, as plain data.

    A step names a verb of tfsqueeze and the verb's own keyword arguments: `{"prune": {"sparsity": 0.8}}`;
    its first argument alone: `{"prune": 0.8}`; or nothing but the verb: `"compare"`. The steps are the verbs
    that return a model (`load_model`, `prune`, `prune_channels`, `prune_depth`, `to_separable`, `factorize`,
    `with_input_size`, `downsample_output`, `swap_backbone`, `scale_width`, `cluster`, `product_quantize`,
    `quantize_aware`, `calibrate`, `strip_quantization`, `with_precision`), those that train (`fine_tune`,
    `distil`), those that write a file (`export_tflite`, `pack`), and `report` and `compare`.

    The model goes from step to step. Data goes where a verb takes it: calibration data to `data` and
    `representative_data`, validation data to reports; a step may name another (`data: train`) or none
    (`data: null`). Objects are written by class and arguments, `{"PruningCallback": {"schedule": 0.8}}`, and
    inside them "50%" is half of the training's optimizer steps.

    Args:
        steps: the steps, in any of these forms.
        model: path of the model to begin with, where `run` is given none.
        data: paths by "train", "validation" and "calibration", each an `.npz` file or a folder of images,
            with "scale" such as "1/255" for all of them.
        metric: name of the Keras metric to score by; by default as in `tfs.report`.
        seed: of everything random.

    Raises:
        TypeError: if something is no plain data.
        ValueError: if a step, an argument or a class in it is unknown. The message names the step.

    Example:
        >>> recipe = tfs.Recipe([{"prune_channels": {"macs": 0.5}}, {"distil": {"epochs": 3}},
        ...                      {"export_tflite": "int8"}, "compare"])
        >>> result = recipe.run(model, train=(x, y), validation=(x_val, y_val), output="small")
        >>> print(result)
    """

    def __init__(
        self,
        steps: Sequence[Any],
        *,
        model: str | None = None,
        data: Mapping[str, str] | None = None,
        metric: str | None = None,
        seed: int = 0,
    ):
        if isinstance(steps, (str, Mapping)) or not isinstance(steps, Sequence):
            raise TypeError(f"`steps` must be a list of steps. Received: {steps!r}.")
        if not steps:
            raise ValueError("`steps` is empty: a recipe needs at least one step.")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"`seed` must be a whole number. Received: seed={seed!r}.")
        self.steps = [Step.of(number, written) for number, written in enumerate(steps, 1)]
        self.model, self.metric, self.seed = model, metric, seed
        self.data = dict(data or {})
        for name in self.data:
            check_choice("data", name, (*ROLES, "scale"))

    @classmethod
    def from_dict(cls, written: Mapping[str, Any] | Sequence[Any]) -> "Recipe":
        """Makes a recipe of plain data: a mapping with "steps", or the list of steps alone.

        Raises:
            ValueError, TypeError: as the constructor, or if a key is unknown.
        """
        if not isinstance(written, Mapping):
            return cls(written)
        for key in written:
            if key not in KEYS:
                hint = did_you_mean(str(key), KEYS)
                raise ValueError(f"A recipe has no entry {key!r}. {hint} It takes: {', '.join(KEYS)}.")
        if "steps" not in written:
            raise ValueError(f"A recipe needs `steps`, a list. Received: {', '.join(map(str, written))}.")
        return cls(**written)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data that `from_dict` reads."""
        optional = {"model": self.model, "data": self.data, "metric": self.metric}
        return {
            **{name: value for name, value in optional.items() if value},
            "seed": self.seed,
            "steps": [step.to_dict() for step in self.steps],
        }

    @classmethod
    def from_file(cls, path) -> "Recipe":
        """Reads a `.yaml` or `.json` file; the paths in it are relative to its folder.

        Raises:
            ValueError: if the file is missing or damaged, or as the constructor raises.
        """
        path = Path(path)
        recipe = cls.from_dict(_read(path))
        beside = {name: _beside(path, value) for name, value in recipe.data.items() if name != "scale"}
        recipe.data |= beside
        recipe.model = recipe.model and _beside(path, recipe.model)
        return recipe

    def to_file(self, path) -> Path:
        """Writes the recipe as `.yaml` or `.json`, by the ending of `path`; returns the path."""
        path = Path(path)
        check_choice("path", path.suffix, ENDINGS)
        with atomic_write(path) as temporary:
            temporary.write_text(self._text(path.suffix), encoding="utf-8")
        return path

    def run(
        self,
        model: keras.Model | str | None = None,
        *,
        train: Any = None,
        validation: Any = None,
        calibration: Any = None,
        output=None,
        measure: bool = True,
        watch: Callable[[Step], AbstractContextManager] = nullcontext,
    ) -> RecipeResult:
        """Runs the steps in order.

        With `output`, each finished step is kept there. A second run goes on behind the last one finished
        with the same model, data, seed and steps up to it, so that Ctrl-C costs the step under way and a
        changed recipe repeats what is behind the change. Under `tf.distribute.MirroredStrategy().scope()`
        it trains on all devices.

        Args:
            model: the model to begin with, or its path; None for the recipe's own. It is not changed.
            train: training data in any form `model.fit` takes, or a path; None for the recipe's own.
            validation: examples with targets, on which models and files are scored; likewise.
            calibration: typical inputs; by default up to 2,048 examples drawn from `train`.
            output: folder for models, files, `recipe.yaml`, tables and pictures (see `RecipeResult.save`);
                needed where a step writes a file.
            measure: whether parameters, MACs and scores are measured after each step.
            watch: called with each `Step` before it runs; returns a context that the step runs in.

        Returns:
            A `RecipeResult`.

        Raises:
            ValueError: if a step needs what is not there, before anything runs; or what a verb raises, with
                the step named.

        Example:
            >>> tfs.Recipe.from_file("recipe.yaml").run(model, train=(x, y), output="small").path
        """
        begun = self._begun(model)
        given = {"train": train, "validation": validation, "calibration": calibration}
        sources = {role: self.data.get(role) if value is None else value for role, value in given.items()}
        data = RunData.read(begun, sources, scale=self.data.get("scale"), seed=self.seed)
        check_data(self.steps, data)
        self._check_files(data, output)
        folder = None if output is None else OutputFolder(output)
        if folder is not None:
            self.to_file(folder.path / "recipe.yaml")
        scores = Measure(begun, data.validation, self.metric) if measure else None
        result = Run(begun, data, folder, scores, self.seed, watch).run(self.steps)
        if folder is not None:
            result.save()
        return result

    def __repr__(self) -> str:
        return f"Recipe([{', '.join(map(str, self.steps))}])"

    def __eq__(self, other) -> bool:
        return isinstance(other, Recipe) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def _begun(self, model) -> keras.Model:
        source = self.model if model is None else model
        if source is None and self.steps[0].verb == "load_model":
            source = self.steps[0].arguments["path_or_model"]
        if source is None:
            raise ValueError(
                "There is no model to begin with. Pass one to `run(model)`, name a file as `model` in the "
                "recipe, or begin with a step `load_model`."
            )
        return check_model(load_model(source), "Recipe.run()")

    def _check_files(self, data: RunData, output) -> None:
        is_calibrated = False
        for step in self.steps:
            if step.verb in WRITES_FILES and output is None:
                raise ValueError(f"{step.title} writes a file. Give the run a folder: `run(output=...)`.")
            is_calibrated |= step.verb in ("quantize_aware", "calibrate")
            quantize = step.arguments.get("quantize")
            if quantize in NEEDS_DATA and not is_calibrated and data.calibration is None:
                raise ValueError(
                    f"{step.title}: quantize={quantize!r} needs `calibration` or `train` data, from which "
                    'the ranges of the activations are measured. Without data, use quantize: "dynamic".'
                )

    def _text(self, ending: str) -> str:
        if ending == ".json":
            return json.dumps(self.to_dict(), indent=2) + "\n"
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _read(path: Path):
    check_choice("path", path.suffix.lower(), ENDINGS)
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"Cannot read the recipe {str(path)!r}: {error}") from error


def _beside(path: Path, name: str) -> str:
    """A path written in a file, relative to the folder of that file."""
    return str(path.parent / name) if isinstance(name, str) else name
