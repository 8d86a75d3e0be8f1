"""Keeping the weights of layers that still fit after the shapes around them have changed."""

import keras
from keras.src.models.functional import functional_like_constructor

from tfsqueeze.core import copying
from tfsqueeze.core.checks import UnsupportedModelError


class CarryOver:
    """For `rewrite(replace=, transfer=)`: copies of all layers, with the old weights where they fit.

    Attributes:
        misfits: old and new shape of the first weight that does not fit, by layer.
    """

    def __init__(self):
        self.misfits: dict[keras.Layer, tuple[tuple, tuple]] = {}

    def replace(self, layer: keras.Layer) -> keras.Layer | None:
        """An unbuilt copy of a layer that has weights."""
        return copying.copy_layer(layer) if layer.weights else None

    def transfer(self, old: keras.Layer, new_layers: list[keras.Layer]) -> None:
        """Copies the state, or notes that it does not fit and leaves the new weights."""
        if not new_layers:
            return
        olds, news = ([tuple(w.shape) for w in layer.weights] for layer in (old, new_layers[0]))
        misfit = next(((a, b) for a, b in zip(olds, news, strict=False) if a != b), None)
        if misfit is None:
            copying.copy_state(old, new_layers[0])
        else:
            self.misfits[old] = misfit
            new_layers[0].trainable = old.trainable


def class_of(model: keras.Model) -> type[keras.Model]:
    """The class to make a model of the same kind from inputs and outputs: the user's own if it allows it."""
    own = functional_like_constructor(type(model)) and not isinstance(model, keras.Sequential)
    return type(model) if own else keras.Model


def source_of(layer: keras.Operation, types: tuple[type, ...]) -> keras.Operation | None:
    """The nearest operation of one of `types` before `layer` in its graph."""
    pending, seen = [layer], set()
    while pending:
        operation = pending.pop(0)
        if isinstance(operation, types):
            return operation
        if id(operation) not in seen:
            seen.add(id(operation))
            pending += [
                tensor._keras_history.operation
                for node in operation._inbound_nodes
                for tensor in node.input_tensors
            ]
    return None


def does_not_fit(model, change: str, error: Exception, hint: str) -> UnsupportedModelError:
    """An error for graphs whose parts do not meet any more."""
    return UnsupportedModelError(
        f"Model {model.name!r} does not fit together {change}: {error} {hint}".strip()
    )
