"""Convolutions as sums of products of three vectors: over the window, the input and the output channels."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.gains import gains
from tfsqueeze.architecture.low_rank import roots
from tfsqueeze.architecture.matrix_form import convolution
from tfsqueeze.architecture.successors import Names, first_settings, last_settings
from tfsqueeze.core.linear_view import linear_view

SWEEPS = 30
RIDGE = 1e-6
# Errors are computed at so many ranks and interpolated between them: each takes a fit of its own.
MEASURED_RANKS = 8


class CanonicalForm:
    """A 1x1 convolution, a depthwise one, and a 1x1 convolution on `rank` channels; see `Form`.

    The canonical polyadic decomposition of the kernel by alternating least squares. It begins with the
    largest terms of an exact decomposition, so that nothing is lost at full rank. The window stays one axis:
    parting it too would save little and lose more.

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
        inputs, outputs = layer.kernel.shape[-2:]
        self._root, self._inverse = roots(np.eye(inputs) if moment is None else moment)
        self._gains = gains(layer)[0]
        kernel = self.weights.reshape(-1, inputs, outputs).astype("float64") * self._gains
        self._weighted = self._root @ kernel
        self._terms = _exact_terms(self._weighted)
        self.full_ranks = (self._terms[0].shape[1],)
        self._fitted: dict[int, list[np.ndarray]] = {}

    @property
    def options(self) -> np.ndarray:
        """Ranks up to that at which the chain has as many weights as the layer."""
        most = self.weights.size // sum(self._weighted.shape) + 1
        return np.arange(1, min(self.full_ranks[0], most) + 1)[:, None]

    def lost(self, ranks: np.ndarray) -> np.ndarray:
        measured = np.unique(np.geomspace(ranks.min(), ranks.max(), MEASURED_RANKS).round().astype(int))
        errors = [np.square(self._weighted - _tensor(self._fit(rank))).sum() for rank in measured]
        lost = np.minimum.accumulate(errors) / max(np.square(self._weighted).sum(), 1e-30)
        return np.interp(ranks[:, 0], measured, lost)

    def sizes(self, ranks: np.ndarray) -> list[tuple[np.ndarray, str]]:
        window, inputs, outputs = self._weighted.shape
        return [
            (inputs * ranks[:, 0], "inputs"),
            (window * ranks[:, 0], "outputs"),
            (outputs * ranks[:, 0], "outputs"),
        ]

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        along, before, after = self._fit(ranks[0])
        ones = [1] * self._layer.rank
        before, after = self._inverse @ before, after / self._gains[:, None]
        return [
            before.reshape(*ones, *before.shape),
            along.reshape(*self._layer.kernel_size, -1, 1),
            after.T.reshape(*ones, *after.T.shape),
        ]

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        rank = kernels[-1].shape[-2]
        first, along = (kernel.reshape(-1, rank) for kernel in kernels[:-1])
        return np.einsum("kr,cr->kcr", along, first).reshape(1, -1, rank)

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        layer, one_by_one = self._layer, convolution(self._layer)
        form = layer.data_format
        first = first_settings(layer, "reduce", names)
        middle = first_settings(layer, "depthwise", names)
        middle["depthwise_regularizer"] = middle.pop("kernel_regularizer")
        last = last_settings(layer, "expand", names)
        depthwise = layers.DepthwiseConv1D if layer.rank == 1 else layers.DepthwiseConv2D
        return [
            one_by_one(ranks[0], 1, use_bias=False, data_format=form, **first),
            depthwise(
                layer.kernel_size,
                strides=layer.strides,
                padding=layer.padding,
                dilation_rate=layer.dilation_rate,
                data_format=form,
                use_bias=False,
                **middle,
            ),
            one_by_one(layer.filters, 1, use_bias=layer.use_bias, data_format=form, **last),
        ]

    def _fit(self, rank) -> list[np.ndarray]:
        if rank not in self._fitted:
            self._fitted[rank] = _alternated(self._weighted, [term[:, :rank] for term in self._terms])
        return self._fitted[rank]


def _exact_terms(kernel) -> list[np.ndarray]:
    """Vectors along each axis, as columns, whose products sum to the kernel, the largest first."""
    left, values, right = np.linalg.svd(kernel, full_matrices=False)
    window, terms = values.shape
    order = np.argsort(values.ravel())[::-1]
    before = (left * values[:, None]).transpose(1, 0, 2).reshape(len(kernel[0]), -1)
    after = right.transpose(2, 0, 1).reshape(kernel.shape[2], -1)
    along = np.repeat(np.eye(window), terms, axis=1)
    return [vectors[:, order] for vectors in (along, before, after)]


def _tensor(terms) -> np.ndarray:
    along, before, after = terms
    return np.einsum("kr,cr->kcr", along, before) @ after.T


def _alternated(kernel, terms) -> list[np.ndarray]:
    """Alternating least squares, a small penalty on the change keeping it steady."""
    terms = list(terms)
    for _ in range(SWEEPS):
        for axis in range(3):
            first, second = (vectors for other, vectors in enumerate(terms) if other != axis)
            gram = (first.T @ first) * (second.T @ second)
            joined = np.einsum("ar,br->abr", first, second).reshape(-1, len(gram))
            flat = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
            penalty = RIDGE * max(np.trace(gram) / len(gram), 1e-30)
            right = flat @ joined + penalty * terms[axis]
            terms[axis] = np.linalg.solve(gram + penalty * np.eye(len(gram)), right.T).T
        terms = _of_equal_size(terms)
    return terms


def _of_equal_size(terms) -> list[np.ndarray]:
    sizes = [np.maximum(np.linalg.norm(vectors, axis=0), 1e-30) for vectors in terms]
    mean = np.prod(sizes, axis=0) ** (1 / 3)
    return [vectors * (mean / size) for vectors, size in zip(terms, sizes, strict=True)]
