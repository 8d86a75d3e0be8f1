"""Convolutions on fewer channels, with 1x1 convolutions before and after."""

import keras
import numpy as np

from tfsqueeze.architecture.gains import gains
from tfsqueeze.architecture.low_rank import descending, roots
from tfsqueeze.architecture.matrix_form import convolution
from tfsqueeze.architecture.successors import Names, first_settings, last_settings
from tfsqueeze.core.linear_view import linear_view

ROUNDS = 5


class TuckerForm:
    """A 1x1 convolution to fewer channels, the convolution on them, and a 1x1 back; see `Form`.

    Ranks are the channels before and after the middle; where one of them is full, its 1x1 convolution
    is left out. With the first one full this is the channel decomposition of Zhang et al.

    Args:
        layer: a convolution of any number of axes, transposed ones too.
        moment: of the input channels, (channels, channels), or None.

    Source: Kim et al., Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
    Applications, arXiv:1511.06530; Zhang et al., arXiv:1505.06798.
    """

    name = "tucker"

    def __init__(self, layer: keras.Layer, moment: np.ndarray | None = None):
        self._layer = layer
        self._is_transposed = "Transpose" in type(layer).__name__
        self.weights = linear_view(layer).weights
        inputs = layer.kernel.shape[-1 if self._is_transposed else -2]
        self.full_ranks = inputs, self.weights.shape[-1]
        self._root, self._inverse = roots(np.eye(inputs) if moment is None else moment)
        self._gains = gains(layer)[0]
        kernel = self.weights[0].reshape(-1, *self.full_ranks) * self._gains
        self._weighted = np.einsum("dc,kco->kdo", self._root, kernel)
        self._bases = _basis(self._weighted, 1), _basis(self._weighted, 2)
        kept = np.square(_core(self._weighted, *self._bases)).sum(0).cumsum(0).cumsum(1)
        self._lost = np.maximum(1 - kept / max(kept[-1, -1], 1e-30), 0)
        self._lost[-1, -1] = 0

    @property
    def options(self) -> np.ndarray:
        """All pairs but that of the full ranks."""
        pairs = np.meshgrid(*(np.arange(1, full + 1) for full in self.full_ranks), indexing="ij")
        return np.stack(pairs, -1).reshape(-1, 2)[:-1]

    def lost(self, ranks: np.ndarray) -> np.ndarray:
        return self._lost[tuple(ranks.T - 1)]

    def sizes(self, ranks: np.ndarray) -> list[tuple[np.ndarray, str]]:
        inputs, outputs = self.full_ranks
        before, after = ranks.T
        reduce = np.where(before < inputs, inputs * before, 0)
        expand = np.where((after < outputs) | self._is_transposed, outputs * after, 0)
        core = len(self._weighted) * before * after
        return [
            (reduce, "inputs"),
            (core, "inputs" if self._is_transposed else "outputs"),
            (expand, "outputs"),
        ]

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        before, after = self._fitted_bases(ranks)
        core, ones = _core(self._weighted, before, after), [1] * self._layer.rank
        first, last = self._inverse @ before, after.T / self._gains
        if not self._has_reduce(ranks):
            core = np.einsum("cr,kro->kco", first, core)
        if not self._has_expand(ranks):
            core = core @ last
        core = core.reshape(*self._layer.kernel_size, *core.shape[1:])
        found = [np.swapaxes(core, -1, -2) if self._is_transposed else core]
        if self._has_reduce(ranks):
            found.insert(0, first.reshape(*ones, *first.shape))
        if self._has_expand(ranks):
            found.append(last.reshape(*ones, *last.shape))
        return found

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        inputs, window = self.full_ranks[0], len(self._weighted)
        has_reduce = kernels[0].shape[: self._layer.rank] != tuple(self._layer.kernel_size)
        first = kernels[0].reshape(inputs, -1) if has_reduce else np.eye(inputs)
        if len(kernels) == 1 + has_reduce:
            return np.kron(np.eye(window), first)[None]
        core = np.swapaxes(kernels[-2], -1, -2) if self._is_transposed else kernels[-2]
        core = core.reshape(window, *core.shape[-2:])
        return np.einsum("cr,kro->kco", first, core).reshape(1, window * inputs, -1)

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        layer, one_by_one = self._layer, convolution(self._layer)
        form, bias = layer.data_format, layer.use_bias
        chain, has_expand = [], self._has_expand(ranks)
        if self._has_reduce(ranks):
            settings = first_settings(layer, "reduce", names)
            chain.append(one_by_one(ranks[0], 1, use_bias=False, data_format=form, **settings))
        settings = (first_settings if has_expand else last_settings)(layer, "core", names)
        kind = next(cls for cls in type(layer).__mro__ if cls.__module__.startswith("keras."))
        chain.append(
            kind(
                ranks[1],
                layer.kernel_size,
                strides=layer.strides,
                padding=layer.padding,
                dilation_rate=layer.dilation_rate,
                data_format=form,
                use_bias=bias and not has_expand,
                **settings,
            )
        )
        if has_expand:
            settings = last_settings(layer, "expand", names)
            chain.append(one_by_one(layer.filters, 1, use_bias=bias, data_format=form, **settings))
        return chain

    def _has_reduce(self, ranks) -> bool:
        return ranks[0] < self.full_ranks[0]

    def _has_expand(self, ranks) -> bool:
        """Transposed kernels are laid out so that the last of a chain must not be one."""
        return ranks[1] < self.full_ranks[1] or self._is_transposed

    def _fitted_bases(self, ranks) -> tuple[np.ndarray, np.ndarray]:
        """Orthogonal iteration (HOOI) from the truncated bases of each side."""
        before, after = self._bases[0][:, : ranks[0]], self._bases[1][:, : ranks[1]]
        for _ in range(ROUNDS):
            before = _basis(self._weighted @ after, 1)[:, : ranks[0]]
            after = _basis(np.einsum("kco,cr->kro", self._weighted, before), 2)[:, : ranks[1]]
        return before, after


def _basis(kernel, axis) -> np.ndarray:
    """Directions of the input (axis 1) or output channels, those of most energy first."""
    flat = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    return descending(flat @ flat.T)[1]


def _core(kernel, before, after) -> np.ndarray:
    return np.einsum("kco,cr->kro", kernel, before) @ after
