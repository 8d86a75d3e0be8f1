"""Where a network can end early: at layers that all that follows depends on alone."""

from collections import Counter
from collections.abc import Iterator

import keras

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.trace import layer_calls


def regular_places(model: keras.Model, count: int) -> list[str]:
    """Paths of `count` layers after equal shares of the model's multiply-accumulates.

    A layer qualifies if nothing but its output is needed further on (the sum of a residual block, no layer of
    its branch), in nested models too. Of layers after the same share, as a convolution and its activation,
    the last is taken.

    Args:
        model: a built Sequential or Functional model.
        count: >= 1.

    Raises:
        ValueError: if there are not so many places.
    """
    reached, total = {}, 0
    for call in layer_calls(model):
        total += call.macs
        reached.setdefault(id(call.layer), total)
    places = {}
    for path, operation in narrow_places(model):
        done = reached.get(id(operation), 0)
        if 0 < done < total:
            places[done] = path
    if len(places) < count:
        raise ValueError(
            f"Model {model.name!r} has {len(places)} places for exits, layers that all that follows depends "
            f"on alone: {list(places.values())}. Received: exits={count}. Ask for fewer, or name layers."
        )
    return [places[done] for done in _spread(sorted(places), count, total)]


def narrow_places(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.Operation]]:
    """Paths and operations, in order, whose output is all that is needed of what was computed so far.

    Args:
        model: a built Sequential or Functional model.
        prefix: of the paths.
    """
    graph = getattr(model, "_functional", None) or model
    nodes = [node for depth in sorted(graph._nodes_by_depth, reverse=True) for node in _at(graph, depth)]
    calls = Counter(id(node.operation) for node in nodes)
    last_use = {id(tensor): i for i, node in enumerate(nodes) for tensor in node.input_tensors}
    last_use |= {id(tensor): len(nodes) for tensor in graph.outputs}
    alive = {id(tensor) for tensor in graph.inputs}
    for index, node in enumerate(nodes):
        others = {tensor for tensor in alive if last_use.get(tensor, -1) > index}
        made = {id(tensor) for tensor in node.outputs}
        alive = others | {tensor for tensor in made if last_use.get(tensor, -1) > index}
        if others or len(made) > 1 or calls[id(node.operation)] > 1:
            continue
        path = f"{prefix}{node.operation.name}"
        if isinstance(node.operation, keras.Model) and has_graph(node.operation):
            yield from narrow_places(node.operation, f"{path}/")
        yield path, node.operation


def _at(graph, depth: int) -> list:
    return [node for node in graph._nodes_by_depth[depth] if not node.is_input]


def _spread(places: list[int], count: int, total: int) -> list[int]:
    """The places nearest to equal shares of the total, in order and each once."""
    chosen: list[int] = []
    for rank in range(count):
        wanted = total * (rank + 1) / (count + 1)
        first = places.index(chosen[-1]) + 1 if chosen else 0
        left = places[first : len(places) - (count - rank - 1)]
        chosen.append(min(left, key=lambda done: abs(done - wanted)))
    return chosen
