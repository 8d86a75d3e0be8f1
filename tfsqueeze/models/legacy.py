"""Reading with Keras 2: `tf_keras` and tfmot, imported only when a file or model needs them.

Both leave traces that would change the user's program, so everything here restores what it finds.
"""

import contextlib
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging as absl_logging
from tensorflow.python.eager import context

from tfsqueeze.models.stand_in import with_stand_ins

_TFMOT_CLASSES = (
    "PruneLowMagnitude",
    "ClusterWeights",
    "QuantizeWrapper",
    "QuantizeLayer",
    "QuantizeAnnotate",
)


def is_legacy_model(model) -> bool:
    """Whether `model` is a `tf_keras` model (told without importing tf_keras)."""
    kinds = type(model).__mro__
    return any(kind.__name__ == "Model" and kind.__module__.startswith("tf_keras.") for kind in kinds)


def mentions_tfmot(text: bytes) -> bool:
    """Whether a saved configuration speaks of tfmot's wrappers."""
    return any(name.encode() in text for name in _TFMOT_CLASSES)


def read_with_tf_keras(path: Path, custom_objects: Mapping, *, safe_mode: bool, tfmot: bool):
    """Reads a saved Keras 2 model.

    Args:
        path: a `.keras` or `.h5` file or a SavedModel folder.
        custom_objects: the user's classes and functions by name, of Keras 2 or 3.
        safe_mode: whether to refuse Lambda layers saved as Python bytecode.
        tfmot: whether tfmot's wrapper classes are needed.

    Returns:
        The `tf_keras` model, compiled if its compile settings can be read.
    """
    import tf_keras
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    with contextlib.ExitStack() as scopes:
        if tfmot:
            _enter_tfmot_scopes(scopes)
        scopes.enter_context(tf_keras.utils.custom_object_scope(with_stand_ins(custom_objects)))
        scopes.enter_context(SafeModeScope(safe_mode))
        options = {"safe_mode": safe_mode} if path.suffix == ".keras" else {}
        try:
            return tf_keras.models.load_model(str(path), compile=True, **options)
        except Exception:
            return tf_keras.models.load_model(str(path), compile=False, **options)


def _enter_tfmot_scopes(scopes) -> None:
    tfmot = import_tfmot()
    scopes.enter_context(tfmot.sparsity.keras.prune_scope())
    scopes.enter_context(tfmot.clustering.keras.cluster_scope())
    scopes.enter_context(tfmot.quantization.keras.quantize_scope())


def import_tfmot():
    """Imports tensorflow_model_optimization without letting it turn `tf.keras` into Keras 2.

    It sets TF_USE_LEGACY_KERAS when imported, and `tf.keras` reads that variable when it is first
    touched: so it must have been touched before.
    """
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    _ = tf.keras.layers
    try:
        import tensorflow_model_optimization as tfmot
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return tfmot


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Runs a block without notices, with random state, dtype policy and log levels afterwards as before."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    operation_seeds = getattr(context.context(), "_rng", None)
    tensorflow_state = operation_seeds and operation_seeds.getstate()
    policy, verbosity, logger = keras.config.dtype_policy(), absl_logging.get_verbosity(), tf.get_logger()
    level = logger.level
    absl_logging.set_verbosity(absl_logging.FATAL)
    logger.setLevel("FATAL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if operation_seeds is not None:
            operation_seeds.setstate(tensorflow_state)
        keras.config.set_dtype_policy(policy)
        absl_logging.set_verbosity(verbosity)
        logger.setLevel(level)


@contextlib.contextmanager
def unchanged(model) -> Iterator[None]:
    """Runs a block on a `tf_keras` model and puts its weights and recurrent states back afterwards."""
    variables = [variable for variable in model.variables if isinstance(variable, tf.Variable)]
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            variables += [
                state for state in tf.nest.flatten(getattr(layer, "states", [])) if state is not None
            ]
    values = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
