"""The picture of a sensitivity analysis. matplotlib is loaded only when it is drawn."""

from tfsqueeze.reporting.plots import COLOURS, new_figure, saved, shortened


def plot_sensitivity(sensitivity, path=None):
    """Draws the score against the sparsity, a line per layer; the most sensitive layers are in colour.

    Args:
        sensitivity: a `Sensitivity`.
        path: an image file to write, or None.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: if matplotlib is not installed.
    """
    figure, axes = new_figure(7, 4.5)
    order = sensitivity.most_sensitive()
    named = order[: len(COLOURS) - 1]
    for layer in reversed(order):
        scores = {0.0: sensitivity.baseline, **sensitivity.scores[layer]}
        is_named = layer in named
        axes.plot(
            list(scores),
            list(scores.values()),
            marker="o",
            markersize=4,
            linewidth=1.8 if is_named else 1,
            color=COLOURS[named.index(layer)] if is_named else COLOURS[-1],
            alpha=1.0 if is_named else 0.6,
            label=shortened(layer) if is_named else "_other",
        )
    axes.axhline(sensitivity.baseline, color="#666666", linewidth=0.8, linestyle="--")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("zeros in the one pruned layer")
    axes.set_ylabel(sensitivity.metric.replace("_", " "))
    axes.set_title("Sensitivity to pruning", loc="left", fontsize=11, fontweight="bold")
    handles, labels = axes.get_legend_handles_labels()
    others = len(order) - len(named)
    title = f"most sensitive (grey: {others} other{'s' * (others > 1)})" if others else "most sensitive first"
    axes.legend(
        handles[::-1],
        labels[::-1],
        frameon=False,
        fontsize=8,
        title=title,
        title_fontsize=8,
        loc="lower left",
    )
    return saved(figure, path)
