"""The picture of what rounding costs per layer. matplotlib is loaded only when it is drawn."""

import math

from tfsqueeze.reporting.plots import COLOURS, new_figure, saved, shortened

BEYOND = 1.08
BESIDE = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8, "color": "#444444"}


def plot_errors(errors, path=None, most: int = 30):
    """Draws a bar per layer: the signal to noise ratio of the model's outputs when it alone is rounded.

    Short bars are what costs; a ring is the ratio of the rounded weights themselves.

    Args:
        errors: a `QuantizationErrors`.
        path: an image file to write, or None.
        most: the most damaging layers are drawn, so many at most.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    names = errors.most_damaging()[:most]
    layers = [errors.layers[name] for name in names]
    figure, axes = new_figure(7, 1.6 + 0.28 * len(names))
    finite = [v for layer in layers for v in (layer.outputs_db, layer.weights_db or 0) if math.isfinite(v)]
    longest = BEYOND * max(finite, default=1)
    ring = {"s": 36, "facecolor": "white", "edgecolor": COLOURS[1], "linewidth": 1.6, "zorder": 3}
    for row, layer in enumerate(layers):
        is_exact = math.isinf(layer.outputs_db)
        length, alpha = (longest, 0.3) if is_exact else (layer.outputs_db, 1)
        axes.barh(row, length, 0.7, color=COLOURS[0], alpha=alpha)
        if layer.weights_db is not None and math.isfinite(layer.weights_db):
            axes.scatter(layer.weights_db, row, **ring)
        remark = ", ".join(["exact"] * is_exact + _change(layer.loss))
        axes.annotate(remark, (1.01, row), **BESIDE)
    axes.axvline(errors.outputs_db, color="#666666", linewidth=1, linestyle="--", label="all rounded")
    axes.barh(-9, 0, color=COLOURS[0], label="it alone rounded: outputs")
    axes.scatter([], [], label="its weights", **ring)
    if errors.baseline is not None:
        axes.annotate(errors.metric.replace("_", " "), (1.01, -1), **BESIDE)
    axes.set_yticks(range(len(names)), [shortened(name) for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, longest)
    axes.set_xlabel("signal to noise ratio, dB")
    axes.set_title("Rounding one layer at a time", loc="left", fontsize=11, fontweight="bold")
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    return saved(figure, path)


def _change(loss: float | None) -> list[str]:
    if loss is None:
        return []
    return [f"{-loss:+.4f}" if abs(loss) >= 5e-5 else "0"]
