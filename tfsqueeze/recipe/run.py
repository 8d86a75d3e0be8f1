"""Running the steps of a recipe one after the other."""

import contextlib
import inspect
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.models.load import load_model
from tfsqueeze.recipe.folder import OutputFolder, fingerprint, model_fingerprint
from tfsqueeze.recipe.measuring import Measure
from tfsqueeze.recipe.objects import build
from tfsqueeze.recipe.result import RecipeResult, StepResult
from tfsqueeze.recipe.run_data import RunData
from tfsqueeze.recipe.step import Step
from tfsqueeze.recipe.training import Training
from tfsqueeze.recipe.training_data import count_steps
from tfsqueeze.recipe.verbs import DATA, REPORTING, ROLES, VERBS, default_role, takes
from tfsqueeze.reporting.compare import Comparison
from tfsqueeze.reporting.report import Report

ORIGINAL = "original"


@dataclass
class Run:
    """One run: what it works on, and where it stands.

    Attributes:
        original: the model the recipe began with; the teacher of steps that distil.
        data: the data sets.
        folder: where finished steps are kept, or None to keep everything in memory.
        measure: scores models and files after each step, or None.
        seed: of everything random.
        watch: makes the context in which each step runs.
    """

    original: keras.Model
    data: RunData
    folder: OutputFolder | None = None
    measure: Measure | None = None
    seed: int = 0
    watch: Callable[[Step], AbstractContextManager] = contextlib.nullcontext

    def __post_init__(self):
        self.model = self.original
        self.files: dict[str, Path] = {}
        self.results: list[StepResult] = []
        self.report: Comparison | Report | None = None

    def run(self, steps: list[Step]) -> RecipeResult:
        """Runs the steps that no earlier run has finished."""
        first = StepResult(0, ORIGINAL, ORIGINAL)
        self.results.append(first if self.measure is None else self.measure(first, self.model, self.model))
        marks = self._fingerprints(steps)
        records = [] if self.folder is None else self.folder.finished(steps, marks)
        self._go_behind(steps, records)
        for step, mark in zip(steps[len(records) :], marks[len(records) :], strict=True):
            with self.watch(step):
                self._take(step, mark)
        self._report_again(steps[: len(records)])
        output = None if self.folder is None else self.folder.path
        return RecipeResult(self.model, self.results, self.report, output)

    def _fingerprints(self, steps: list[Step]) -> list[str]:
        """For each step a digest of all it depends on: the model, the data, the steps up to it."""
        if self.folder is None:
            return [""] * len(steps)
        mark, marks = fingerprint(model_fingerprint(self.original), self.data.digest(), self.seed), []
        for step in steps:
            mark = fingerprint(mark, step.to_dict())
            marks.append(mark)
        return marks

    def _go_behind(self, steps: list[Step], records: list[dict]) -> None:
        """Takes over the results of finished steps."""
        for record in records:
            result = StepResult(**{**record["result"], "is_reused": True})
            if record["path"] is not None:
                result = replace(result, path=self.folder.path / record["path"])
                self.files[result.path.name] = result.path
            self.results.append(result)
        saved = [step for step, record in zip(steps, records, strict=False) if record["saved"]]
        if saved:
            self.model = load_model(self.folder.model_file(saved[-1]))

    def _report_again(self, finished: list[Step]) -> None:
        """Reports are measured anew: they hold for the machine and the moment."""
        reporting = [step for step in finished if step.verb in REPORTING]
        if self.report is None and reporting:
            with self.watch(reporting[-1]):
                self.report = self._call(reporting[-1])

    def _take(self, step: Step, mark: str) -> None:
        keras.utils.set_random_seed(self.seed + step.number)
        begin = time.perf_counter()
        given = self._call(step)
        result = StepResult(step.number, step.verb, str(step), time.perf_counter() - begin)
        changed, path = None, None
        if isinstance(given, keras.Model):
            self.model = changed = given
        elif isinstance(given, (Comparison, Report)):
            self.report = given
        else:
            path = Path(given.path)
            self.files[path.name] = path
            result = replace(result, path=path, bytes=path.stat().st_size)
        if self.measure is not None and step.verb not in REPORTING:
            result = self.measure(result, self.model, path or self.model)
        self.results.append(result)
        if self.folder is not None:
            row = asdict(replace(result, path=None))
            place = None if path is None else str(path.relative_to(self.folder.path))
            self.folder.save(
                step, changed, {"fingerprint": mark, "result": row, "path": place, "bytes": result.bytes}
            )

    def _call(self, step: Step):
        arguments = build(step.arguments, step.title, lambda: self._training_steps(step))
        try:
            return VERBS[step.verb](**self._supplied(step, arguments), **arguments)
        except (ValueError, TypeError) as error:
            raise _told(error, step) from error

    def _supplied(self, step: Step, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the run fills; data sets named in `arguments` leave them."""
        verb, supplied = step.verb, {}
        for name in DATA:
            if takes(verb, name) and (name in arguments or default_role(verb, name)):
                role = arguments.pop(name, default_role(verb, name))
                supplied[name] = None if role is None else self.data.of(role, self.model)
        fillings: Mapping[str, Callable[[], Any]] = {
            "model": lambda: self._subject(verb),
            "models": lambda: {ORIGINAL: self.original, "model": self.model, **self.files},
            "seed": lambda: self.seed,
            "path": lambda: self._path(step, arguments.pop("path", None)),
            "teacher": lambda: self._teacher(arguments.pop("teacher", None)),
        }
        supplied |= {n: fill() for n, fill in fillings.items() if takes(verb, n) and n not in _set(arguments)}
        return supplied

    def _subject(self, verb: str):
        """A report is on the last file there is; every other step is on the model."""
        return list(self.files.values())[-1] if verb == "report" and self.files else self.model

    def _teacher(self, name: str | None) -> keras.Model:
        return self.original if name in (None, ORIGINAL) else load_model(name)

    def _path(self, step: Step, name: str | None) -> Path:
        if name is None:
            kind = step.arguments.get("quantize") or "float32"
            name = "model.tfsq" if step.verb == "pack" else f"model-{kind}.tflite"
            if name in self.files:
                name = f"{Path(name).stem}-{step.number}{Path(name).suffix}"
        return self.folder.path / name

    def _training_steps(self, step: Step) -> int:
        options = {name: step.arguments[name] for name in ("epochs", "batch_size") if name in step.arguments}
        training = Training(**options)
        role = step.arguments.get("train", "train")
        count = count_steps(getattr(self.data, role), training.batch_size)
        if count is None:
            raise ValueError(
                f"{step.title}: a percentage of the training's steps needs data of known length. Give the "
                "number of steps, or `dataset.apply(tf.data.experimental.assert_cardinality(...))`."
            )
        return count * training.epochs


def _set(arguments) -> set[str]:
    """Arguments the step sets itself; `path` and `teacher` are names that the run resolves."""
    return set(arguments) - {"path", "teacher"}


def _told(error: Exception, step: Step) -> Exception:
    """The same error, with the step named."""
    try:
        return type(error)(f"{step.title}: {error}")
    except TypeError:
        return ValueError(f"{step.title}: {error}")


def check_data(steps: list[Step], data: RunData) -> None:
    """Raises ValueError before anything runs if a step needs data that is not there, or names no data set."""
    for step in steps:
        for name in DATA:
            if not takes(step.verb, name):
                continue
            role = step.arguments.get(name, default_role(step.verb, name))
            if role is not None and role not in ROLES:
                raise ValueError(
                    f"{step.title}: {name!r} names one of the data sets ({', '.join(ROLES)}) or is null. "
                    f"Received: {role!r}."
                )
            needed = inspect.signature(VERBS[step.verb]).parameters[name].default is inspect.Parameter.empty
            if (needed or name in step.arguments) and role is not None and getattr(data, role) is None:
                raise ValueError(
                    f"{step.title} needs `{role}` data. Give it to `run({role}=...)`, name a file in the "
                    f"recipe's `data`, or on the command line: --{role} FILE."
                )
