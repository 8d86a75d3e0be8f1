"""The shapes that reach nested models once the layers before them are changed."""

from collections.abc import Callable

import keras

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.copying import copy_layer, copy_operation
from tfsqueeze.core.data import input_struct
from tfsqueeze.core.select import walk


def inner_shapes(
    model: keras.Model, remake: Callable[[keras.Layer], keras.Layer | None]
) -> dict[int, tuple[int | None, ...]]:
    """Shapes by the id of the input layers of nested models, found by a run on placeholders.

    Args:
        model: a built Sequential or Functional model; it is not changed.
        remake: returns a new unbuilt layer for one that is changed, or None.
    """
    if not any(_is_nested(named.layer) for named in walk(model)):
        return {}
    shapes: dict[int, tuple] = {}
    made: dict[int, keras.Operation] = {}

    def changed(operation):
        if _is_nested(operation):
            return lambda inputs, **_: nested(operation, inputs)
        if id(operation) not in made:
            is_layer = isinstance(operation, keras.Layer)
            twin = (remake(operation) or copy_layer(operation)) if is_layer else copy_operation(operation)
            made[id(operation)] = twin
        return made[id(operation)]

    def nested(part, inputs):
        reached = zip(keras.tree.flatten(input_struct(part)), keras.tree.flatten(inputs), strict=True)
        shapes.update({id(old._keras_history.operation): tuple(new.shape) for old, new in reached})
        return run(part, inputs)

    def run(part, inputs):
        graph = getattr(part, "_functional", None) or part
        outputs = graph._run_through_graph(graph._standardize_inputs(inputs), operation_fn=changed)
        return outputs[0] if isinstance(outputs, (list, tuple)) and len(outputs) == 1 else outputs

    run(model, keras.tree.map_structure(_placeholder, input_struct(model)))
    return shapes


def _placeholder(tensor):
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype)


def _is_nested(operation) -> bool:
    return isinstance(operation, keras.Model) and has_graph(operation)
