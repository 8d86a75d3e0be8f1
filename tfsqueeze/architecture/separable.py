"""Convolutions as depthwise and pointwise ones."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers

from tfsqueeze.architecture.form import lost_weight
from tfsqueeze.architecture.refit import Replacement, check_examples, refit
from tfsqueeze.architecture.replacing import Costs, facts, put_in_place
from tfsqueeze.architecture.separable_form import SeparableForm
from tfsqueeze.architecture.successors import Names, cannot_be_replaced, has_own_call
from tfsqueeze.core.checks import check_count, check_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.linear_view import linear_view
from tfsqueeze.core.select import select_layers, walk

STEM_CHANNELS = 3


@dataclass(frozen=True)
class Candidate:
    """A convolution that could become separable.

    Attributes:
        path: of the layer in the model.
        layer: the convolution.
        macs_before, macs_after: multiply-accumulates per example.
        error: squared error of the kernel relative to its squared weights, in [0, 1].
    """

    path: str
    layer: keras.Layer
    macs_before: int
    macs_after: int
    error: float

    @property
    def macs_saved(self) -> int:
        """Multiply-accumulates saved per example."""
        return self.macs_before - self.macs_after


def to_separable(
    model: keras.Model,
    *,
    select=None,
    data=None,
    depth_multiplier: int = 1,
    where: Callable[[Candidate], bool] | None = None,
    limit: int = 1024,
    batch_size: int = 128,
    seed: int = 0,
) -> keras.Model:
    """Returns a copy of `model` with depthwise-separable convolutions in place of full ones.

    Conv2D becomes DepthwiseConv2D (`<old>_depthwise`) and a 1x1 Conv2D (`<old>_pointwise`), Conv1D becomes
    SeparableConv1D (`<old>_separable`). Strides, dilation, padding, bias, activation, data format, dtype
    policy and trainability stay. The new kernels are the best separable approximation of the old ones;
    given data, both are fitted to what the layer gave, from what it now receives, and the batch
    normalisation behind is measured anew. It costs accuracy all the same: fine-tune the result.

    Args:
        model: a built Sequential or Functional model, nested ones included; it is not changed.
        select: layers to replace, see `tfs.Select`. None: all that would get cheaper, but for those on three
            input channels or fewer (stems), unless there are no others.
        data: some hundreds of typical inputs, labelled or not, in any form `model.fit` takes.
        depth_multiplier: depthwise filters per input channel, >= 1. More lose less and save less;
            min(kernel size, filters) of them lose nothing.
        where: keeps of the selected layers those it returns True for, by what they save and lose:
            `where=lambda candidate: candidate.error < 0.5`. It gets a `Candidate` with `path`, `layer`,
            `macs_before`, `macs_after`, `macs_saved` and `error`.
        limit: most examples to use, >= 4.
        batch_size: examples per run of the model, >= 1; it bounds the memory.
        seed: of the positions drawn in images and sequences.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists per layer multiply-accumulates and
        weights before and after, the error of the kernel and, given data, that of the outputs (on held-out
        examples, relative to their variance) before and after the fit; and why other layers were skipped.

    Raises:
        ValueError: if nothing is selected or left, a layer named exactly cannot be replaced, an argument is
            out of range, or the data do not fit.
        UnsupportedModelError: for a subclassed model, which has no graph.

    Example:
        >>> light = tfs.to_separable(model, data=x_train[:512])
        >>> light.fit(x_train, y_train, epochs=5)

    Source: Guo et al., Network Decoupling: From Regular to Depthwise Separable Convolutions,
    arXiv:1808.05517; Howard et al., MobileNets, arXiv:1704.04861.
    """
    check_graph(model, "to_separable()")
    check_count("depth_multiplier", depth_multiplier)
    examples = check_examples(model, data, limit)
    costs, names = Costs(model), Names(model)
    selection = _select(model, select, depth_multiplier, costs)
    skipped, replacements = dict(selection.skipped), []
    for named in selection.chosen:
        replacement = _separated(named, depth_multiplier, names)
        if where is not None and not where(_candidate(replacement, costs)):
            skipped[named.path] = f"left out by `where` (error {replacement.error:.4f})"
            continue
        replacements.append(replacement)
    if not replacements:
        raise ValueError(f"`where` left no layer of model {model.name!r} to replace. Skipped: {skipped}.")
    changed = put_in_place(model, replacements, names, {})
    errors = {}
    if examples is not None:
        errors = refit(model, changed, replacements, examples, batch_size=batch_size, seed=seed)
    after = Costs(changed)
    done = {r.path: {"form": "separable", **facts(r, costs, after, errors)} for r in replacements}
    return record(changed, "to_separable", done, skipped)


def _separated(named, multiplier, names) -> Replacement:
    form = SeparableForm(named.layer, multiplier)
    kernels = form.kernels()
    return Replacement(named.path, named.layer, form, kernels, lost_weight(form, kernels), form.layers(names))


def _candidate(replacement, costs) -> Candidate:
    layer = replacement.layer
    after = replacement.form.costs(costs.positions(layer))[0]
    return Candidate(replacement.path, layer, costs.macs(layer), after, replacement.error)


def _select(model, select, multiplier, costs):
    places = {id(named.layer): cannot_be_replaced(named) for named in walk(model)}

    def unsupported(layer):
        return not_separable(layer) or places[id(layer)] or _not_cheaper(layer, multiplier, costs)

    others = [n.layer for n in walk(model) if unsupported(n.layer) is None and not is_stem(n.layer)]

    def by_default(layer):
        if others and is_stem(layer):
            return "few input channels (a stem): select it to replace it all the same"
        return None

    return select_layers(model, select, unsupported, by_default=by_default)


def is_stem(layer: keras.Layer) -> bool:
    """Whether a convolution has so few input channels that they have little to share."""
    return layer.kernel.shape[-2] <= STEM_CHANNELS


def not_separable(layer: keras.Layer) -> str | None:
    """Why a layer cannot become separable, by its kind and settings; None if it can."""
    kind = type(layer).__name__
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        return "already depthwise"
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        return "already separable"
    if not isinstance(layer, (layers.Conv1D, layers.Conv2D)):
        return f"{kind} is neither Conv2D nor Conv1D"
    if has_own_call(layer):
        return f"{kind} computes something of its own"
    if linear_view(layer) is None:
        return "its kernel is not stored, but computed (quantized or adapted)"
    if layer.groups > 1:
        return f"grouped ({layer.groups} groups)"
    if set(layer.kernel_size) == {1}:
        return "1x1: it has no window to separate"
    if len(set(layer.strides)) > 1:
        return f"its strides {layer.strides} differ, which TensorFlow's depthwise convolution does not know"
    return None


def _not_cheaper(layer, multiplier, costs) -> str | None:
    after = SeparableForm(layer, multiplier).costs(costs.positions(layer))[0]
    before = costs.macs(layer)
    if after < before:
        return None
    return f"it would not get cheaper: {before:,} multiply-accumulates before, {after:,} after"
