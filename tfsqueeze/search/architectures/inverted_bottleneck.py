"""Convolutions as inverted bottlenecks: more channels, a filter for each, and fewer channels again."""

import math

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.low_rank import balanced
from tfsqueeze.architecture.refit import Replacement, check_examples
from tfsqueeze.architecture.replacing import Costs, facts, put_in_place
from tfsqueeze.architecture.separable import is_stem, not_separable
from tfsqueeze.architecture.successors import Names, cannot_be_replaced, first_settings, last_settings
from tfsqueeze.core.checks import check_count, check_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.least_squares import LeastSquares, best_fit
from tfsqueeze.core.linear_view import linear_view
from tfsqueeze.core.refitting import in_parts, is_held_out, rows_wanted, sampled_rows
from tfsqueeze.core.select import select_layers, walk

# Signs of what a ReLU lets pass, of the input and of the filtered input: x = relu(x) - relu(-x), twice.
SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
# Inputs that a ReLU has given are their own positive part.
SIGNS_OF_POSITIVE = SIGNS[:2]


def to_inverted_bottleneck(
    model: keras.Model,
    *,
    expansion: int = 4,
    select=None,
    data=None,
    limit: int = 1024,
    batch_size: int = 128,
    seed: int = 0,
) -> keras.Model:
    """Returns a copy of `model` with inverted bottlenecks in place of full convolutions.

    A Conv1D or Conv2D with a window becomes a 1x1 convolution to more channels (`<old>_expand`), a depthwise
    convolution (`<old>_depthwise`), both with ReLU, and a linear 1x1 convolution (`<old>_project`), which
    takes over bias and activation. The start is no random one: of the convolution's best separable
    approximation as many terms are reproduced exactly as the channels suffice for, given that two ReLUs let
    x pass as relu(x) - relu(-x). Given data, the projection is then fitted to what the layer gave.

    Unlike the block of MobileNetV2 it has no normalisation and no shortcut of its own: the layer's stay.

    Args:
        model: a built Sequential or Functional model, nested ones included; it is not changed.
        expansion: channels in the middle for each input channel, >= 1. Each term of the separable
            approximation takes 4 of them, or 2 where the data show that the layer's inputs are never
            negative. From about 2 (few outputs) to 6 it pays in multiply-accumulates.
        select: layers to replace, see `tfs.Select`. None: all convolutions with a window and without groups
            but those on three input channels or fewer (stems).
        data: some hundreds of typical inputs, labelled or not, in any form `model.fit` takes.
        limit: most examples to use, >= 4.
        batch_size: examples per run of the model, >= 1.
        seed: of the positions drawn in images and sequences.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists per layer multiply-accumulates and
        weights before and after, and the squared error of the kernel that the start reproduces; and why
        other layers were skipped.

    Raises:
        ValueError: if nothing is selected, a layer named exactly cannot be replaced, an argument is out of
            range, or the data do not fit.
        UnsupportedModelError: for a subclassed model, which has no graph.

    Example:
        >>> block = to_inverted_bottleneck(model, expansion=4, data=x_train[:512])

    Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381; the
    start from a separable approximation, Guo et al., Network Decoupling, arXiv:1808.05517.
    """
    check_graph(model, "to_inverted_bottleneck()")
    check_count("expansion", expansion)
    examples = check_examples(model, data, limit)
    batches = [] if examples is None else in_parts(examples, batch_size, len(examples))
    names, costs = Names(model), Costs(model)
    places = {id(named.layer): cannot_be_replaced(named) for named in walk(model)}
    selection = select_layers(
        model, select, lambda layer: _unsupported(layer) or places[id(layer)], by_default=_stem
    )
    positive = _with_positive_inputs(model, [named.layer for named in selection.chosen], batches)
    replacements = []
    for named in selection.chosen:
        signs = SIGNS_OF_POSITIVE if id(named.layer) in positive else SIGNS
        form = BottleneckForm(named.layer, expansion, signs)
        chain = form.layers(names)
        replacements.append(Replacement(named.path, named.layer, form, form.kernels(), form.error, chain))
    changed = put_in_place(model, replacements, names, {})
    if batches:
        _fit_projections(model, changed, replacements, batches, seed)
    after = Costs(changed)
    done = {
        one.path: {"form": f"inverted bottleneck x{expansion}", **facts(one, costs, after, {})}
        for one in replacements
    }
    return record(changed, "to_inverted_bottleneck", done, selection.skipped)


class BottleneckForm:
    """Kernels of an inverted bottleneck that begins as the largest terms of a separable approximation.

    For each input channel the window times the outputs is a matrix; the singular vectors of all of them, by
    falling singular values, are the terms.

    Args:
        layer: a Conv1D or Conv2D without groups.
        expansion: channels in the middle for each input channel, >= 1.
        signs: one channel of each term for each pair of signs, of the input and of what is filtered.

    Attributes:
        error: squared weights of the kernel that are not reproduced, as a share of all, in [0, 1].
    """

    def __init__(self, layer: keras.Layer, expansion: int, signs=SIGNS):
        self._layer, self._signs = layer, signs
        *window, self._inputs, self._outputs = layer.kernel.shape
        self._window, self._channels = math.prod(window), expansion * self._inputs
        kernel = keras.ops.convert_to_numpy(layer.kernel).astype("float64")
        kernel = kernel.reshape(self._window, self._inputs, self._outputs).transpose(1, 0, 2)
        self._left, self._values, self._right = np.linalg.svd(kernel, full_matrices=False)
        order = np.argsort(-self._values, axis=None, kind="stable")
        self._terms = np.stack(np.unravel_index(order, self._values.shape), 1)
        energies = np.square(self._values.ravel()[order])
        self.error = float(energies[self._complete :].sum() / max(energies.sum(), 1e-30))

    @property
    def _complete(self) -> int:
        """How many terms have a channel for each pair of signs."""
        return min(self._channels // len(self._signs), len(self._terms))

    def kernels(self) -> list[np.ndarray]:
        """Kernels to expand, to filter each channel, and to project.

        Channels of incomplete terms filter as others do but count nothing yet.
        """
        expand = np.zeros((self._inputs, self._channels))
        depthwise = np.zeros((self._window, self._channels))
        project = np.zeros((self._channels, self._outputs))
        for index in range(self._channels):
            number, place = divmod(index, len(self._signs))
            channel, rank = self._terms[number % len(self._terms)]
            before, after = self._signs[place]
            first = self._left[channel, :, rank : rank + 1] * self._values[channel, rank]
            first, last = balanced(first, self._right[channel, rank : rank + 1])
            expand[channel, index] = before
            depthwise[:, index] = after * first[:, 0]
            project[index] = before * after * last[0] * (number < self._complete)
        ones = [1] * self._layer.rank
        return [
            expand.reshape(*ones, *expand.shape),
            depthwise.reshape(*self._layer.kernel_size, self._channels, 1),
            project.reshape(*ones, *project.shape),
        ]

    def layers(self, names: Names) -> list[keras.Layer]:
        """The three layers, yet unbuilt."""
        layer = self._layer
        full = layers.Conv2D if layer.rank == 2 else layers.Conv1D
        separate = layers.DepthwiseConv2D if layer.rank == 2 else layers.DepthwiseConv1D
        settings = first_settings(layer, "depthwise", names)
        settings["depthwise_regularizer"] = settings.pop("kernel_regularizer")
        return [
            full(
                self._channels,
                1,
                activation="relu",
                data_format=layer.data_format,
                **first_settings(layer, "expand", names),
            ),
            separate(
                layer.kernel_size,
                strides=layer.strides,
                padding=layer.padding,
                dilation_rate=layer.dilation_rate,
                activation="relu",
                data_format=layer.data_format,
                **settings,
            ),
            full(
                layer.filters,
                1,
                use_bias=layer.use_bias,
                data_format=layer.data_format,
                **last_settings(layer, "project", names),
            ),
        ]


def _unsupported(layer) -> str | None:
    """Why a layer cannot become an inverted bottleneck, by its kind and settings; None if it can."""
    if reason := not_separable(layer):
        return reason
    return "causal, which depthwise convolutions are not" if layer.padding == "causal" else None


def _stem(layer) -> str | None:
    return "few input channels (a stem): select it to replace it all the same" if is_stem(layer) else None


def _with_positive_inputs(model, chosen, batches) -> set[int]:
    """Ids of the layers whose inputs are never negative."""
    if not batches:
        return set()
    inputs = InnerInputs(model, chosen, batches)
    found = inputs.read_all(inputs.order, batches[0])
    return {
        id(layer)
        for layer, calls in zip(inputs.order, found, strict=True)
        if all(float(keras.ops.min(received.first)) >= 0 for received in calls)
    }


def _fit_projections(model, changed, replacements, batches, seed) -> None:
    """Fits the last layer of each chain, in the order they run, to what its layer gave in the original."""
    projections = {id(one.chain[-1]): one for one in replacements}
    old = InnerInputs(model, [one.layer for one in replacements], batches)
    new = InnerInputs(changed, [one.chain[-1] for one in replacements], batches)
    for projection in new.order:
        layer = projections[id(projection)].layer
        before, after = linear_view(layer), linear_view(projection)
        problems = [LeastSquares(1, *after.weights.shape[1:]) for _ in range(2)]
        count = math.ceil(rows_wanted(after.weights.shape[1]) / len(batches))
        for number, batch in enumerate(batches):
            calls = zip(old.read(layer, batch), new.read(projection, batch), strict=True)
            for call, (was, now) in enumerate(calls):
                rows = sampled_rows(after, now, (seed, number, call), count)
                targets = before.outputs(sampled_rows(before, was, (seed, number, call), count))
                problems[is_held_out(number)].add(rows, targets)
        if found := best_fit(*problems, after.weights, after.bias):
            after.assign(*found)
