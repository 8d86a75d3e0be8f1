"""A student of the same graph with fewer channels."""

import functools
import numbers

import keras
from keras import layers
from keras.src.models.functional import Functional

from tfsqueeze.core.checks import UnsupportedModelError, check_count, check_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.select import Selection, select_layers, walk
from tfsqueeze.distillation.inheritance import inherit_corner
from tfsqueeze.distillation.inner_shapes import inner_shapes

WIDTHS = ("filters", "units", "output_dim")
"""The configuration keys that say how many channels a layer makes."""


def scale_width(
    model: keras.Model, factor: float, *, select=None, round_to: int = 1, inherit: bool = True
) -> keras.Model:
    """Returns a model of the same graph whose layers have `factor` times as many channels.

    Convolutions, dense, recurrent and embedding layers are scaled; those that make the model's outputs keep
    their size. Layers of equal width stay equal, so that additions fit. Each new kernel inherits the first
    channels of the old one: of every gate of a recurrent layer, at every position behind a `Flatten`.

    Args:
        model: a built Sequential or Functional model.
        factor: > 0; 0.5 halves all channels. Above 1 the channels beyond the old ones are new.
        select: the layers to scale, as everywhere; None for all that are known.
        round_to: channels are rounded to a multiple of this, and to at least this; >= 1.
        inherit: whether weights are taken over where they fit; otherwise all are new.

    Returns:
        A new model, compiled as `model` is; `tfs.explain` lists the widths. `model` is not changed.

    Raises:
        ValueError: if `factor` or `round_to` is out of range.
        UnsupportedModelError: if the model has no graph, or a layer does not fit after scaling, as where
            scaled features are added to the inputs: leave such layers out by `select`.

    Example:
        >>> student = tfs.scale_width(teacher, 0.5)
        >>> distiller = tfs.Distiller(student, teacher)

    Source: the width multiplier of Howard et al., MobileNets, arXiv:1704.04861, section 3.3.
    """
    check_graph(model, "scale_width()")
    _check_numbers(factor, round_to)
    outputs = _output_layers(model)

    def unsupported(layer):
        if not _widths(layer):
            return "it has no width of its own"
        return "it makes an output of the model" if id(layer) in outputs else None

    selection = select_layers(model, select, unsupported)
    scaled = {id(named.layer) for named in selection.chosen}

    def remake(layer):
        if not layer.weights or hasattr(layer, "save_assets"):
            return None

        def width_of(width):
            return _rounded(width * factor, round_to, _groups(layer)) if id(layer) in scaled else width

        return type(layer).from_config(_scaled(layer.get_config(), width_of))

    try:
        shapes = inner_shapes(model, remake)
        resized = functools.partial(_resized_input, shapes)
        student = rewrite(model, remake, transfer=inherit_corner if inherit else None, adapt=resized)
    except (ValueError, TypeError) as error:
        raise UnsupportedModelError(
            f"Model {model.name!r} does not fit together after scaling by {factor}: {error} Leave the layers "
            "around it out, such as select=tfs.Select(skip='...')."
        ) from error
    return record(student, "scale_width", _facts(selection, student), selection.skipped)


def _resized_input(shapes, operation):
    if id(operation) not in shapes:
        return None
    return type(operation).from_config({**operation.get_config(), "batch_shape": shapes[id(operation)]})


def _check_numbers(factor, round_to) -> None:
    if isinstance(factor, bool) or not isinstance(factor, numbers.Real) or not 0 < factor <= 16:
        raise ValueError(f"`factor` must be in (0, 16]. Received: factor={factor!r}.")
    check_count("round_to", round_to)


def _rounded(width: float, multiple: int, groups: int) -> int:
    """The nearest multiple, at least one; grouped convolutions need a multiple of their groups."""
    step = multiple if multiple % groups == 0 else multiple * groups
    return max(step, int(width / step + 0.5) * step)


def _groups(layer) -> int:
    return getattr(layer, "groups", 1) if hasattr(layer, "filters") else 1


def _widths(layer) -> list[int]:
    """All widths in a layer's configuration, also of layers and cells it wraps."""
    found: list[int] = []
    if layer.weights:
        _scaled(layer.get_config(), lambda width: found.append(width) or width)
    return found


def _scaled(config, scale):
    """The configuration with every width replaced, and without the shapes it was built on."""
    if isinstance(config, (list, tuple)):
        return type(config)(_scaled(value, scale) for value in config)
    if not isinstance(config, dict):
        return config
    return {
        key: scale(value) if key in WIDTHS and type(value) is int else _scaled(value, scale)
        for key, value in config.items()
        if key != "build_config"
    }


def _output_layers(model) -> set[int]:
    """The layers that decide on the number of channels of the model's outputs."""
    found: set[int] = set()
    graph = getattr(model, "_functional", None) or model
    pending = list(graph.outputs)
    seen: set[int] = set()
    while pending:
        tensor = pending.pop()
        history = tensor._keras_history
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation = history.operation
        if isinstance(operation, keras.Model) and isinstance(
            getattr(operation, "_functional", None) or operation, Functional
        ):
            found |= _output_layers(operation)
        elif isinstance(operation, keras.Layer) and _widths(operation):
            found.add(id(operation))
        elif not isinstance(operation, layers.InputLayer):
            pending.extend(operation._inbound_nodes[history.node_index].input_tensors)
    return found


def _facts(selection: Selection, student) -> dict[str, dict]:
    made = {named.path: named.layer for named in walk(student)}
    return {
        named.path: {"width": f"{_widths(named.layer)[0]} -> {_widths(made[named.path])[0]}"}
        for named in selection.chosen
    }
