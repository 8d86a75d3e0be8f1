"""The spatial sizes of tensors: what they are in a model, and what they would be for other inputs."""

import functools
from collections.abc import Callable

import keras

from tfsqueeze.core.checks import UnsupportedModelError, has_graph

Shape = tuple[int | None, ...]


def graph_of(model: keras.Model):
    """The Functional graph of a Sequential or Functional model."""
    return getattr(model, "_functional", None) or model


def is_channels_first(model: keras.Model) -> bool:
    """Whether the layers of a model expect channels before the spatial axes."""
    formats = {getattr(layer, "data_format", None) for layer in model._flatten_layers()}
    return "channels_first" in formats


def spatial_size(shape: Shape, channels_first: bool = False) -> Shape:
    """The spatial axes of a shape (batch, *spatial, channels)."""
    return tuple(shape[2:] if channels_first else shape[1:-1])


def with_spatial_size(shape: Shape, size: Shape, channels_first: bool = False) -> Shape:
    """A shape with other spatial axes."""
    return (*shape[:2], *size) if channels_first else (shape[0], *size, shape[-1])


class Propagation:
    """Runs shapes through a model, nested ones included.

    Args:
        stand_in: returns a layer to compute with in the place of another, or None.

    Attributes:
        received: the shapes that each operation receives at its first call, by id.
    """

    def __init__(self, stand_in: Callable[[keras.Operation], keras.Layer | None]):
        self.received: dict[int, list[Shape]] = {}
        self._stand_in = stand_in

    def run(self, model: keras.Model, inputs):
        """Tensors without values that `model` would return for such inputs.

        Raises:
            UnsupportedModelError: if an operation refuses what it would receive; names it.
        """
        for tensor, old in zip(keras.tree.flatten(inputs), graph_of(model)._inputs, strict=True):
            self.received.setdefault(id(old._keras_history.operation), [tuple(tensor.shape)])
        return graph_of(model)._run_through_graph(
            inputs, lambda operation: functools.partial(self._call, operation)
        )

    def _call(self, operation, *args, **kwargs):
        tensors = [leaf for leaf in keras.tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
        self.received.setdefault(id(operation), [tuple(tensor.shape) for tensor in tensors])
        if isinstance(operation, keras.Model) and has_graph(operation):
            return self.run(
                operation, keras.tree.pack_sequence_as(graph_of(operation)._inputs_struct, tensors)
            )
        stand_in = self._stand_in(operation) or operation
        try:
            return stand_in.compute_output_spec(*args, **kwargs)
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise UnsupportedModelError(
                f"{operation.name!r} ({type(operation).__name__}) cannot take {shapes}: {reason}"
            ) from error
