"""The inputs that each output position of a convolution sees."""

from dataclasses import dataclass

import keras
import numpy as np


@dataclass(frozen=True)
class Windows:
    """Gathers windows of a convolution at some output positions, whatever its rank.

    Attributes:
        size, strides, dilation: of the window, one number per spatial axis.
        padding: "valid", "same" or "causal".
        transposed: whether the strides spread the input instead of skipping outputs.
        channels_first: whether the inputs' channel axis is the second.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    transposed: bool
    channels_first: bool

    @classmethod
    def of(cls, layer: keras.Layer, *, transposed: bool = False) -> "Windows":
        """The windows of a built convolutional layer."""
        first = layer.data_format == "channels_first"
        settings = (layer.kernel_size, layer.strides, layer.dilation_rate)
        return cls(*map(tuple, settings), layer.padding, transposed, first)

    def gather(self, inputs: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
        """Windows as (rows, window, channels): of all outputs in order, or of `count` drawn at random.

        Args:
            inputs: a batch of the layer's inputs.
            rng: draws the positions; their number does not depend on the channels.
            count: most rows.
        """
        values = np.moveaxis(inputs, 1, -1) if self.channels_first else inputs
        spatial = values.shape[1:-1]
        outputs = tuple(map(self._output_size, range(len(spatial)), spatial))
        total = len(values) * int(np.prod(outputs))
        chosen = np.arange(total) if total <= count else np.sort(rng.choice(total, count, replace=False))
        batch, *positions = np.unravel_index(chosen, (len(values), *outputs))
        return self._at(values, batch, positions)

    def _at(self, values, batch, positions) -> np.ndarray:
        rank = len(positions)
        inside = np.ones((len(batch), *self.size), bool)
        indices = []
        for axis, position in enumerate(positions):
            index, valid = self._input_index(axis, position, values.shape[axis + 1])
            shape = (len(batch), *(self.size[axis] if other == axis else 1 for other in range(rank)))
            indices.append(np.where(valid, index, 0).reshape(shape))
            inside &= valid.reshape(shape)
        found = values[(batch.reshape(-1, *[1] * rank), *indices)]
        found = np.where(inside[..., None], found, 0)
        return found.reshape(len(batch), -1, values.shape[-1])

    def _input_index(self, axis, position, length):
        """For each output position and place in the window, the input index and whether it exists."""
        offset = np.arange(self.size[axis]) * self.dilation[axis]
        stride, before = self.strides[axis], self._padding_before(axis, length)
        if not self.transposed:
            index = position[:, None] * stride + offset - before
            return index, (index >= 0) & (index < length)
        spread = position[:, None] + before - offset
        index = spread // stride
        return index, (spread % stride == 0) & (index >= 0) & (index < length)

    def _reach(self, axis) -> int:
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def _output_size(self, axis, length) -> int:
        stride, reach = self.strides[axis], self._reach(axis)
        if self.transposed:
            return length * stride + (max(reach - stride, 0) if self.padding == "valid" else 0)
        return -(-length // stride) if self.padding != "valid" else (length - reach) // stride + 1

    def _padding_before(self, axis, length) -> int:
        stride, reach = self.strides[axis], self._reach(axis)
        if self.padding == "valid":
            return 0
        if self.padding == "causal":
            return reach - 1
        if self.transposed:
            return max(reach - stride, 0) // 2
        return max((self._output_size(axis, length) - 1) * stride + reach - length, 0) // 2
