"""Features inside a model, caught while the model runs once."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
from keras.src.models.functional import operation_fn

from tfsqueeze.core.checks import UnsupportedModelError, did_you_mean, has_graph


@dataclass(frozen=True)
class Place:
    """An operation of a model's graph: its path ("backbone/conv3"), short name and output shape."""

    path: str
    name: str
    shape: tuple


class Capture:
    """Runs a model and catches what some of its layers return, in the same pass.

    The graph is walked with the batch itself, nested models too, so nothing is added to the model. Of a
    layer that is called several times, the first call counts.

    Args:
        model: any model where no layers are asked for, else one with a graph.
        layers: names or paths of layers.
        role: "student" or "teacher", for error messages.

    Raises:
        UnsupportedModelError: if layers are asked for and the model has no graph.
        ValueError: if it has no such layer in its graph.
    """

    def __init__(self, model: keras.Model, layers: set[str], role: str):
        self._model = model
        if layers and not has_graph(model):
            raise UnsupportedModelError(
                f"Losses on layers ({sorted(layers)}) need the graph of a Sequential or Functional model. "
                f"The {role} {model.name!r} is a subclassed {type(model).__name__}: of such models only "
                "outputs can be compared (SoftTargets(), LogitRegression(), RelationalDistance())."
            )
        places = list(_places(model)) if layers else []
        self._places = {layer: _find(layer, places, role, model) for layer in layers}

    def shape(self, layer: str) -> tuple:
        """Shape of what a layer returns, batch axis first, None where free."""
        return self._places[layer].shape

    def __call__(self, inputs, training: bool):
        """The model's outputs, and a dict with what each layer returned."""
        if not self._places:
            return self._model(inputs, training=training), {}
        found: dict = {}
        wanted = {place.path for place in self._places.values()}
        outputs = _run(self._model, inputs, training, wanted, "", found)
        return outputs, {layer: found[place.path] for layer, place in self._places.items()}


def _graph(model):
    return getattr(model, "_functional", None) or model


def _is_nested(operation) -> bool:
    return isinstance(operation, keras.Model) and has_graph(operation)


def _places(model, prefix: str = "") -> Iterator[Place]:
    depths = _graph(model)._nodes_by_depth
    for node in (node for depth in sorted(depths, reverse=True) for node in depths[depth]):
        operation = node.operation
        path = f"{prefix}{operation.name}"
        yield Place(path, operation.name, tuple(node.outputs[0].shape))
        if _is_nested(operation):
            yield from _places(operation, f"{path}/")


def _find(layer: str, places: list[Place], role: str, model) -> Place:
    """By path, or by a name that only one operation has; among equal paths the first call counts."""
    by_path = [place for place in places if place.path == layer]
    by_name = [place for place in places if place.name == layer]
    if not by_path and len({place.path for place in by_name}) > 1:
        raise ValueError(
            f"The {role} {model.name!r} has several layers named {layer!r}. Give the path of one: "
            f"{', '.join(sorted({place.path for place in by_name}))}."
        )
    for found in (by_path, by_name):
        if found:
            return found[0]
    names = {name for place in places for name in (place.path, place.name)}
    raise ValueError(
        f"The {role} {model.name!r} has no layer {layer!r} in its graph. {did_you_mean(layer, names)} "
        f"It has: {', '.join(place.path for place in places)}."
    )


def _run(model, inputs, training, wanted, prefix, found):
    graph = _graph(model)

    def capturing(operation):
        path = f"{prefix}{operation.name}"
        is_opened = _is_nested(operation) and any(name.startswith(f"{path}/") for name in wanted)

        def call(*args, **kwargs):
            if is_opened:
                outputs = _run(operation, args[0], training, wanted, f"{path}/", found)
            else:
                outputs = operation_fn(operation, training=training)(*args, **kwargs)
            if path in wanted:
                found.setdefault(path, keras.tree.flatten(outputs)[0])
            return outputs

        return call

    outputs = graph._run_through_graph(graph._standardize_inputs(inputs), operation_fn=capturing)
    return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs
