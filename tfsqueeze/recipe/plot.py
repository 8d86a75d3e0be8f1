"""The picture of a recipe's run. matplotlib is loaded only when it is drawn."""

import numpy as np

from tfsqueeze.reporting.plots import COLOURS, new_figure, saved, shortened

SHIFT, HEIGHT = 0.19, 0.36
SCORES_AT = 106


def plot_steps(result, path=None):
    """Draws what each step left of parameters and MACs, with the score and the file's bytes beside it.

    Args:
        result: a `RecipeResult`.
        path: an image file to write, or None.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if the run measured nothing.
    """
    steps = [step for step in result.steps if step.parameters]
    if not steps:
        raise ValueError("Nothing was measured that could be drawn: the recipe was run with `measure=False`.")
    figure, axes = new_figure(7.5, 1.6 + 0.42 * len(steps))
    rows, first = np.arange(len(steps)), steps[0]
    for shift, quantity, colour in ((-SHIFT, "parameters", COLOURS[0]), (SHIFT, "macs", COLOURS[4])):
        whole = getattr(first, quantity)
        if whole:
            kept = [100 * (getattr(step, quantity) or 0) / whole for step in steps]
            axes.barh(
                rows + shift, kept, HEIGHT, color=colour, label="MACs" if quantity == "macs" else quantity
            )
    for row, step in zip(rows, steps, strict=True):
        scores = [f"{name.replace('_', ' ')} {score:.4g}" for name, score in step.metrics.items()]
        text = ", ".join([*scores, *([f"{step.bytes:,} bytes"] if step.bytes else [])])
        axes.annotate(text, (SCORES_AT, row), va="center", fontsize=9, color="#333333")
    axes.set_yticks(rows, [shortened(step.title) for step in steps])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 165)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("% of the first model's")
    axes.set_title("What each step left, and its score", loc="left", fontsize=11, fontweight="bold")
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    return saved(figure, path)
