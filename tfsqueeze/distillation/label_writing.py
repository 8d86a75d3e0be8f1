"""Running a teacher over a dataset and keeping what it says."""

from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import check_choice, check_count, check_model
from tfsqueeze.core.data import Examples, input_specs, pack_inputs, stream
from tfsqueeze.core.resuming import check_same_work, weights_digest
from tfsqueeze.distillation.activations import logits_of
from tfsqueeze.distillation.augmenting import are_same_marks, augmented, marks_of
from tfsqueeze.distillation.capture import Capture
from tfsqueeze.distillation.label_store import (
    DIGEST_BYTES,
    EXAMPLES,
    Facts,
    LabelStore,
    StoredOutput,
    classes_file,
    example_digests,
    features_file,
    values_file,
)
from tfsqueeze.distillation.output_pairs import check_names, outputs_of


class LabelWriter:
    """Writes soft labels to a folder, and goes on where the last writing was interrupted.

    Args:
        path: the folder.
        teacher: a built model.
        features, dtype, top_k, activation, augment, epochs, seed: see `SoftLabels.write`.

    Raises:
        ValueError: if a setting is out of range, or the folder holds other labels.
    """

    def __init__(self, path, teacher, *, features, dtype, top_k, activation, augment, epochs, seed):
        check_model(teacher, "SoftLabels.write()")
        check_choice("dtype", dtype, ("float16", "float32"))
        epochs = _checked_epochs(epochs, augment)
        self._teacher, self._augment = teacher, augment
        layers = [features] if isinstance(features, str) else list(features or [])
        self._capture = Capture(teacher, set(layers), "teacher")
        outputs = _stored_outputs(teacher, activation, top_k)
        shapes = {layer: _fixed(f"Layer {layer!r}", self._capture.shape(layer)) for layer in layers}
        inputs = [[spec.name, list(spec.shape), spec.dtype] for spec in input_specs(teacher)]
        new_seed = None if augment is None else seed
        facts = Facts(outputs, shapes, dtype, inputs, weights_digest(teacher), new_seed, epochs)
        self._store = LabelStore(path)
        stored = self._store.read_facts()
        if stored is not None:
            check_same_work(path, stored.settings(), facts.settings())
        self._facts = stored or facts
        eager = teacher.run_eagerly
        self._run = self._answers if eager else tf.function(self._answers, reduce_retracing=True)

    def write(self, data, batch_size: int) -> None:
        """Runs the teacher over what is not stored yet; what is stored must be of the same data."""
        facts = self._facts
        if not facts.is_finished:
            self._store.begin(facts)
        for inputs, digests in self._unwritten(data, batch_size):
            if facts.is_finished:
                facts.is_finished = False
                self._store.begin(facts)
            self._append(inputs, digests)
        if not facts.is_finished:
            facts.is_finished = True
            self._store.write_facts(facts)

    def _answers(self, inputs):
        """Logits or values of every output, and features by layer."""
        outputs, features = self._capture(inputs, training=False)
        pairs = zip(keras.tree.flatten(outputs), self._facts.outputs, strict=True)
        return [logits_of(tensor, output.activation) for tensor, output in pairs], features

    def _unwritten(self, data, batch_size: int) -> Iterator[tuple[dict, np.ndarray]]:
        """(inputs, digests) of what is not stored yet; what is stored must be of the same data."""
        facts = self._facts
        stored = np.array(self._store.mapped(facts)[EXAMPLES]) if facts.rows else np.empty((0, DIGEST_BYTES))
        for rows, batch in self._passes(data, batch_size):
            digests, known = example_digests(batch.inputs), stored[rows[0] : rows[-1] + 1]
            if (digests[: len(known)] != known).any():
                raise ValueError(
                    f"{str(self._store.path)!r} holds soft labels of other data, or in another order. "
                    "Give the same data, unshuffled, or another folder."
                )
            if rows[0] == 0 and self._augment is not None:
                self._mark(batch.inputs)
            if len(known) == len(batch):
                continue
            inputs = {name: array[len(known) :] for name, array in batch.inputs.items()}
            if self._augment is not None:
                inputs = augmented(inputs, tf.constant(rows[len(known) :]), facts.seed, self._augment)
            yield inputs, digests[len(known) :]

    def _mark(self, inputs) -> None:
        """Keeps by what the augmentation is known again, or checks that it is the same."""
        facts = self._facts
        marks = marks_of(inputs, facts.seed, self._augment)
        if facts.marks and not are_same_marks(facts.marks, marks):
            raise ValueError(
                f"{str(self._store.path)!r} was begun with another `augment`: the first examples come out "
                "otherwise. Give the same function, or another folder."
            )
        facts.marks = facts.marks or marks

    def _passes(self, data, batch_size: int) -> Iterator[tuple[np.ndarray, Examples]]:
        """Rows and batches; what is finished is looked at once, and may grow if it is of one pass."""
        facts, row, counts = self._facts, 0, []
        was_finished, stored_rows = facts.is_finished, facts.rows
        for _ in range(1 if was_finished else facts.epochs):
            start = row
            for batch in stream(data, input_specs(self._teacher), batch_size=batch_size):
                yield np.arange(row, row + len(batch)), batch
                row += len(batch)
            counts.append(row - start)
            _check_counts(counts)
        wanted = stored_rows // facts.epochs if was_finished else stored_rows
        if row < wanted or (was_finished and facts.epochs > 1 and row > wanted):
            raise ValueError(
                f"{str(self._store.path)!r} holds soft labels of {wanted} examples. Received: {row}. Give "
                "the same data, or another folder; only labels of a single pass can grow."
            )

    def _append(self, inputs, digests) -> None:
        logits, features = self._run(pack_inputs(self._teacher, inputs))
        columns = {}
        for index, (output, values) in enumerate(zip(self._facts.outputs, logits, strict=True)):
            columns |= _output_columns(index, output, values.numpy())
        for index, layer in enumerate(self._facts.features):
            columns[features_file(index)] = np.asarray(features[layer], "float32")
        limit = np.finfo(self._facts.dtype).max
        for name, values in columns.items():
            if not np.isfinite(values).all():
                raise ValueError(
                    f"The teacher's answers to the examples from number {self._facts.rows} on are not finite "
                    f"({name}). Look at the data there, or at the teacher's weights."
                )
            columns[name] = np.clip(values, -limit, limit) if values.dtype.kind == "f" else values
        self._store.append(self._facts, {**columns, EXAMPLES: digests})


def _output_columns(index: int, output: StoredOutput, values: np.ndarray) -> dict[str, np.ndarray]:
    if output.top_k is None:
        softened = tf.nn.log_softmax(values).numpy() if output.activation == "softmax" else values
        return {values_file(index): softened}
    values = tf.nn.log_softmax(values).numpy()
    classes = np.argsort(-values, axis=-1, kind="stable")[..., : output.top_k]
    return {values_file(index): np.take_along_axis(values, classes, axis=-1), classes_file(index): classes}


def _stored_outputs(teacher, activation, top_k) -> list[StoredOutput]:
    outputs = outputs_of(teacher, activation)
    names = [output.name for output in outputs]
    wanted = top_k if isinstance(top_k, Mapping) else dict.fromkeys(names, top_k)
    check_names(wanted, names, "top_k")
    stored = []
    for output in outputs:
        shape, count = _fixed(f"Output {output.name!r}", output.shape), wanted.get(output.name)
        is_count = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= shape[-1]
        if count is not None and (not is_count or output.activation == "sigmoid"):
            raise ValueError(
                f"`top_k` must be between 1 and the {shape[-1]} classes of a softmax. Received: "
                f"top_k={top_k!r}, an output {output.name!r} with activation {output.activation!r}."
            )
        stored.append(StoredOutput(output.name, shape, output.activation, count))
    return stored


def _fixed(what: str, shape: Sequence) -> tuple[int, ...]:
    if None in shape[1:]:
        raise ValueError(f"SoftLabels stores answers of fixed size. {what} of the teacher has shape {shape}.")
    return tuple(shape[1:])


def _checked_epochs(epochs, augment) -> int:
    if augment is None and epochs != 1:
        raise ValueError(f"Without `augment` all epochs are alike. Received: epochs={epochs}. Leave it at 1.")
    return check_count("epochs", epochs)


def _check_counts(counts: list[int]) -> None:
    if counts[0] == 0:
        raise ValueError("The data is empty: not a single example could be read from it.")
    if counts[-1] != counts[0]:
        raise ValueError(
            f"Pass {len(counts)} over the data gave {counts[-1]} examples, the first {counts[0]}. Give data "
            "that can be read again, such as arrays or a function that returns a generator."
        )
