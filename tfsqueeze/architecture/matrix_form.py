"""Layers that are matrices (Dense, EinsumDense, 1x1 convolutions, Embedding) as products of two."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.gains import gains
from tfsqueeze.architecture.low_rank import LowRank, lost_energy
from tfsqueeze.architecture.successors import Names, first_settings, last_settings
from tfsqueeze.core.linear_view import linear_view


class MatrixForm:
    """Two layers of the same kind, the first without bias and activation; see `Form`.

    Args:
        layer: a Dense, EinsumDense or 1x1 convolution.
        moment: of the input rows, (groups, inputs, inputs), or None.

    Source: Denil et al., Predicting Parameters in Deep Learning, arXiv:1306.0543; Xue et al., Restructuring
    of Deep Neural Network Acoustic Models with Singular Value Decomposition (Interspeech 2013).
    """

    name = "svd"

    def __init__(self, layer: keras.Layer, moment: np.ndarray | None = None):
        self._layer = layer
        self._view = linear_view(layer)
        self.weights = self._view.weights
        moments = [None] * len(self.weights) if moment is None else moment
        self._gains = gains(layer)[:, None]
        weighted = self.weights * self._gains
        self._parts = [LowRank(*pair) for pair in zip(weighted, moments, strict=True)]
        self.full_ranks = (min(self.weights.shape[1:]),)
        self.options = np.arange(1, self.full_ranks[0] + 1)[:, None]
        self._lost = lost_energy(sum(part.energies[: self.full_ranks[0]] for part in self._parts))

    def lost(self, ranks: np.ndarray) -> np.ndarray:
        return self._lost[ranks[:, 0] - 1]

    def sizes(self, ranks: np.ndarray) -> list[tuple[np.ndarray, str]]:
        groups, inputs, outputs = self.weights.shape
        return [(groups * inputs * ranks[:, 0], "outputs"), (groups * outputs * ranks[:, 0], "outputs")]

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        pairs = [part.factors(ranks[0]) for part in self._parts]
        first, last = (np.stack(side) for side in zip(*pairs, strict=True))
        return [first, last / self._gains]

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        return kernels[0]

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        first = first_settings(self._layer, "reduce", names)
        last = last_settings(self._layer, "expand", names)
        if isinstance(self._layer, layers.EinsumDense):
            return self._einsum_layers(ranks[0], first, last)
        last["use_bias"] = self._layer.use_bias
        if isinstance(self._layer, layers.Dense):
            return [
                layers.Dense(ranks[0], use_bias=False, **first),
                layers.Dense(self._layer.units, **last),
            ]
        kind = convolution(self._layer)
        form = self._layer.data_format
        strides = self._layer.strides
        return [
            kind(ranks[0], 1, strides=strides, use_bias=False, data_format=form, **first),
            kind(self._layer.filters, 1, data_format=form, **last),
        ]

    def _einsum_layers(self, rank, first, last) -> list[keras.Layer]:
        layer = self._layer
        terms, output = layer.equation.replace(" ", "").split("->")
        inputs, kernel = terms.split(",")
        inner = next(letter for letter in "rstuvwxyzabcdefghijklmnopq" if letter not in terms + output)
        sizes = {
            **_named_sizes(output, layer.partial_output_shape),
            **dict(zip(kernel, layer.kernel.shape, strict=True)),
        }
        groups = [index for index in kernel if index in inputs and index in output]
        contracted = [index for index in kernel if index in inputs and index not in output]
        new = [index for index in kernel if index not in inputs]
        between = "".join(index for index in inputs if index not in contracted) + inner
        shape = [sizes.get(index) for index in between.replace("...", "")[:-1]] + [rank]
        # Without an ellipsis the first index counts examples, and shapes begin behind it.
        shape = shape if "..." in between else shape[1:]
        reduce = f"{inputs},{''.join([*groups, *contracted])}{inner}->{between}"
        expand = f"{between},{''.join(groups)}{inner}{''.join(new)}->{output}"
        return [
            layers.EinsumDense(reduce, shape, **first),
            layers.EinsumDense(expand, layer.partial_output_shape, bias_axes=layer.bias_axes, **last),
        ]


class EmbeddingForm:
    """A narrow embedding and a Dense layer that widens it; see `Form`.

    Args:
        layer: an Embedding.
        counts: how often each entry was looked up, or None.

    Source: Lan et al., ALBERT, arXiv:1909.11942.
    """

    name = "svd"

    def __init__(self, layer: layers.Embedding, counts: np.ndarray | None = None):
        self._layer = layer
        table = keras.ops.convert_to_numpy(layer.embeddings).astype("float64")
        self.weights = table[None]
        # Entries that were not seen count as if seen once: they may be.
        self._scale = np.ones((len(table), 1)) if counts is None else np.sqrt(counts + 1.0)[:, None]
        self._product = LowRank(table * self._scale)
        self.full_ranks = (min(table.shape),)
        self.options = np.arange(1, self.full_ranks[0] + 1)[:, None]
        self._lost = lost_energy(self._product.energies[: self.full_ranks[0]])

    def lost(self, ranks: np.ndarray) -> np.ndarray:
        return self._lost[ranks[:, 0] - 1]

    def sizes(self, ranks: np.ndarray) -> list[tuple[np.ndarray, str]]:
        _, entries, width = self.weights.shape
        return [(entries * ranks[:, 0], "lookups"), (width * ranks[:, 0], "outputs")]

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        first, last = self._product.factors(ranks[0])
        return [first / self._scale, last]

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        return kernels[0][None]

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        layer = self._layer
        shared = {"dtype": layer.dtype_policy, "trainable": layer.trainable}
        narrow = layers.Embedding(
            layer.input_dim,
            ranks[0],
            mask_zero=layer.mask_zero,
            embeddings_regularizer=layer.embeddings_regularizer,
            name=names.new(layer, "reduce"),
            **shared,
        )
        widen = layers.Dense(
            layer.output_dim,
            use_bias=False,
            activity_regularizer=layer.activity_regularizer,
            name=names.new(layer, "expand"),
            **shared,
        )
        return [narrow, widen]


def _named_sizes(output: str, shape: int | tuple[int | None, ...]) -> dict[str, int | None]:
    """Sizes of an EinsumDense's output axes: those shared with its input must be told between, too.

    Counted from the end, since the axes of an ellipsis and that of the examples come first.
    """
    sizes = [shape] if isinstance(shape, int) else list(shape)
    return dict(zip(reversed(output), reversed(sizes), strict=False))


def convolution(layer: keras.Layer) -> type:
    """The class of convolution of as many axes."""
    return {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[layer.rank]
