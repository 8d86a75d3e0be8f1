"""Convolutions as two, each along one axis."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.gains import gains
from tfsqueeze.architecture.low_rank import LowRank, lost_energy
from tfsqueeze.architecture.successors import Names, first_settings, last_settings
from tfsqueeze.core.linear_view import linear_view


class SpatialForm:
    """A kx1 convolution and a 1xk convolution with `rank` channels between them; see `Form`.

    Args:
        layer: a Conv2D with a kernel of more than one row and more than one column.
        moment: of the input channels, (channels, channels), or None.

    Source: Jaderberg et al., Speeding up Convolutional Neural Networks with Low Rank Expansions,
    arXiv:1405.3866, scheme 2; solved in closed form as by Tai et al., arXiv:1511.06067.
    """

    name = "spatial"

    def __init__(self, layer: layers.Conv2D, moment: np.ndarray | None = None):
        self._layer = layer
        self.weights = linear_view(layer).weights
        self._shape = rows, columns, inputs, outputs = tuple(layer.kernel.shape)
        self._gains = gains(layer)[0]
        kernel = self.weights.reshape(self._shape) * self._gains
        matrix = kernel.transpose(0, 2, 1, 3).reshape(rows * inputs, columns * outputs)
        self._product = LowRank(matrix, None if moment is None else np.kron(np.eye(rows), moment))
        self.full_ranks = (min(matrix.shape),)
        self.options = np.arange(1, self.full_ranks[0] + 1)[:, None]
        self._lost = lost_energy(self._product.energies[: self.full_ranks[0]])

    def lost(self, ranks: np.ndarray) -> np.ndarray:
        return self._lost[ranks[:, 0] - 1]

    def sizes(self, ranks: np.ndarray) -> list[tuple[np.ndarray, str]]:
        rows, columns, inputs, outputs = self._shape
        return [(rows * inputs * ranks[:, 0], "middle"), (columns * outputs * ranks[:, 0], "outputs")]

    def kernels(self, ranks: tuple[int, ...]) -> list[np.ndarray]:
        rows, columns, inputs, outputs = self._shape
        first, last = self._product.factors(ranks[0])
        last = last.reshape(-1, columns, outputs).transpose(1, 0, 2) / self._gains
        return [first.reshape(rows, 1, inputs, -1), last[None]]

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        rows, columns, inputs, _ = self._shape
        spread = np.einsum("bd,acr->abcdr", np.eye(columns), kernels[0][:, 0])
        return spread.reshape(1, rows * columns * inputs, -1)

    def layers(self, ranks: tuple[int, ...], names: Names) -> list[keras.Layer]:
        layer = self._layer
        shared = {"padding": layer.padding, "data_format": layer.data_format}
        (rows, columns), strides, dilation = layer.kernel_size, layer.strides, layer.dilation_rate
        vertical = layers.Conv2D(
            ranks[0],
            (rows, 1),
            strides=(strides[0], 1),
            dilation_rate=(dilation[0], 1),
            use_bias=False,
            **shared,
            **first_settings(layer, "vertical", names),
        )
        horizontal = layers.Conv2D(
            layer.filters,
            (1, columns),
            strides=(1, strides[1]),
            dilation_rate=(1, dilation[1]),
            use_bias=layer.use_bias,
            **shared,
            **last_settings(layer, "horizontal", names),
        )
        return [vertical, horizontal]
