"""The largest batch that fits in memory."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core import devices
from tfsqueeze.core.checks import UnsupportedModelError, check_count, check_model, check_positive
from tfsqueeze.core.data import collect, input_specs, pack_inputs, random_examples
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.trained import trained_model
from tfsqueeze.precision.memory import available_memory
from tfsqueeze.precision.trial import child_trials

SMALLEST_MEMORY = 50e6


def largest_batch(
    model: keras.Model,
    data: Any = None,
    *,
    memory: float | None = None,
    training: bool | None = None,
    limit: int = 1024,
) -> int:
    """Finds the largest batch whose training step, or prediction, fits in memory.

    Sizes are doubled until one does not fit, then the gap is halved. Of more than 8 examples the result is
    a multiple of an eighth of the power of two below it (..., 64, 72, 80, ..., 128, 144, ...), so it is at
    most an eighth below the true limit. All steps run on a copy of the model. On a CPU they run in a child
    process that ends itself when it holds too much, so that nothing happens to your program; a GPU that runs
    out of memory only says so.

    Args:
        model: a built model, compiled if its training is asked for; also a `tfs.Distiller`.
        data: examples in the form `model.fit` takes, of which the first is repeated; None for random
            inputs, with targets of the shape of the outputs. Free axes of random inputs are 32 long.
        memory: bytes that the whole process that trains may hold, TensorFlow itself included (some hundred
            million); None for 80 % of what is free now. On a GPU: what may be allocated there, None for all.
        training: whether a training step or a prediction must fit; None for training if it is compiled.
        limit: the largest batch tried, >= 1.

    Returns:
        The batch size, at most `limit`.

    Raises:
        ValueError: if not even a single example fits, training is asked of a model that is not
            compiled, or a number is out of range.
        UnsupportedModelError: if the step cannot be traced for a free batch size.

    Example:
        >>> half = tfs.with_precision(model, "bfloat16")
        >>> half.fit(x, y, batch_size=tfs.largest_batch(half, (x, y)))
    """
    check_model(model, "largest_batch()", alone=False)
    check_count("limit", limit)
    if memory is not None and check_positive("memory", memory) < SMALLEST_MEMORY:
        raise ValueError(f"`memory` is in bytes, 4e9 for 4 GB. Received: memory={memory!r}.")
    training = model.compiled if training is None else training
    if training and not model.compiled:
        raise ValueError(
            "largest_batch() needs a compiled model to try training steps, but this one is not compiled. "
            "Call `model.compile(optimizer, loss)`, or pass training=False for predictions."
        )
    twin = rewrite(model)
    example = _example(twin, data, training)
    with _trials(twin, example, training, memory) as fits:
        found = search(fits, limit)
    if found == 0:
        bound = f"{memory or available_memory():.3g} bytes"
        raise ValueError(
            f"Not even a batch of 1 fits in {bound}, TensorFlow itself included. Give more `memory`, make "
            "the inputs smaller (tfs.with_input_size), or compute in half precision (tfs.with_precision)."
        )
    return found


def search(fits: Callable[[int], bool], limit: int) -> int:
    """The largest size that fits, to an eighth; 0 if none does."""
    good, size = 0, 1
    while size <= limit and fits(size):
        good, size = size, size * 2
    if good == 0 or good == limit:
        return good
    bad = min(size, limit + 1)
    step = max(1, good // 8)
    while bad - good > step:
        middle = good + max(step, (bad - good) // 2 // step * step)
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def _example(model, data, training: bool) -> tuple:
    """Inputs, and for training targets and weights, of one example."""
    specs = input_specs(trained_model(model))
    examples = random_examples(specs, 1) if data is None else collect(data, specs, limit=1)
    inputs = pack_inputs(trained_model(model), examples.inputs)
    if not training:
        return (inputs,)
    targets = examples.targets
    if targets is None and data is None:
        targets = keras.tree.map_structure(lambda y: np.zeros(y.shape, "float32"), model(inputs))
    return (inputs, targets) if examples.weights is None else (inputs, targets, examples.weights)


@contextlib.contextmanager
def _trials(model, example, training, memory) -> Iterator[Callable[[int], bool]]:
    if devices.has_gpu():
        yield lambda size: _fits_gpu(model, example, training, size, memory)
        return
    step, owner = _traced(model, example, training)
    flat = [np.asarray(array) for array in keras.tree.flatten(example)]
    with child_trials(step, step.graph.variables, flat, owner, int(memory or available_memory())) as trials:
        yield trials.fits


def _traced(model, example, training) -> tuple:
    """The step as a concrete function of flat tensors with a free batch axis."""
    if training:
        # Builds the variables of optimizer and metrics, and shows mistakes in the data where they are plain.
        _try_training(model, example)
    specs = [
        tf.TensorSpec((None, *np.shape(a)[1:]), np.asarray(a).dtype) for a in keras.tree.flatten(example)
    ]

    def step(*tensors):
        batch = keras.tree.pack_sequence_as(example, list(tensors))
        results = model.train_step(batch) if training else model(*batch, training=False)
        return [tf.convert_to_tensor(result) for result in keras.tree.flatten(results)]

    try:
        function = tf.function(step, input_signature=specs, autograph=False)
        return function.get_concrete_function(), model
    except Exception as error:
        raise UnsupportedModelError(
            f"The step of model {model.name!r} cannot be traced for a free batch size: {error}"
        ) from error


def _try_training(model, example) -> None:
    try:
        model.train_on_batch(*example)
    except Exception as error:
        raise ValueError(
            f"Model {model.name!r} cannot be trained on the example: {error} Pass `data` as to `model.fit`: "
            "targets made up from the shape of the outputs do not suit every loss."
        ) from error


def _fits_gpu(model, example, training, size: int, memory) -> bool:
    batch = keras.tree.map_structure(lambda array: np.repeat(np.asarray(array), size, axis=0), example)
    try:
        tf.config.experimental.reset_memory_stats("GPU:0")
        if training:
            model.train_on_batch(*batch)
        else:
            model.predict_on_batch(*batch)
    except tf.errors.ResourceExhaustedError:
        return False
    return memory is None or tf.config.experimental.get_memory_info("GPU:0")["peak"] <= memory
