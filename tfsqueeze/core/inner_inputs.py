"""What layers inside a model receive while it runs on data."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfsqueeze.core.data import Examples, pack_inputs


@dataclass(frozen=True)
class Received:
    """The arguments of one call of a layer, with the tensors as they are at run time."""

    args: tuple
    kwargs: dict[str, Any]

    @property
    def first(self):
        """The layer's first input."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()))


class InnerInputs:
    """Reads the inputs of layers anywhere inside a model, nested and composite layers included.

    The model runs eagerly, in inference mode, and only as far as the layer that is asked for.

    Args:
        model: any built model; its present weights are used whenever it is read.
        layers: the layers that will be asked for.
        examples: at least one example, to see once in which order the layers run.

    Attributes:
        order: those of `layers` that run and whose inputs can be read, in the order of their last calls.
    """

    def __init__(self, model: keras.Model, layers: Sequence[keras.Layer], examples: Examples):
        self._model = model
        calls = [layer for layer, _ in self._run(layers, examples[:1], None)]
        self._counts = {id(layer): calls.count(layer) for layer in calls}
        last_first = {id(layer): layer for layer in reversed(calls)}
        self.order: list[keras.Layer] = list(reversed(last_first.values()))

    def read(self, layer: keras.Layer, examples: Examples) -> list[Received]:
        """What `layer` receives for `examples`: one entry for each time it is called."""
        return self.read_all([layer], examples)[0]

    def read_all(self, layers: Sequence[keras.Layer], examples: Examples) -> list[list[Received]]:
        """What several layers receive in the same run, in the order they are given."""
        calls = self._run(layers, examples, sum(self._counts[id(layer)] for layer in layers))
        return [[received for called, received in calls if called is layer] for layer in layers]

    def _run(self, layers, examples, until) -> list[tuple[keras.Layer, Received]]:
        calls: list[tuple[keras.Layer, Received]] = []

        def take(layer, received):
            if _has_values(received):
                calls.append((layer, received))
                if len(calls) == until:
                    raise _Enough

        with contextlib.ExitStack() as stack:
            for layer in {id(layer): layer for layer in layers}.values():
                stack.enter_context(_watched(layer, take))
            stack.enter_context(contextlib.suppress(_Enough))
            self._model(pack_inputs(self._model, examples.inputs), training=False)
        return calls


def _has_values(received: Received) -> bool:
    """Not so inside a loop that TensorFlow traces."""
    tensors = [leaf for leaf in keras.tree.flatten((received.args, received.kwargs)) if tf.is_tensor(leaf)]
    return bool(tensors) and all(hasattr(tensor, "numpy") for tensor in tensors)


class _Enough(BaseException):
    """Ends a run early; Keras rewrites ordinary exceptions."""


@contextlib.contextmanager
def _watched(layer, take) -> Iterator[None]:
    original = layer.call

    def call(*args, **kwargs):
        take(layer, Received(args, kwargs))
        return original(*args, **kwargs)

    layer.call = call
    try:
        yield
    finally:
        del layer.call
