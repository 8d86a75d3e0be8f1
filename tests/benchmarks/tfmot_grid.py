"""What tfmot offers for the same end: a grid of sparsities, each pruned, then trained quantization-aware."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.squeeze_tasks import BATCH_SIZE, Task
from tfsqueeze.models.legacy import import_tfmot

SPARSITIES = (0.0, 0.5, 0.8, 0.9)
RATE = 1e-4
FREQUENCY = 20


def grid(task: Task, epochs: int, folder: Path, sparsities=SPARSITIES) -> Iterator[tuple[float, Path]]:
    """Makes one int8 file per sparsity.

    Pruning takes the first half of the epochs, the training that keeps the zeros and rounds the second, as
    tfmot's guide to combining the two has it.

    Args:
        task: what to make smaller.
        epochs: of each setting, >= 1.
        folder: for the files.
        sparsities: fractions of zeros.

    Yields:
        Seconds since the beginning, and a file.
    """
    begin = time.monotonic()
    for sparsity in sparsities:
        path = folder / f"tfmot-{sparsity:g}.tflite"
        path.write_bytes(_converted(_trained(task, sparsity, epochs)))
        yield time.monotonic() - begin, path


def _trained(task: Task, sparsity: float, epochs: int):
    quantization = import_tfmot().quantization.keras
    import tf_keras

    model = task.twin(tf_keras)
    if not sparsity:
        return _fitted(quantization.quantize_model(model), task, epochs)
    half = max(epochs // 2, 1)
    scheme = import_tfmot().experimental.combine.Default8BitPrunePreserveQuantizeScheme()
    annotated = quantization.quantize_annotate_model(_pruned(model, task, sparsity, half))
    return _fitted(quantization.quantize_apply(annotated, scheme), task, max(epochs - half, 1))


def _pruned(model, task: Task, sparsity: float, epochs: int):
    sparse = import_tfmot().sparsity.keras
    # Half of the epochs to get there, the other half to recover.
    end = max(_steps(task, epochs) // 2, 1)
    schedule = sparse.PolynomialDecay(0.0, sparsity, 0, end, frequency=min(FREQUENCY, end))
    wrapped = sparse.prune_low_magnitude(model, pruning_schedule=schedule)
    return sparse.strip_pruning(_fitted(wrapped, task, epochs, [sparse.UpdatePruningStep()]))


def _fitted(model, task: Task, epochs: int, callbacks=()):
    import tf_keras

    model.compile(tf_keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = {"x": task.train}
    if isinstance(task.train, tuple):
        data = {"x": task.train[0], "y": task.train[1], "batch_size": BATCH_SIZE}
    model.fit(**data, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model


def _steps(task: Task, epochs: int) -> int:
    if isinstance(task.train, tuple):
        return -(-len(task.train[0]) // BATCH_SIZE) * epochs
    return int(task.train.cardinality()) * epochs


def _converted(model) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()
