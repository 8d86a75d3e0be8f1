"""A backbone whose layers lie in a model's own graph, made a nested model."""

import keras

from tfsqueeze.architecture.spatial import graph_of
from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.core.rewrite import rewrite


def nest_until(model: keras.Model, name: str) -> tuple[keras.Model, keras.Model]:
    """A copy of `model` in which all up to a layer is a nested model, and that nested model.

    Args:
        model: a Sequential or Functional model with one input.
        name: of the layer whose output is all that the rest of the model reads.

    Raises:
        UnsupportedModelError: if the model has several inputs, or what follows reads other layers too.
    """
    if len(graph_of(model).inputs) != 1:
        raise UnsupportedModelError(
            f"Only of a model with one input can the layers up to {name!r} be replaced. Received one with "
            f"{len(graph_of(model).inputs)}. Make them a nested model and name that."
        )
    copy = rewrite(model)
    nodes = [node for depth in graph_of(copy)._nodes_by_depth.values() for node in depth]
    features = next(node.outputs[0] for node in nodes if node.operation.name == name)
    entrance = graph_of(copy).inputs[0]
    backbone = keras.Model(entrance, features, name=f"until_{name}")
    try:
        head = keras.Model(features, graph_of(copy)._outputs_struct)
    except ValueError as error:
        raise UnsupportedModelError(
            f"What follows {name!r} in model {model.name!r} reads other layers before it too, so those up "
            f"to it cannot be replaced as one: {error}"
        ) from error
    operation = entrance._keras_history.operation
    image = keras.Input(entrance.shape[1:], dtype=entrance.dtype, name=operation.name)
    outputs = head._run_through_graph(backbone(image), lambda operation: operation)
    return keras.Model(image, outputs, name=model.name), backbone
