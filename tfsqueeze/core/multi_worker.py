"""Training by several processes, which Keras' own `fit` does not get through."""

import contextlib
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import keras
import tensorflow as tf

TESTED_KERAS = "3.15"


@contextlib.contextmanager
def multi_worker_fit() -> Iterator[None]:
    """Lets `fit`, `evaluate` and `predict` run under `tf.distribute.MultiWorkerMirroredStrategy`.

    Keras 3 fails there twice, before the first step and at the end of each: it hands batches that are spread
    over the devices of several processes to operations for tensors, and averages the logs, which are scalars,
    over a batch axis. Within this context it builds models from the batch of the first device here, and takes
    the plain mean of the logs over all devices. Nothing else changes; trainings without that strategy go as
    always.

    Every process runs the same program with its own `TF_CONFIG`. Make the model, and what trains it, in the
    strategy's scope. Weights are equal in all processes after every step; moving statistics of batch
    normalisation are those of each process's own share. Save in the first process only.

    Returns:
        A context manager.

    Raises:
        RuntimeError: this version of Keras has no such places to mend.

    Warns:
        UserWarning: this was not tested with the installed minor version of Keras.

    Example:
        ```python
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        with strategy.scope():
            model = build()
            model.compile("adam", "sparse_categorical_crossentropy")
        with tfs.multi_worker_fit():
            model.fit(x_train, y_train, epochs=5, callbacks=[tfs.PruningCallback(0.8)])
        ```

    Source: https://github.com/keras-team/keras/issues/20585
    """
    trainer = _known_trainer()
    reduce, build = trainer.reduce_per_replica, trainer.TensorFlowTrainer._maybe_symbolic_build
    trainer.reduce_per_replica = _mean_over_processes(reduce)
    trainer.TensorFlowTrainer._maybe_symbolic_build = _build_from_one_device
    try:
        yield
    finally:
        trainer.reduce_per_replica = reduce
        trainer.TensorFlowTrainer._maybe_symbolic_build = build


def _known_trainer() -> ModuleType:
    """Keras' trainer for TensorFlow, if it is made as expected."""
    from keras.src.backend.tensorflow import trainer

    names = (trainer, "reduce_per_replica"), (trainer.TensorFlowTrainer, "_maybe_symbolic_build")
    if not all(hasattr(place, name) for place, name in names):
        raise RuntimeError(
            f"`multi_worker_fit` mends the training of Keras {TESTED_KERAS}; Keras {keras.__version__} is "
            "made otherwise. Call `fit` without it, or install that version."
        )
    if not keras.__version__.startswith(f"{TESTED_KERAS}."):
        warnings.warn(
            f"`multi_worker_fit` was tested with Keras {TESTED_KERAS}, not with {keras.__version__}.",
            stacklevel=4,
        )
    return trainer


def _mean_over_processes(reduce_per_replica):
    """Keras' reduction, but for the mean, which is that of scalars over all devices."""

    def reduce(values: Any, strategy, reduction: str) -> Any:
        # Keras asks for "auto" where it means logs; predictions are put behind one another ("concat").
        if reduction == "auto" and _of_several_processes(strategy):
            return keras.tree.map_structure(lambda value: strategy.reduce("MEAN", value, axis=None), values)
        return reduce_per_replica(values, strategy, reduction)

    return reduce


def _build_from_one_device(trainer, iterator=None, data_batch=None) -> None:
    """Builds a model from the shapes of the batch that the first device here gets."""
    if trainer._distribute_strategy is None:
        return
    strategy = trainer.distribute_strategy
    if iterator is not None:
        _, _, batches = next(iter(iterator))
        data_batch = next(batches)
    data_batch = keras.tree.map_structure(
        lambda part: strategy.experimental_local_results(part)[0], data_batch
    )
    with strategy.scope():
        trainer._symbolic_build(data_batch=data_batch)


def _of_several_processes(strategy) -> bool:
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and strategy.num_replicas_in_sync > 1
    )
