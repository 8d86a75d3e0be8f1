"""Soft labels kept on disk: the teacher runs once, students learn from the file."""

from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import check_count
from tfsqueeze.core.data import InputSpec, arrays, collect, stream
from tfsqueeze.distillation.augmenting import Augment, are_same_marks, augmented, marks_of
from tfsqueeze.distillation.label_batches import numbered_batches
from tfsqueeze.distillation.label_store import (
    EXAMPLES,
    REMEDY,
    LabelStore,
    classes_file,
    features_file,
    values_file,
)
from tfsqueeze.distillation.label_writing import LabelWriter
from tfsqueeze.distillation.output_pairs import check_names
from tfsqueeze.distillation.stored_teacher import StoredTeacher


class SoftLabels:
    """What a teacher says of a dataset, read from a folder that `SoftLabels.write` made.

    Given to `tfs.Distiller` as `teacher`; the data to fit on come from `dataset`, which brings examples and
    answers together. The files are mapped into memory, hold plain numbers, and are never executed.

    Args:
        path: the folder.

    Attributes:
        count: examples, in one pass over the data.

    Raises:
        ValueError: if there is no store, it is unfinished, truncated, damaged or something else.

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
        features: str | Sequence[str] = (),
        dtype: str = "float16",
        top_k: int | Mapping[str, int] | None = None,
        activation: str | Mapping[str, str] | None = None,
        augment: Augment | None = None,
        epochs: int = 1,
        seed: int = 0,
        batch_size: int = 32,
    ) -> "SoftLabels":
        """Runs the teacher over the data and stores what it says; goes on where it was interrupted.

        Args:
            path: a folder, made if missing.
            teacher: a built model, its outputs and features of fixed size.
            data: inputs in any form of `model.fit`, always in the same order; labels are not used.
            features: names or paths of layers whose features are stored too, for losses on them.
            dtype: "float16" or "float32", of the stored numbers.
            top_k: number of classes to store for each example; the others share the rest of the probability
                evenly. A number or a dict by output; None stores all. For softmax classes only.
            activation: "softmax", "sigmoid" or "linear" (logits), or a dict by output; None to read it from
                the last layers.
            augment: a TensorFlow function of one example and a seed (int64 tensor of two numbers) that
                returns the example changed, the same for the same seed (`tf.image.stateless_*`).
            epochs: passes over the data, each augmented differently; 1 without augmentation.
            seed: of the augmentation.
            batch_size: examples per call of the teacher.

        Raises:
            ValueError: if a layer is not there, a setting is out of range, or the folder holds labels of
                another teacher, other data or settings, or something else.
        """
        options = {"dtype": dtype, "top_k": top_k, "activation": activation}
        passes = {"augment": augment, "epochs": epochs, "seed": seed}
        LabelWriter(path, teacher, features=features, **options, **passes).write(data, batch_size)
        return cls(path)

    def dataset(
        self,
        x,
        y=None,
        sample_weight=None,
        *,
        batch_size: int = 32,
        shuffle: bool | int = True,
        augment: Augment | None = None,
        seed: int = 0,
    ) -> tf.data.Dataset:
        """Batches of (inputs, {"labels", "teacher"}) to fit a distiller on; one pass of all epochs.

        Neither examples nor answers are read into memory: both are cut from arrays where they are (in memory
        or mapped from a file), or read along from a dataset.

        Args:
            x: the inputs the labels were made from, in the same order and any form. Only of an iterator that
                can be read just once, such as a generator, everything is kept in memory: give the function.
            y: labels as arrays, or None if `x` has them or there are none: then the teacher alone teaches.
            sample_weight: a weight for each example as an array, or None.
            batch_size: examples per batch.
            shuffle: whether to shuffle, arrays within each epoch that was stored. What can only be read in
                order is shuffled in a buffer of 1,024 examples, or as many as are given here.
            augment: the function the labels were written with.
            seed: of the shuffling.

        Raises:
            ValueError: if the examples are not those the labels were made from, or in another order; of data
                that are read in order, the first batch is looked at now and the rest while training.
        """
        if (augment is None) != (self._facts.seed is None):
            raise ValueError(
                f"The soft labels were written {'without' if augment else 'with'} `augment`: give the same."
            )
        if not isinstance(shuffle, bool):
            check_count("shuffle", shuffle)
        specs = [InputSpec(name, tuple(shape), dtype) for name, shape, dtype in self._facts.inputs]
        data = _joined(x, y, sample_weight, specs)
        batches = numbered_batches(
            data,
            specs,
            self._columns[EXAMPLES][: self.count],
            self._facts.epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
        )
        if augment is not None:
            self._check_augment(next(stream(data, specs)).inputs, augment)
        batches = batches.map(
            lambda rows, parts: self._batch(rows, parts, augment), num_parallel_calls=tf.data.AUTOTUNE
        )
        # Known to Keras, which otherwise takes the end of the data for a mistake.
        known = tf.data.experimental.assert_cardinality(-(-self._facts.rows // batch_size))
        return batches.apply(known).prefetch(tf.data.AUTOTUNE)

    def as_model(self) -> StoredTeacher:
        """What stands for the teacher in a distiller: a model of the stored answers."""
        outputs = [(output.name, output.shape, output.activation) for output in self._facts.outputs]
        return StoredTeacher(outputs, self._facts.features)

    def logits(self, rows: np.ndarray, output: str | None = None) -> np.ndarray:
        """The stored logits (or values) of some rows as float32, shape (rows, ..., classes).

        Args:
            rows: indices of examples; those of the second stored pass begin at `count`.
            output: name of the output; None for the only one.
        """
        names = [stored.name for stored in self._facts.outputs]
        if output is None and len(names) > 1:
            raise ValueError(f"The teacher has outputs {names}: name one as `output`.")
        check_names([] if output is None else [output], names, "output")
        return self._logits(rows, 0 if output is None else names.index(output))

    def features(self, rows: np.ndarray, layer: str) -> np.ndarray:
        """The stored features of a layer for some rows as float32, shape (rows, ...)."""
        layers = list(self._facts.features)
        if layer not in layers:
            raise ValueError(
                f"The features of layer {layer!r} are not stored. Stored are: {layers or 'none'}."
            )
        return np.asarray(self._columns[features_file(layers.index(layer))][rows], "float32")

    def _logits(self, rows, index: int) -> np.ndarray:
        output = self._facts.outputs[index]
        values = np.asarray(self._columns[values_file(index)][rows], "float32")
        if output.top_k is None:
            return values
        classes, total = self._columns[classes_file(index)][rows].astype("int64"), output.shape[-1]
        if (classes >= total).any():
            raise ValueError(f"{str(self._store.path)!r} is damaged: it holds unknown classes. {REMEDY}")
        rest = np.clip(1 - np.exp(values).sum(-1, keepdims=True), 1e-7, None)
        filled = np.repeat(np.log(rest / max(total - output.top_k, 1)), total, axis=-1).astype("float32")
        np.put_along_axis(filled, classes, values, axis=-1)
        return filled

    def _batch(self, rows, parts: dict, augment):
        inputs = parts["inputs"]
        if augment is not None:
            inputs = augmented(inputs, rows, self._facts.seed, augment)
        inputs = next(iter(inputs.values())) if len(inputs) == 1 else inputs
        targets = {"teacher": self._answers(rows)}
        if "targets" in parts:
            targets["labels"] = parts["targets"]
        return (inputs, targets, parts["weights"]) if "weights" in parts else (inputs, targets)

    def _check_augment(self, inputs, augment) -> None:
        if not are_same_marks(self._facts.marks, marks_of(inputs, self._facts.seed, augment)):
            raise ValueError(
                "`augment` makes something else of the first examples than what the soft labels were made "
                "from. Give the function they were written with, and the same data in the same order."
            )

    def _answers(self, rows) -> dict[str, tuple]:
        """Tensors of the stored rows; their shapes are known, which compiled steps need."""
        outputs, layers = self._facts.outputs, list(self._facts.features)

        def read(rows):
            answers = [self._logits(rows, index) for index in range(len(outputs))]
            return answers + [self.features(rows, layer) for layer in layers]

        shapes = [output.shape for output in outputs] + list(self._facts.features.values())
        tensors = tf.numpy_function(read, [rows], [tf.float32] * len(shapes))
        for tensor, shape in zip(tensors, shapes, strict=True):
            tensor.set_shape((None, *shape))
        answers = {"outputs": tuple(tensors[: len(outputs)])}
        return {**answers, "features": tuple(tensors[len(outputs) :])} if layers else answers


def _joined(x, y, sample_weight, specs):
    """The arguments of `dataset` as one form of data that can be read again."""
    x = collect(x, specs) if isinstance(x, Iterator) else x
    if y is None and sample_weight is None:
        return x
    if arrays(x, specs) is None:
        raise ValueError(
            "`y` and `sample_weight` go with arrays. A dataset, generator or PyDataset brings its own: "
            f"(x, y) or (x, y, sample_weight). Received: x of {type(x).__name__}."
        )
    return (x, y, sample_weight) if sample_weight is not None else (x, y)
