"""A convolution as a depthwise and a pointwise one."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.low_rank import balanced
from tfsqueeze.architecture.successors import Names, Positions, first_settings, last_settings
from tfsqueeze.core.least_squares import LeastSquares, best_fit
from tfsqueeze.core.linear_view import linear_view

SWEEPS = 20
RIDGE = 1e-4
LEAST_GAIN = 1e-3


class SeparableForm:
    """Depthwise and pointwise kernels closest to those of a convolution; see `Form`.

    For each input channel the window times the outputs is a matrix; its best approximation of rank
    `multiplier` gives that channel's depthwise filters and their pointwise weights. The error over all
    kernels is the least there is.

    Args:
        layer: a Conv2D or Conv1D without groups.
        multiplier: depthwise filters per input channel, >= 1; `full` of them reproduce the layer.

    Source: Guo et al., Network Decoupling, arXiv:1808.05517.
    """

    name = "separable"

    def __init__(self, layer: keras.Layer, multiplier: int = 1):
        self._layer = layer
        self.multiplier = multiplier
        self.weights = linear_view(layer).weights
        *window, self._inputs, outputs = layer.kernel.shape
        self._window = int(np.prod(window))
        self.full = min(self._window, outputs)

    def costs(self, positions: Positions) -> tuple[int, int]:
        """Multiply-accumulates and size of the kernels."""
        params = self._inputs * self.multiplier * (self._window + self.weights.shape[-1])
        return params * positions.outputs, params

    def kernels(self) -> list[np.ndarray]:
        """Depthwise (window..., inputs, multiplier) and pointwise (1..., inputs * multiplier, outputs)."""
        kernel = self.weights.reshape(self._window, self._inputs, -1).astype("float64")
        depthwise = np.zeros((self._window, self._inputs, self.multiplier))
        pointwise = np.zeros((self._inputs, self.multiplier, kernel.shape[-1]))
        left, values, right = np.linalg.svd(kernel.transpose(1, 0, 2), full_matrices=False)
        rank = min(self.multiplier, self.full)
        for channel in range(self._inputs):
            first = left[channel, :, :rank] * values[channel, :rank]
            first, last = balanced(first, right[channel, :rank])
            depthwise[:, channel, :rank], pointwise[channel, :rank] = first, last
        return self._shaped(depthwise, pointwise)

    def _shaped(self, depthwise, pointwise) -> list[np.ndarray]:
        rank = self._layer.rank
        return [
            depthwise.reshape(*self._layer.kernel_size, self._inputs, self.multiplier),
            pointwise.reshape(*[1] * rank, self._inputs * self.multiplier, -1),
        ]

    def before(self, kernels: list[np.ndarray]) -> np.ndarray:
        """The depthwise kernel as one matrix, (1, window * inputs, inputs * multiplier)."""
        depthwise = kernels[0].reshape(self._window, self._inputs, self.multiplier)
        spread = np.einsum("kcm,cd->kcdm", depthwise, np.eye(self._inputs))
        return spread.reshape(1, self._window * self._inputs, -1)

    def layers(self, names: Names) -> list[keras.Layer]:
        """DepthwiseConv2D and Conv2D, or a SeparableConv1D (padded before it where it is causal)."""
        layer = self._layer
        if layer.rank == 1:
            return self._separable_1d(names)
        first = first_settings(layer, "depthwise", names)
        first["depthwise_regularizer"] = first.pop("kernel_regularizer")
        depthwise = layers.DepthwiseConv2D(
            layer.kernel_size,
            strides=layer.strides,
            padding=layer.padding,
            depth_multiplier=self.multiplier,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
            use_bias=False,
            **first,
        )
        last = last_settings(layer, "pointwise", names)
        pointwise = layers.Conv2D(
            layer.filters, 1, data_format=layer.data_format, use_bias=layer.use_bias, **last
        )
        return [depthwise, pointwise]

    def _separable_1d(self, names) -> list[keras.Layer]:
        layer, settings = self._layer, last_settings(self._layer, "separable", names)
        regularizer = settings.pop("kernel_regularizer")
        is_causal = layer.padding == "causal"
        separable = layers.SeparableConv1D(
            layer.filters,
            layer.kernel_size,
            strides=layer.strides,
            padding="valid" if is_causal else layer.padding,
            depth_multiplier=self.multiplier,
            data_format=layer.data_format,
            dilation_rate=layer.dilation_rate,
            use_bias=layer.use_bias,
            depthwise_regularizer=regularizer,
            pointwise_regularizer=regularizer,
            **settings,
        )
        if not is_causal:
            return [separable]
        width = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
        padding = layers.ZeroPadding1D(
            (width, 0),
            data_format=layer.data_format,
            name=names.new(layer, "padding"),
            dtype=layer.dtype_policy,
        )
        return [padding, separable]

    def fit(
        self, problem: LeastSquares, held_out: LeastSquares, kernels: list[np.ndarray], bias
    ) -> tuple[list[np.ndarray], np.ndarray | None] | None:
        """Both kernels fitted in turn to what the layer gave, as long as held-out rows gain.

        Args:
            problem: from the windows that the chain receives to what the layer gave.
            held_out: the same on other rows.
            kernels, bias: what to start from; a bias of None is not fitted.

        Returns:
            Kernels and bias; None if nothing is better than what was given.
        """
        best, lowest = None, self._error(held_out, kernels, bias)
        for sweep in range(SWEEPS):
            if sweep:
                kernels = self._with_new_depthwise(problem, kernels, bias)
            before = self.before(kernels)
            start = kernels[1].reshape(1, before.shape[-1], -1)
            found = best_fit(problem.through(before), held_out.through(before), start, bias)
            if found is not None:
                kernels, bias = [kernels[0], found[0].reshape(kernels[1].shape)], found[1]
            error = self._error(held_out, kernels, bias)
            if error >= lowest:
                break
            is_done = sweep and error > (1 - LEAST_GAIN) * lowest
            best, lowest = (kernels, bias), error
            if is_done:
                break
        return best

    def _error(self, problem, kernels, bias) -> float:
        before = self.before(kernels)
        weights = kernels[1].reshape(1, before.shape[-1], -1)
        return problem.through(before).relative_error(weights, bias)

    def _with_new_depthwise(self, problem, kernels, bias) -> list[np.ndarray]:
        """Least squares for the depthwise kernel: its normal equations come from the same sums."""
        window, inputs, multiplier = self._window, self._inputs, self.multiplier
        pointwise = kernels[1].reshape(inputs, multiplier, -1)
        depthwise = kernels[0].reshape(-1)
        products, targets = problem.products[0], problem.targets[0]
        if bias is not None:
            targets = targets - products[:, -1:] * bias
        alike = np.einsum("cmo,dno->cmdn", pointwise, pointwise)
        moments = products[:-1, :-1].reshape(window, inputs, window, inputs)
        matrix = np.einsum("kcld,cmdn->kcmldn", moments, alike).reshape([depthwise.size] * 2)
        right = np.einsum("kco,cmo->kcm", targets[:-1].reshape(window, inputs, -1), pointwise).ravel()
        penalty = RIDGE * np.trace(matrix) / depthwise.size
        change = np.linalg.solve(matrix + penalty * np.eye(depthwise.size), right - matrix @ depthwise)
        return self._shaped(depthwise + change, pointwise)
