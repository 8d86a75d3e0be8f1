"""Convolutions as sums of products of vectors, one along each axis."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.form import Choice, worth_having
from tfsqueeze.architecture.low_rank import roots
from tfsqueeze.architecture.matrix_form import convolution
from tfsqueeze.architecture.successors import Names, Positions, first_settings, last_settings
from tfsqueeze.core.linear_view import linear_view

SWEEPS = 30
RIDGE = 1e-6
# Errors are computed at so many ranks and interpolated between them: each takes a fit of its own.
MEASURED_RANKS = 8


class CanonicalForm:
    """1x1 convolution, depthwise kx1, depthwise 1xk, 1x1 convolution, all on `rank` channels; see `Form`.

    The canonical polyadic decomposition by alternating least squares. It begins with the largest terms of
    an exact decomposition, so that it is exact at full rank.

    Args:
        layer: a Conv2D or Conv1D without groups.
        moment: of the input channels, (channels, channels), or None.

    Source: Lebedev et al., Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition,
    arXiv:1412.6553.
    """

    name = "cp"

    def __init__(self, layer: keras.Layer, moment: np.ndarray | None = None):
        self._layer = layer
        self.weights = linear_view(layer).weights
        *self._window, inputs, outputs = layer.kernel.shape
        self._root, self._inverse = roots(np.eye(inputs) if moment is None else moment)
        kernel = self.weights.reshape(*self._window, inputs, outputs).astype("float64")
        self._weighted = np.moveaxis(np.moveaxis(kernel, -2, -1) @ self._root, -1, -2)
        self._terms = _exact_terms(self._weighted)
        self.full_ranks = (self._terms[0].shape[1],)
        self._fitted: dict[int, list[np.ndarray]] = {}

    def choices(self, positions: Positions, measure: str) -> list[Choice]:
        inputs, outputs = self._weighted.shape[-2:]
        window = sum(self._window)
        # Ranks beyond are dearer than the layer as it is.
        most = min(self.full_ranks[0], self.weights.size // (inputs + outputs + window) + 1)
        ranks = np.arange(1, most + 1)
        measured = np.unique(np.geomspace(1, most, MEASURED_RANKS).astype(int))
        total = max(np.square(self._weighted).sum(), 1e-30)
        losses = [np.square(self._weighted - _tensor(self._fit(rank))).sum() / total for rank in measured]
        lost = np.interp(ranks, measured, np.minimum.accumulate(losses))
        along = self._window[0] * (positions.middle if len(self._window) > 1 else positions.outputs)
        across = sum(self._window[1:]) * positions.outputs
        macs = ranks * (inputs * positions.inputs + along + across + outputs * positions.outputs)
        costs = {"macs": macs, "params": ranks * (inputs + outputs + window)}
        return worth_having(self, ranks[:, None], costs, lost, measure)

    def _fit(self, rank) -> list[np.ndarray]:
        if rank not in self._fitted:
            self._fitted[rank] = _alternated(self._weighted, [term[:, :rank] for term in self._terms])
        return self._fitted[rank]

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        *along, before, after = self._fit(ranks[0])
        ones = [1] * len(along)
        found = [(self._inverse @ before).reshape(*ones, *before.shape)]
        for axis, vectors in enumerate(along):
            size = list(ones)
            size[axis] = len(vectors)
            found.append(vectors.reshape(*size, ranks[0], 1))
        return [*found, after.T.reshape(*ones, *after.T.shape)]

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        inputs, rank = self._weighted.shape[-2], kernels[-1].shape[-2]
        first, *along = (kernel.reshape(-1, rank) for kernel in kernels[:-1])
        joined = np.ones((1, rank))
        for vectors in along:
            joined = np.einsum("ar,br->abr", joined, vectors).reshape(-1, rank)
        return np.einsum("kr,cr->kcr", joined, first).reshape(1, -1, rank)[:, : len(joined) * inputs]

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        layer, one_by_one = self._layer, convolution(self._layer)
        form = layer.data_format
        settings = first_settings(layer, "reduce", names)
        first = one_by_one(ranks[0], 1, use_bias=False, data_format=form, **settings)
        parts = ["vertical", "horizontal"] if layer.rank == 2 else ["along"]
        middle = [self._depthwise(axis, part, names) for axis, part in enumerate(parts)]
        settings = last_settings(layer, "expand", names)
        last = one_by_one(layer.filters, 1, use_bias=layer.use_bias, data_format=form, **settings)
        return [first, *middle, last]

    def _depthwise(self, axis, part, names) -> keras.Layer:
        layer, settings = self._layer, first_settings(self._layer, part, names)
        settings["depthwise_regularizer"] = settings.pop("kernel_regularizer")
        kind = layers.DepthwiseConv1D if layer.rank == 1 else layers.DepthwiseConv2D

        def only(values):
            return tuple(value if other == axis else 1 for other, value in enumerate(values))

        return kind(
            only(layer.kernel_size),
            strides=only(layer.strides),
            dilation_rate=only(layer.dilation_rate),
            padding=layer.padding,
            data_format=layer.data_format,
            use_bias=False,
            **settings,
        )


def _exact_terms(kernel) -> list[np.ndarray]:
    """Vectors along each axis, as columns, whose products sum to the kernel, the largest first."""
    *window, inputs, outputs = kernel.shape
    places = list(np.ndindex(*window))
    found: list[list] = [[] for _ in kernel.shape]
    sizes = []
    for place in places:
        left, values, right = np.linalg.svd(kernel[place], full_matrices=False)
        for term, value in enumerate(values):
            unit = [np.eye(size)[at] for size, at in zip(window, place, strict=True)]
            for vectors, vector in zip(found, [*unit, left[:, term] * value, right[term]], strict=True):
                vectors.append(vector)
            sizes.append(value)
    order = np.argsort(sizes)[::-1]
    return [np.stack(vectors, 1)[:, order] for vectors in found]


def _tensor(terms) -> np.ndarray:
    joined = terms[0]
    for vectors in terms[1:]:
        joined = np.einsum("...r,ar->...ar", joined, vectors)
    return joined.sum(-1)


def _alternated(kernel, terms) -> list[np.ndarray]:
    """Alternating least squares, a small penalty on the change keeping it steady."""
    terms = list(terms)
    for _ in range(SWEEPS):
        for axis in range(kernel.ndim):
            others = [vectors for other, vectors in enumerate(terms) if other != axis]
            gram = np.prod([vectors.T @ vectors for vectors in others], axis=0)
            flat = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
            joined = others[0]
            for vectors in others[1:]:
                joined = np.einsum("ar,br->abr", joined, vectors).reshape(-1, joined.shape[1])
            penalty = RIDGE * max(np.trace(gram) / len(gram), 1e-30) * np.eye(len(gram))
            right = flat @ joined + terms[axis] @ penalty
            terms[axis] = np.linalg.solve(gram + penalty, right.T).T
        sizes = [np.linalg.norm(vectors, axis=0) for vectors in terms]
        mean = np.prod(sizes, axis=0) ** (1 / len(terms))
        terms = [
            vectors * np.where(size > 0, mean / np.where(size > 0, size, 1), 1)
            for vectors, size in zip(terms, sizes, strict=True)
        ]
    return terms
