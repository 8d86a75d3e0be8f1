"""What TensorFlow computes on, and how Keras models are run there."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


def has_gpu() -> bool:
    """Whether TensorFlow computes on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def on_cpu() -> bool:
    """Whether TensorFlow has nothing but the CPU."""
    return not has_gpu() and not tf.config.list_logical_devices("TPU")


@contextlib.contextmanager
def without_xla_on_cpu(model: keras.Model) -> Iterator[None]:
    """Where there is only a CPU, what the model does within runs without XLA.

    Keras compiles with XLA wherever it can, `compile` leaves no trace of whether that was asked for, and on
    CPUs it costs: a depthwise convolution takes ten times as long, and each new model is compiled for seconds
    to minutes. Afterwards the model is as it was.

    Args:
        model: a model about to be trained or to predict.
    """
    if not on_cpu():
        yield
        return
    names = ("_jit_compile", "train_function", "test_function", "predict_function")
    before = {name: getattr(model, name) for name in names}
    for name in names:
        setattr(model, name, None)
    model.jit_compile = False
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)
