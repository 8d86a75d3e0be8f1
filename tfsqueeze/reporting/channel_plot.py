"""A picture of a network's graph with the channels that were removed."""

from dataclasses import dataclass, field

import keras
import numpy as np

from tfsqueeze.core import layer_info
from tfsqueeze.core.checks import check_graph, has_graph
from tfsqueeze.core.select import walk
from tfsqueeze.models.load import load_model
from tfsqueeze.reporting.plots import COLOURS, new_figure, saved, shortened

# Of the width of the widest layer: where the graph is drawn, and how far links that skip layers may reach.
LANE, REACH = 0.04, 0.22


@dataclass
class Row:
    """A layer with weights, or one that joins several tensors, at one place of the graph.

    Attributes:
        path: of the layer, with the number of the call behind it where it is called again.
        channels: size of its channel axis.
        sources: rows that its inputs come from, through layers that are not drawn.
    """

    path: str
    channels: int
    sources: list[int] = field(default_factory=list)


def plot_channels(before, after=None, path=None):
    """Draws the graph of a model, with the channels of each layer that were removed in pale.

    A row is a layer with weights, or one that joins several tensors; activations, normalisation and
    pooling are left out. Curves are links that skip rows.

    Args:
        before: the Sequential or Functional model as it was, or its file.
        after: the model that `tfs.prune_channels`, `tfs.prune_depth` or `tfs.scale_width` made of it, or
            its file; layers are found by their paths. None draws `before` alone.
        path: an image file to write (.png, .svg, .pdf), or None.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: if matplotlib is not installed.
        UnsupportedModelError: if a model has no graph.

    Example:
        >>> tfs.plot_channels(model, tfs.prune_channels(model, macs=0.5), "channels.png")
    """
    rows = graph_rows(before)
    left = {row.path: row.channels for row in (rows if after is None else graph_rows(after))}
    kept = [min(left.get(row.path, 0), row.channels) for row in rows]
    figure, axes = new_figure(7, 1.1 + 0.24 * len(rows))
    widest = max(row.channels for row in rows)
    places = np.arange(len(rows))
    axes.barh(places, [row.channels for row in rows], 0.62, color=COLOURS[1], alpha=0.25, label="removed")
    axes.barh(places, kept, 0.62, color=COLOURS[0], label="kept")
    for place, row, count in zip(places, rows, kept, strict=True):
        text = f" {row.channels}" if count == row.channels else f" {row.channels} → {count or 'gone'}"
        axes.annotate(text, (row.channels, place), va="center", fontsize=8, color="#444444")
    _draw_links(axes, rows, widest)
    axes.set_yticks(places, [shortened(row.path) for row in rows], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlim(-(2 * LANE + REACH) * widest, 1.2 * widest)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= widest])
    axes.set_xlabel("channels")
    axes.set_title(load_model(before).name, loc="left", fontsize=11, fontweight="bold")
    if after is not None:
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return saved(figure, path)


def graph_rows(model) -> list[Row]:
    """The rows of a model's picture, in the order in which they are computed."""
    model = check_graph(load_model(model), "plot_channels()")
    graph = _Graph(model)
    inputs = []
    for tensor in keras.tree.flatten(model.inputs):
        inputs.append(graph.add(tensor._keras_history.operation.name, tensor, []))
    graph.through(model, inputs)
    return graph.rows


class _Graph:
    """Gathers rows on a walk through a model and those nested in it."""

    def __init__(self, model):
        self.rows: list[Row] = []
        self._paths = {id(named.layer): named.path for named in walk(model)}
        self._calls: dict[str, int] = {}

    def add(self, path: str, tensor, sources: list[int], axis: int = -1) -> list[int]:
        """Makes a row; returns its number as the sources of what follows."""
        self._calls[path] = call = self._calls.get(path, 0) + 1
        channels = tensor.shape[axis] if len(tensor.shape) > 1 else 1
        self.rows.append(Row(path if call == 1 else f"{path} ({call})", channels or 1, sources))
        return [len(self.rows) - 1]

    def through(self, model, inputs: list[list[int]]) -> list[list[int]]:
        """Sources of the outputs of a model, given those of its inputs."""
        graph = getattr(model, "_functional", None) or model
        known = {id(tensor): rows for tensor, rows in zip(graph.inputs, inputs, strict=True)}
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if not node.is_input:
                    outputs = self._visit(node, [known[id(tensor)] for tensor in node.input_tensors])
                    known.update((id(t), rows) for t, rows in zip(node.outputs, outputs, strict=True))
        return [known[id(tensor)] for tensor in graph.outputs]

    def _visit(self, node, inputs: list[list[int]]) -> list[list[int]]:
        operation = node.operation
        if isinstance(operation, keras.Model) and has_graph(operation):
            return self.through(operation, inputs)
        sources = list(dict.fromkeys(row for rows in inputs for row in rows))
        if not _has_kernels(operation) and len(sources) < 2:
            return [sources] * len(node.outputs)
        path = self._paths.get(id(operation), operation.name)
        is_first = getattr(operation, "data_format", None) == "channels_first"
        return [self.add(path, node.outputs[0], sources, 1 if is_first else -1)] * len(node.outputs)


def _has_kernels(operation) -> bool:
    return isinstance(operation, keras.Layer) and any(map(layer_info.kernels, operation._flatten_layers()))


def _draw_links(axes, rows: list[Row], widest: int) -> None:
    """A line from each row to the next where they are linked, and curves past the rows between others."""
    from matplotlib.patches import Arc

    at = -LANE * widest
    longest = max((place - source for place, row in enumerate(rows) for source in row.sources), default=1)
    for place, row in enumerate(rows):
        for source in row.sources:
            if place - source == 1:
                axes.plot([at, at], [source, place], color="#888888", linewidth=1, zorder=1)
                continue
            depth = REACH * widest * np.log(place - source) / np.log(max(longest, 3))
            middle = ((at), (place + source) / 2)
            arc = Arc(middle, 2 * depth, place - source, theta1=90, theta2=270, color="#888888", linewidth=1)
            axes.add_patch(arc)
    axes.scatter([at] * len(rows), np.arange(len(rows)), s=14, color="#555555", zorder=2)
