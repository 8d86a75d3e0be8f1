"""What an architecture search may change of a network, and the network a setting stands for."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from tfsqueeze.architecture.input_size import with_input_size
from tfsqueeze.architecture.separable import to_separable
from tfsqueeze.core.checks import UnsupportedModelError, check_choice
from tfsqueeze.core.trace import layer_calls
from tfsqueeze.pruning.channels.criteria import unit_scores
from tfsqueeze.pruning.channels.cut import cut
from tfsqueeze.pruning.channels.graph import ChannelGraph, find_groups
from tfsqueeze.pruning.channels.repair import repair
from tfsqueeze.pruning.depth import prune_depth
from tfsqueeze.pruning.residual_blocks import find_blocks
from tfsqueeze.search.architectures.inverted_bottleneck import to_inverted_bottleneck
from tfsqueeze.search.architectures.layer_changes import (
    activations,
    kernel_sizes,
    with_activation,
    with_kernel_size,
)
from tfsqueeze.search.studies.space import Space

WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25)
KERNELS = (3, 5)
ACTIVATIONS = ("relu", "hard_silu")
RESOLUTIONS = (1.0, 0.75, 0.5)
MOST_BLOCKS = 4
AS_IT_IS = "as it is"
# What stands in for full convolutions. Bottlenecks of more channels cost more than the convolution.
OPERATORS = {
    "separable": to_separable,
    "inverted bottleneck x2": partial(to_inverted_bottleneck, expansion=2),
    "inverted bottleneck x4": partial(to_inverted_bottleneck, expansion=4),
}


class ArchitectureSpace:
    """The changes that apply to a model.

    Channels that must be equal form groups; groups whose feature maps have the same size make a stage, whose
    layers are narrowed alike.

    Args:
        model: a built Sequential or Functional model; it is not changed.
        changes: which to offer: "width", "depth", "kernel", "operator", "activation", "resolution".
        data: a few hundred inputs by which the weights are refitted after a change, or None.

    Attributes:
        space: the parameters, such as "width 8x8" for the stage of that size.
        skipped: why other changes do not apply, by name.

    Raises:
        ValueError: if a change is unknown, or none applies.
    """

    def __init__(self, model: keras.Model, changes: Sequence[str] | None = None, data=None):
        self._model, self._data = model, data
        self._graph: ChannelGraph = find_groups(model)
        self._stages = _stages(model, self._graph)
        offers = self._offers()
        wanted = list(offers) if changes is None else list(changes)
        self.skipped: dict[str, str] = {}
        parameters: dict[str, list] = {}
        for change in wanted:
            found = offers[check_choice("changes", change, offers)]()
            parameters |= found
            if not found:
                self.skipped[change] = f"the model has nothing to change the {change} of"
        if not parameters:
            raise ValueError(
                f"Nothing of model {model.name!r} can be changed by {', '.join(wanted)}: {self.skipped}."
            )
        self.space = Space(parameters)

    def build(self, setting: dict[str, Any]) -> keras.Model:
        """The network of a setting, with all weights inherited that fit.

        Raises:
            ValueError: if the changes do not go together.
        """
        model = self._narrowed({stage: setting.get(f"width {stage}", 1.0) for stage in self._stages})
        if setting.get("blocks removed"):
            model = prune_depth(model, blocks=setting["blocks removed"], data=self._data)
        if setting.get("kernel", AS_IT_IS) != AS_IT_IS:
            model = with_kernel_size(model, setting["kernel"])
        if setting.get("operator", AS_IT_IS) != AS_IT_IS:
            model = OPERATORS[setting["operator"]](model, data=self._data)
        if setting.get("activation", AS_IT_IS) != AS_IT_IS:
            model = with_activation(model, setting["activation"])
        if setting.get("resolution", 1.0) != 1.0:
            model = with_input_size(model, setting["resolution"])
        return model

    def _narrowed(self, widths: dict[str, float]) -> keras.Model:
        scores = unit_scores(self._graph, "l1")
        keep = {}
        for stage, names in self._stages.items():
            for name in names:
                count = max(1, round(widths[stage] * self._graph.groups[name].size))
                keep[name] = np.argsort(np.argsort(-scores[name], kind="stable")) < count
        narrow = cut(self._model, self._graph, keep)
        if self._data is not None and any(width < 1 for width in widths.values()):
            repair(self._graph, narrow, keep, self._data)
        return narrow

    def _offers(self) -> dict[str, Callable[[], dict[str, list]]]:
        return {
            "width": lambda: {f"width {stage}": list(WIDTHS) for stage in self._stages},
            "depth": self._depth,
            "kernel": lambda: _others("kernel", kernel_sizes(self._model), KERNELS),
            "operator": self._operator,
            "activation": lambda: _others("activation", activations(self._model), ACTIVATIONS),
            "resolution": self._resolution,
        }

    def _depth(self) -> dict[str, list]:
        count = min(len(find_blocks(self._model)[0]), MOST_BLOCKS)
        return {"blocks removed": list(range(count + 1))} if count else {}

    def _operator(self) -> dict[str, list]:
        others = [name for name, convert in OPERATORS.items() if _applies(convert, self._model)]
        return {"operator": [AS_IT_IS, *others]} if others else {}

    def _resolution(self) -> dict[str, list]:
        can_shrink = _applies(with_input_size, self._model, min(RESOLUTIONS))
        return {"resolution": list(RESOLUTIONS)} if can_shrink else {}


def _applies(change: Callable, *arguments) -> bool:
    try:
        change(*arguments)
    except (UnsupportedModelError, ValueError):
        return False
    return True


def _others(name: str, present: set, offered: Sequence) -> dict[str, list]:
    others = [option for option in offered if {option} != present] if present else []
    return {name: [AS_IT_IS, *others]} if others else {}


def _stages(model, graph: ChannelGraph) -> dict[str, list[str]]:
    """Names of channel groups by the size of the feature map they are made on, "dense" without one."""
    sizes: dict[int, tuple] = {}
    for call in layer_calls(model):
        shape = call.output_shapes[0] if call.output_shapes else ()
        sizes.setdefault(id(call.layer), tuple(shape[1:-1]))
    stages: dict[str, list[str]] = {}
    for name, group in graph.groups.items():
        size = sizes.get(id(group.producers[0].layer), ()) if group.producers else ()
        stages.setdefault("x".join(map(str, size)) or "dense", []).append(name)
    return stages
