"""Pictures of reports and comparisons. matplotlib is loaded only when one is drawn."""

import numpy as np

from tfsqueeze.core.checks import check_choice
from tfsqueeze.reporting.tables import counted

COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
LABEL_HEIGHT, LABEL_PLACES = 26, (1, -1, 2, -2, 3, -3)
SIZES = {"file_bytes": "file size", "gzip_bytes": "gzipped size"}


def plot_comparison(comparison, path=None, size="file_bytes"):
    """Draws the metric against the file size, with the latency as the area of the marker.

    Without a metric the bars of the file sizes are drawn.

    Args:
        comparison: a `Comparison`.
        path: an image file to write, or None.
        size: "file_bytes" or "gzip_bytes".

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    check_choice("size", size, SIZES)
    reports = {name: r for name, r in comparison.reports.items() if getattr(r, size) is not None}
    score = next(iter(comparison.first.metrics), None)
    figure, axes = new_figure(7, 4.5)
    if score is None:
        _draw_sizes(axes, reports, size)
    else:
        _draw_front(axes, {n: r for n, r in reports.items() if score in r.metrics}, score, size)
    return saved(figure, path)


def plot_layers(report, path=None):
    """Draws the weights of each layer, the zeros among them pale, as horizontal bars.

    Args:
        report: a `Report`.
        path: an image file to write, or None.

    Returns:
        The matplotlib figure.
    """
    layers = [layer for layer in report.layers if layer.parameters]
    figure, axes = new_figure(7, 1.4 + 0.28 * len(layers))
    rows = np.arange(len(layers))
    total = [layer.parameters for layer in layers]
    axes.barh(rows, total, color=COLOURS[0], alpha=0.25, label="zero")
    axes.barh(rows, [layer.nonzero for layer in layers], color=COLOURS[0], label="non-zero")
    for row, layer in zip(rows, layers, strict=True):
        text = f" {layer.sparsity:.0%} zeros" + (f", {counted(layer.macs)} MACs" if layer.macs else "")
        axes.annotate(text, (layer.parameters, row), va="center", fontsize=8, color="#444444")
    axes.set_yticks(rows, [shortened(layer.name) for layer in layers], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * max(total, default=1))
    axes.set_xlabel("weights")
    axes.xaxis.set_major_formatter(lambda count, _: counted(count) if count else "0")
    axes.set_title(report.name, loc="left", fontsize=11, fontweight="bold")
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    return saved(figure, path)


def _draw_front(axes, reports, score, size):
    sizes = [getattr(report, size) / 1000 for report in reports.values()]
    values = [report.metrics[score] for report in reports.values()]
    areas, places = _areas(reports), _label_places(sizes)
    for index, (name, length, value, area, place) in enumerate(
        zip(reports, sizes, values, areas, places, strict=True)
    ):
        side = 1 if place > 0 else -1
        beyond = (abs(place) - 1) * LABEL_HEIGHT
        colour = COLOURS[index % len(COLOURS)]
        latency = reports[name].latency
        filled = {"facecolor": colour, "edgecolor": "white"}
        ring = {"facecolor": "white", "edgecolor": colour, "linewidth": 2}
        axes.scatter(length, value, s=area, alpha=0.75, zorder=3, **(ring if latency is None else filled))
        timing = "" if latency is None else f"\n{latency.median_ms:.3g} ms"
        axes.annotate(
            f"{name}{timing}",
            (length, value),
            textcoords="offset points",
            xytext=(0, side * (np.sqrt(area) / 2 + 5 + beyond)),
            ha="center",
            va="bottom" if side > 0 else "top",
            fontsize=9,
            color="#333333",
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.8} if beyond else None,
        )
    axes.set_xscale("log")
    axes.margins(x=0.18)
    _pad_values(axes, values)
    _plain_ticks(axes, sizes)
    axes.set_xlabel(f"{SIZES[size]}, kB (log scale)")
    axes.set_ylabel(score.replace("_", " "))
    title = f"{score.replace('_', ' ')} against {SIZES[size]}"
    axes.set_title(title[0].upper() + title[1:], loc="left", fontsize=11, fontweight="bold")
    if any(report.latency for report in reports.values()):
        is_known = all(report.latency for report in reports.values())
        axes.text(
            1,
            1.02,
            "marker area: latency" + ("" if is_known else " (rings: not measured)"),
            transform=axes.transAxes,
            ha="right",
            fontsize=8,
            color="#666666",
        )


def _areas(reports) -> list[float]:
    """Marker areas proportional to the latency; a small ring where none was measured."""
    slowest = max((r.latency.median_ms for r in reports.values() if r.latency), default=1)
    return [60 if r.latency is None else 60 + 840 * r.latency.median_ms / slowest for r in reports.values()]


def _label_places(sizes) -> list[int]:
    """1 for a label above its marker, -1 below, 2 and -2 beyond those: the first that no neighbour has."""
    places, taken = [1] * len(sizes), {}
    for index in np.argsort(sizes):
        free = (place for place in LABEL_PLACES if sizes[index] >= 1.65 * taken.get(place, 0))
        places[index] = next(free, LABEL_PLACES[-1])
        taken[places[index]] = sizes[index]
    return places


def _pad_values(axes, values):
    """At least one point of accuracy is visible, so that noise does not look like a cliff."""
    low, high = min(values), max(values)
    room = max(high - low, 0.01 * max(abs(high), 1e-12))
    axes.set_ylim(low - 0.55 * room, high + 0.55 * room)


def _plain_ticks(axes, sizes):
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_sizes(axes, reports, size):
    rows = np.arange(len(reports))
    sizes = [getattr(report, size) / 1000 for report in reports.values()]
    axes.barh(rows, sizes, color=[COLOURS[row % len(COLOURS)] for row in rows])
    for row, length in zip(rows, sizes, strict=True):
        axes.annotate(f" {length:,.1f} kB", (length, row), va="center", fontsize=9)
    axes.set_yticks(rows, list(reports))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(sizes))
    axes.set_xlabel(f"{SIZES[size]}, kB")
    axes.set_title(SIZES[size].capitalize(), loc="left", fontsize=11, fontweight="bold")


def new_figure(width: float, height: float):
    """A matplotlib figure of so many inches in the style of all our pictures, with its axes.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure = _empty_figure(width, height)
    axes = figure.add_subplot()
    _style(axes)
    return figure, axes


def new_panels(count: int, width: float, height: float):
    """A figure of `count` panels of so many inches each, up to three in a row, and the list of their axes."""
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    figure = _empty_figure(max(columns * width, 1.6 * width), rows * height + 0.3)
    panels = [figure.add_subplot(rows, columns, place) for place in range(1, count + 1)]
    for axes in panels:
        _style(axes)
    return figure, panels


def titled(axes, title: str, remark: str = "") -> None:
    """Sets the title of a panel, with a remark at its right end."""
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    axes.set_title(remark, loc="right", fontsize=8, color="#666666")


def shortened(name: str, width: int = 32) -> str:
    """A name of at most `width` characters; of a longer one the end, which tells more."""
    return name if len(name) <= width else "…" + name[1 - width :]


def _empty_figure(width, height):
    try:
        # No pyplot: it would choose a window system and keep every figure alive.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plot() needs matplotlib. Install it with `pip install tfsqueeze[plots]`."
        ) from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _style(axes) -> None:
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def saved(figure, path):
    """Writes `figure` to `path`, if that is not None, and returns it."""
    if path is not None:
        from tfsqueeze.core.files import atomic_write

        with atomic_write(path) as temporary:
            figure.savefig(temporary)
    return figure
