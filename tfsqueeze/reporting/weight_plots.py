"""Pictures of weights: their distribution before and after, and where the zeros are."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.checks import check_count
from tfsqueeze.core.targets import Target, find_kernels
from tfsqueeze.models.load import load_model
from tfsqueeze.quantization.aware import is_quantization_aware
from tfsqueeze.quantization.strip import strip_quantization
from tfsqueeze.reporting.plots import COLOURS, new_panels, saved, shortened, titled

MOST_BINS, OUTLIERS = 80, 0.1
HEADROOM = 1.3
STRONG, TITLE_WIDTH, PIXELS = 99, 26, 350


def plot_weights(models: Mapping[str, Any], path=None, *, select=None, most: int = 6):
    """Draws how the weights of each kernel are distributed, one model over the other.

    Zeros are counted rather than drawn: they would hide all else. Of a quantization-aware model the rounded
    weights are drawn.

    Args:
        models: models by name, such as `{"float": model, "pruned": pruned}`, or their files. The kernels are
            those of the first; others are found in it by the paths of their layers.
        path: an image file to write (.png, .svg, .pdf), or None.
        select: which layers, as everywhere; None for all that weights are pruned in.
        most: the largest kernels are drawn, so many at most; >= 1.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `models` is empty, or `select` matches nothing.

    Example:
        >>> tfs.plot_weights({"float": model, "pruned": tfs.prune(model, 0.8)}, "weights.png")
    """
    plain = {name: _plain(model) for name, model in _checked(models).items()}
    drawn = _largest(next(iter(plain.values())), select, most)
    kernels = {name: _by_path(model) for name, model in plain.items()}
    figure, panels = new_panels(len(drawn), 3.2, 2.3)
    for axes, target in zip(panels, drawn, strict=True):
        _draw_histograms(axes, {name: found.get(target.path) for name, found in kernels.items()})
        titled(axes, shortened(_layer_path(target), TITLE_WIDTH), f"{_size(target):,} weights")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, loc="outside upper left", ncols=len(models))
    return saved(figure, path)


def plot_masks(models, path=None, *, select=None, most: int = 6):
    """Draws kernels as matrices of inputs and output channels: white is zero, colour is sign and size.

    Patterns show: scattered zeros, 2:4, blocks, channels that are gone.

    Args:
        models: a built model or its file; or models by name, to see a kernel in each of them.
        path: an image file to write (.png, .svg, .pdf), or None.
        select: which layers, as everywhere; None for all that weights are pruned in.
        most: of each model the largest kernels are drawn, so many at most; >= 1.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `models` is empty, or `select` matches nothing.

    Example:
        >>> tfs.plot_masks(tfs.prune(model, 0.5, pattern="2:4"), "masks.png")
    """
    named = _checked(models) if isinstance(models, Mapping) else {"": models}
    kernels = [(name, t) for name, model in named.items() for t in _largest(_plain(model), select, most)]
    figure, panels = new_panels(len(kernels), 3.2, 2.8)
    for axes, (name, target) in zip(panels, kernels, strict=True):
        matrix = _matrix(target)
        # Averages where a pixel stands for several weights, so that no regular pattern hides between them.
        finest = "nearest" if max(matrix.shape) <= PIXELS else "antialiased"
        axes.imshow(_coloured(matrix), aspect="auto", interpolation=finest, interpolation_stage="rgba")
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
        axes.tick_params(labelsize=8)
        axes.set_xlabel("output channel", fontsize=8)
        axes.set_ylabel("input", fontsize=8)
        title = ": ".join(filter(None, (name, _layer_path(target))))
        titled(axes, shortened(title, TITLE_WIDTH), f"{np.mean(matrix == 0):.0%} zeros")
    return saved(figure, path)


def _checked(models: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(models, Mapping):
        raise TypeError(f"`models` must be a dict of models by name. Received: {type(models)}.")
    if not models:
        raise ValueError("`models` is empty: there is nothing to draw.")
    return models


def _plain(model) -> keras.Model:
    model = load_model(model)
    return strip_quantization(model) if is_quantization_aware(model) else model


def _largest(model, select, most) -> list[Target]:
    """The largest kernels, in the order of the model."""
    targets, _ = find_kernels(model, select, "drawn")
    largest = sorted(targets, key=_size, reverse=True)[: check_count("most", most)]
    if not largest:
        raise ValueError(f"Model {model.name!r} has no kernels to draw. Choose layers by `select`.")
    return [target for target in targets if target in largest]


def _by_path(model) -> dict[str, np.ndarray]:
    targets, _ = find_kernels(model, lambda layer: True, "drawn")
    return {target.path: _values(target) for target in targets}


def _values(target: Target) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(target.variable), "float32")


def _size(target: Target) -> int:
    return int(np.prod(target.variable.shape))


def _layer_path(target: Target) -> str:
    return target.path.removesuffix("/kernel")


def _matrix(target: Target) -> np.ndarray:
    """The kernel with its output axes as columns, everything else as rows."""
    values, outputs = _values(target), target.kernel.outputs
    moved = np.moveaxis(values, outputs, range(values.ndim - len(outputs), values.ndim))
    return moved.reshape(-1, int(np.prod([values.shape[axis] for axis in outputs], dtype=int)))


def _draw_histograms(axes, kernels: Mapping[str, np.ndarray | None]) -> None:
    kept = [values[values != 0] for values in kernels.values() if values is not None]
    low, high = (
        np.percentile(np.concatenate(kept), (OUTLIERS, 100 - OUTLIERS)) if any(map(len, kept)) else (-1, 1)
    )
    bins = np.linspace(low, high if high > low else low + 1, _bins(kept) + 1)
    for index, (name, values) in enumerate(kernels.items()):
        colour = COLOURS[index % len(COLOURS)]
        if values is None:
            axes.plot([], [], color=colour, label=name)
            continue
        style = (
            {"histtype": "stepfilled", "alpha": 0.35}
            if index == 0
            else {"histtype": "step", "linewidth": 1.3}
        )
        axes.hist(values[values != 0], bins, color=colour, label=name, **style)
        if np.any(values == 0):
            place = {"xy": (0.98, 0.94 - 0.12 * index), "xycoords": "axes fraction"}
            axes.annotate(
                f"{np.mean(values == 0):.0%} zeros", **place, ha="right", va="top", fontsize=8, color=colour
            )
    axes.set_ylim(top=HEADROOM * axes.get_ylim()[1])
    axes.set_yticks([])
    axes.tick_params(labelsize=8)


def _bins(kept: list[np.ndarray]) -> int:
    """As many bins as there are weights for, by the rule of Rice."""
    most = max((len(values) for values in kept), default=1)
    return int(min(MOST_BINS, np.ceil(2 * most ** (1 / 3))))


def _coloured(matrix: np.ndarray) -> np.ndarray:
    """White for zeros; the paler a weight, the smaller it is, but never white."""
    magnitude = np.abs(matrix)
    strong = np.percentile(magnitude[magnitude > 0], STRONG) if np.any(magnitude) else 1.0
    depth = np.where(magnitude > 0, 0.3 + 0.7 * np.minimum(magnitude / strong, 1), 0)[..., None]
    negative, positive = (
        np.array([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for c in (COLOURS[1], COLOURS[0])
    )
    colours = np.where(matrix[..., None] < 0, negative, positive)
    return 1 - depth * (1 - colours)
