"""A model again from new random initial weights."""

import contextlib
import random
from collections.abc import Iterator

import keras

from tfsqueeze.core import copying
from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.rewrite import build_like, rewrite


def with_new_weights(model: keras.Model, seed: int) -> keras.Model:
    """A copy of `model` whose trainable weights are drawn anew from their layers' initializers.

    What is not trained stays as it is: frozen layers, the statistics of normalisation, vocabularies.

    Args:
        model: a built model; it is not changed.
        seed: of the draw; it takes the place of seeds in the initializers too. The program's own random
            state is left as it was.

    Example:
        >>> other = with_new_weights(model, seed=1)
    """
    with _python_random(seed):
        drawn, twin = _drawn_anew(model), rewrite(model)
    for variable, new in zip(twin.weights, drawn.weights, strict=True):
        if variable.trainable:
            variable.assign(new)
    return twin


def _drawn_anew(model) -> keras.Model:
    if has_graph(model):
        return rewrite(model, _unseeded)
    twin = _unseeded(model) or copying.copy_layer(model)
    build_like(model, twin)
    return twin


def _unseeded(layer):
    """An unbuilt copy whose initializers draw new numbers; None for layers without trained weights."""
    if not layer.trainable_variables:
        return None
    twin = copying.copy_layer(layer)
    for part in twin._flatten_layers(include_self=True, recursive=True):
        for value in vars(part).values():
            if isinstance(value, keras.initializers.Initializer) and getattr(value, "_init_seed", None):
                # Both: layers that build others from their configuration hand on the seed it holds.
                value.seed = value._init_seed = random.randint(1, 10**9)
    return twin


@contextlib.contextmanager
def _python_random(seed: int) -> Iterator[None]:
    """Keras takes the seeds of initializers that have none from Python's generator."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
