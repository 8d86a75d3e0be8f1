"""Soft labels kept on disk: the teacher runs once, students learn from the file."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import check_choice, check_model
from tfsqueeze.core.data import Examples, InputSpec, collect, input_specs, pack_inputs, stream
from tfsqueeze.core.resuming import check_same_work, weights_digest
from tfsqueeze.distillation.activations import logits_of
from tfsqueeze.distillation.label_store import (
    CLASSES,
    DIGEST_BYTES,
    EXAMPLES,
    VALUES,
    Facts,
    LabelStore,
    example_digests,
)
from tfsqueeze.distillation.output_pairs import outputs_of
from tfsqueeze.distillation.stored_teacher import StoredTeacher

Augment = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class SoftLabels:
    """The logits of a teacher on a dataset, read from a folder that `SoftLabels.write` made.

    Given to `tfs.Distiller` as `teacher`; the data to fit on come from `dataset`, which brings examples and
    labels together. The files are mapped into memory, hold plain numbers, and are never executed.

    Args:
        path: the folder.

    Attributes:
        count: examples, in one pass over the data.

    Raises:
        ValueError: if there is no store, it is unfinished, truncated or damaged.

    Example:
        >>> labels = tfs.distillation.SoftLabels.write("labels", teacher, x, top_k=5)
        >>> distiller = tfs.Distiller(student, labels, alpha=0.9)
        >>> distiller.compile("adam", "sparse_categorical_crossentropy")
        >>> distiller.fit(labels.dataset(x, y, batch_size=128), epochs=10)
    """

    def __init__(self, path):
        self._store = LabelStore(path)
        facts = self._store.read_facts()
        if facts is None:
            raise ValueError(f"There are no soft labels in {str(path)!r}. Make them with SoftLabels.write().")
        if not facts.is_finished:
            raise ValueError(
                f"The soft labels in {str(path)!r} are unfinished ({facts.rows} rows). Call "
                "SoftLabels.write() with the same arguments to go on."
            )
        self._facts = facts
        self._columns = self._store.mapped(facts)
        self.count = facts.rows // facts.epochs

    @classmethod
    def write(
        cls,
        path,
        teacher: keras.Model,
        data,
        *,
        dtype: str = "float16",
        top_k: int | None = None,
        augment: Augment | None = None,
        epochs: int = 1,
        seed: int = 0,
        batch_size: int = 32,
    ) -> "SoftLabels":
        """Runs the teacher over the data and stores what it says; goes on where it was interrupted.

        Args:
            path: a folder, made if missing.
            teacher: a built model with one output.
            data: inputs in any form of `model.fit`, always in the same order; labels are not used.
            dtype: "float16" or "float32", of the stored logits.
            top_k: number of classes to store for each example; the others share the rest of the probability
                evenly. None stores all. For softmax classes only.
            augment: a TensorFlow function of one example and a seed (int64 tensor of two numbers) that
                returns the example changed, the same for the same seed (`tf.image.stateless_*`).
            epochs: passes over the data, each augmented differently; 1 without augmentation.
            seed: of the augmentation.
            batch_size: examples per call of the teacher.

        Raises:
            ValueError: if the folder holds labels of another teacher, other data or settings.
        """
        check_model(teacher, "SoftLabels.write()")
        check_choice("dtype", dtype, ("float16", "float32"))
        if augment is None and epochs != 1:
            raise ValueError(
                f"Without `augment` all epochs are alike. Received: epochs={epochs}. Leave it at 1."
            )
        store = LabelStore(path)
        facts = _begin(store, _new_facts(teacher, dtype, top_k, None if augment is None else seed, epochs))
        if not facts.is_finished:
            for inputs, digests in _unwritten(store, teacher, data, augment, facts, batch_size):
                _append(store, facts, teacher, inputs, digests)
            facts.is_finished = True
            store.write_facts(facts)
        return cls(path)

    def dataset(
        self,
        x,
        y=None,
        *,
        batch_size: int = 32,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> tf.data.Dataset:
        """Batches of (inputs, {"labels", "teacher"}) to fit a distiller on; one pass of all epochs.

        Args:
            x: the inputs the labels were made from, in the same order and any form (read into memory).
            y: labels, or None if `x` has them or there are none.
            batch_size: examples per batch.
            shuffle: whether to shuffle, within each epoch that was stored.
            augment: the function the labels were written with.
            seed: of the shuffling.

        Raises:
            ValueError: if the examples are not those the labels were made from, or in another order.
        """
        if (augment is None) != (self._facts.seed is None):
            raise ValueError(
                f"The soft labels were written {'without' if augment else 'with'} `augment`: give the same."
            )
        specs = [InputSpec(name, tuple(shape), dtype) for name, shape, dtype in self._facts.inputs]
        examples = collect(x if y is None else (x, y), specs)
        self._check_examples(examples)
        rows = tf.data.Dataset.range(self._facts.epochs).flat_map(
            lambda epoch: self._order(epoch, shuffle, seed)
        )
        return rows.batch(batch_size).map(lambda row: self._batch(examples, row, augment)).prefetch(2)

    def as_model(self) -> keras.Model:
        """What stands for the teacher in a distiller: a model of the stored logits."""
        return StoredTeacher((*self._facts.shape[:-1], self._facts.classes), self._facts.activation)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """The stored logits of some rows as float32, shape (rows, ..., classes)."""
        values = np.asarray(self._columns[VALUES][rows], "float32")
        if self._facts.top_k is None:
            return values
        rest = np.clip(1 - np.exp(values).sum(-1, keepdims=True), 1e-7, None)
        others = max(self._facts.classes - self._facts.top_k, 1)
        filled = np.repeat(np.log(rest / others), self._facts.classes, axis=-1).astype("float32")
        np.put_along_axis(filled, self._columns[CLASSES][rows].astype("int64"), values, axis=-1)
        return filled

    def _order(self, epoch, shuffle: bool, seed: int):
        order = tf.data.Dataset.range(self.count)
        if shuffle:
            order = order.shuffle(self.count, seed=seed, reshuffle_each_iteration=True)
        return order.map(lambda index: epoch * self.count + index)

    def _batch(self, examples: Examples, rows, augment):
        index = rows % self.count
        inputs = {name: tf.gather(array, index) for name, array in examples.inputs.items()}
        if augment is not None:
            inputs = _augment_batch(inputs, rows, self._facts.seed, augment)
        logits = tf.numpy_function(self.logits, [rows], tf.float32)
        logits.set_shape((None, *self._facts.shape[:-1], self._facts.classes))
        targets = {"teacher": logits}
        if examples.targets is not None:
            targets["labels"] = keras.tree.map_structure(
                lambda array: tf.gather(array, index), examples.targets
            )
        return (next(iter(inputs.values())) if len(inputs) == 1 else inputs), targets

    def _check_examples(self, examples: Examples) -> None:
        if len(examples) != self.count:
            raise ValueError(f"The soft labels are of {self.count} examples. Received: {len(examples)}.")
        different = (example_digests(examples.inputs) != self._columns[EXAMPLES][: self.count]).any(axis=1)
        if different.any():
            raise ValueError(
                f"{different.sum()} of {self.count} examples are not those the soft labels were made from "
                f"(the first one: {int(different.argmax())}). Give the same data, unshuffled, scaled as then."
            )


def _new_facts(teacher, dtype, top_k, seed, epochs) -> Facts:
    outputs = outputs_of(teacher)
    if len(outputs) != 1 or None in outputs[0].shape[1:]:
        shapes = {output.name: output.shape for output in outputs}
        raise ValueError(f"SoftLabels stores one output of fixed size. The teacher has {shapes}.")
    (output,) = outputs
    classes = output.shape[-1]
    if top_k is not None and not (output.activation != "sigmoid" and 1 <= top_k <= classes):
        raise ValueError(
            f"`top_k` must be between 1 and the {classes} classes of a softmax. Received: top_k={top_k}, "
            f"an output with activation {output.activation!r}."
        )
    shape = (*output.shape[1:-1], classes if top_k is None else top_k)
    inputs = [[spec.name, list(spec.shape), spec.dtype] for spec in input_specs(teacher)]
    return Facts(
        shape, classes, dtype, top_k, output.activation, inputs, weights_digest(teacher), seed, epochs
    )


def _begin(store: LabelStore, facts: Facts) -> Facts:
    stored = store.read_facts()
    if stored is not None:
        check_same_work(store.path, *({k: str(v) for k, v in f.settings().items()} for f in (stored, facts)))
        facts = stored
    if not facts.is_finished:
        store.begin(facts)
    return facts


def _unwritten(store, teacher, data, augment, facts: Facts, batch_size: int):
    """(inputs, digests) of every batch that is not stored yet; what is stored must be of the same data."""
    stored = np.array(store.mapped(facts)[EXAMPLES]) if facts.rows else np.empty((0, DIGEST_BYTES))
    row = 0
    for _ in range(facts.epochs):
        for batch in stream(data, input_specs(teacher), batch_size=batch_size):
            digests, rows = example_digests(batch.inputs), np.arange(row, row + len(batch))
            row += len(batch)
            known = stored[rows[0] : rows[-1] + 1]
            if (digests[: len(known)] != known).any():
                raise ValueError(
                    f"{str(store.path)!r} holds soft labels of other data, or in another order. Give the "
                    "same data, unshuffled, or another folder."
                )
            inputs = {name: array[len(known) :] for name, array in batch.inputs.items()}
            if len(known) == len(batch):
                continue
            if augment is not None:
                inputs = _augment_batch(inputs, tf.constant(rows[len(known) :]), facts.seed, augment)
            yield inputs, digests[len(known) :]
    if row == 0:
        raise ValueError("The data is empty: not a single example could be read from it.")


def _append(store, facts, teacher, inputs, digests) -> None:
    outputs = teacher(pack_inputs(teacher, inputs), training=False)
    logits = keras.tree.flatten(outputs)[0]
    values = tf.convert_to_tensor(logits_of(logits, facts.activation)).numpy()
    columns = {EXAMPLES: digests}
    if facts.top_k is not None:
        values = tf.nn.log_softmax(values).numpy()
        columns[CLASSES] = np.argsort(-values, axis=-1)[..., : facts.top_k]
        values = np.take_along_axis(values, columns[CLASSES], axis=-1)
    elif facts.activation == "softmax":
        values = tf.nn.log_softmax(values).numpy()
    limit = np.finfo(facts.dtype).max
    store.append(facts, {**columns, VALUES: np.clip(values, -limit, limit)})


def _augment_batch(inputs, rows, seed: int, augment):
    seeds = tf.stack([tf.fill(tf.shape(rows), tf.constant(seed, tf.int64)), tf.cast(rows, tf.int64)], axis=1)
    return {
        name: tf.map_fn(
            lambda both: augment(both[0], both[1]),
            (value, seeds),
            fn_output_signature=tf.as_dtype(value.dtype),
        )
        for name, value in inputs.items()
    }
