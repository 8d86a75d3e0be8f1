"""What can be reported on: a Keras model or a `.tflite` file, opened and ready to predict."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import check_model
from tfsqueeze.core.data import Examples, InputSpec, input_specs, pack_inputs, random_examples
from tfsqueeze.core.devices import without_xla_on_cpu
from tfsqueeze.core.outputs import named_outputs, output_names
from tfsqueeze.core.trained import trained_model
from tfsqueeze.models.legacy import is_legacy_model
from tfsqueeze.models.load import load_model
from tfsqueeze.reporting.facts import Facts
from tfsqueeze.reporting.keras_facts import keras_facts
from tfsqueeze.reporting.latency import Timed
from tfsqueeze.reporting.probe import check_runs
from tfsqueeze.reporting.tflite_facts import tflite_facts
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.runner import Runner
from tfsqueeze.tflite.structure import TFLiteFile


@dataclass
class KerasSubject:
    """A Keras model and the file it came from, if any."""

    model: keras.Model
    path: Path | None = None

    def facts(self) -> Facts:
        return keras_facts(self.model, self.path)

    @cached_property
    def specs(self) -> list[InputSpec]:
        return input_specs(self.model)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs; empty for a subclassed model, which has none before it is called."""
        functional = getattr(self.model, "_functional", None) or self.model
        struct = getattr(functional, "_outputs_struct", None)
        return [] if struct is None else output_names(self.model, struct)

    def predict(self, examples: Examples, batch_size: int) -> dict[str, np.ndarray]:
        """Predictions by output name."""
        size = self.fixed_batch_size or batch_size
        parts = [self._predict_batch(batch) for batch in examples.batches(size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @property
    def fixed_batch_size(self) -> int | None:
        """The batch size the model was built for, or None where it is free."""
        return next((spec.shape[0] for spec in self.specs if spec.shape and spec.shape[0]), None)

    def timed(self, threads: int, batch_size: int) -> Timed:
        """A compiled call of the model on one batch of random inputs."""
        batch_size = self.fixed_batch_size or batch_size
        batch = random_examples(self.specs, batch_size)
        inputs = keras.tree.map_structure(tf.constant, pack_inputs(self.model, batch.inputs))
        call = tf.function(lambda values: self.model(values, training=False))
        # Fetching the values waits for the computation, which would otherwise go on in the background.
        return Timed(
            lambda: keras.tree.map_structure(np.asarray, call(inputs)), None, "tf.function", batch_size
        )

    def _predict_batch(self, batch: Examples) -> dict[str, np.ndarray]:
        missing = (self.fixed_batch_size or len(batch)) - len(batch)
        filled = {name: _repeat_last(array, missing) for name, array in batch.inputs.items()}
        outputs = self._predict_function([(pack_inputs(self.model, filled),)])
        outputs = named_outputs(self.model, keras.tree.map_structure(np.asarray, outputs))
        return {name: array[: len(batch)] for name, array in outputs.items()}

    @cached_property
    def _predict_function(self):
        """What `Model.predict` calls for a batch."""
        with without_xla_on_cpu(self.model):
            self.model.make_predict_function()
            return self.model.predict_function


@dataclass
class FileSubject:
    """A parsed `.tflite` file."""

    file: TFLiteFile
    path: Path | None = None

    def facts(self) -> Facts:
        return tflite_facts(self.file)

    @cached_property
    def runner(self) -> Runner:
        """An interpreter for predictions, made once the file is known to run."""
        return Runner(check_runs(self.file))

    @cached_property
    def specs(self) -> list[InputSpec]:
        return [_spec(port) for port in self.runner.inputs]

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs in the signature."""
        return [port.name for port in self.runner.outputs]

    def predict(self, examples: Examples, batch_size: int) -> dict[str, np.ndarray]:
        """Predictions by output name, floats also where the file's outputs are integers."""
        return self.runner.run(rename_inputs(examples, self.specs).inputs, batch_size=batch_size)

    def timed(self, threads: int, batch_size: int) -> Timed:
        """One run of the interpreter on random inputs that are set once, before the clock starts."""
        batch_size = self.runner.batch_size or batch_size
        runner = Runner(self.file, num_threads=threads)
        runner.invoke(random_examples(self.specs, batch_size).inputs)
        return Timed(runner.interpreter.invoke, threads, _delegate(runner.interpreter), batch_size)


Subject = KerasSubject | FileSubject


def open_subject(source: Any) -> Subject:
    """Opens whatever a report is asked on.

    Args:
        source: a built `keras.Model`; a path to a `.keras`, `.h5` or `.tflite` file or a SavedModel folder;
            the bytes of a `.tflite` file; or anything with a `.path` to one, such as an `ExportResult`.

    Raises:
        ValueError: if the file is missing, corrupt or of no known kind.
        TypeError: if `source` is none of these.
    """
    if isinstance(source, (KerasSubject, FileSubject)):
        return source
    if isinstance(source, keras.Model):
        return KerasSubject(check_model(trained_model(source), "report()"))
    if isinstance(source, (bytes, bytearray, TFLiteFile)):
        return FileSubject(read(source))
    if not isinstance(source, (str, os.PathLike)) and hasattr(source, "path"):
        return open_subject(source.path)
    if isinstance(source, (str, os.PathLike)) and is_tflite(Path(source)):
        return FileSubject(read(source), Path(source))
    if isinstance(source, (str, os.PathLike)):
        return KerasSubject(check_model(load_model(source), "report()"), Path(source))
    if is_legacy_model(source):
        return KerasSubject(load_model(source))
    raise TypeError(
        "Expected a keras.Model, a path to a .keras, .h5 or .tflite file or a SavedModel folder, or an "
        f"export result. Received: {type(source)}."
    )


def is_tflite(path: Path) -> bool:
    """Whether a path is a `.tflite` file by its name or by its first bytes."""
    if path.suffix.lower() in (".tflite", ".lite"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def rename_inputs(examples: Examples, specs: list[InputSpec]) -> Examples:
    """Examples under the names of `specs` where only the name of a single input differs."""
    names = [spec.name for spec in specs]
    if len(names) == len(examples.inputs) == 1:
        return replace(examples, inputs={names[0]: next(iter(examples.inputs.values()))})
    return examples


def _repeat_last(array: np.ndarray, times: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], times, axis=0)]) if times else array


def _spec(port) -> InputSpec:
    shape = tuple(None if size == -1 else size for size in port.shape)
    return InputSpec(port.name, (None, *shape[1:]), "float32" if port.scale else port.dtype)


def _delegate(interpreter) -> str:
    """Names the delegate that took over operators, as far as the interpreter tells."""
    details = getattr(interpreter, "_get_ops_details", list)
    names = {operator.get("op_name") for operator in details()}
    return "XNNPACK" if "DELEGATE" in names else "none"
