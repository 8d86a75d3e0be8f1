"""What `to_separable` and `factorize` share: costs of layers, and putting chains in their place."""

import math

import keras
import numpy as np

from tfsqueeze.architecture.form import product
from tfsqueeze.architecture.refit import Replacement
from tfsqueeze.architecture.successors import Names, Positions
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.trace import layer_calls


class Costs:
    """Multiply-accumulates of a model for one example, in all and layer by layer.

    Args:
        model: a built model.
    """

    def __init__(self, model: keras.Model):
        self._calls: dict[int, list] = {}
        for call in layer_calls(model):
            self._calls.setdefault(id(call.layer), []).append(call)
        self.total = sum(map(self._macs, self._calls))

    def _macs(self, key: int) -> int:
        return sum(call.macs for call in self._calls[key])

    def macs(self, *layers: keras.Layer) -> int:
        """Of some layers together, over all their calls."""
        return sum(self._macs(id(layer)) for layer in layers if id(layer) in self._calls)

    def positions(self, layer: keras.Layer) -> Positions:
        """Where a layer multiplies its kernel, in all calls."""
        calls = self._calls.get(id(layer), [])
        if not hasattr(layer, "kernel_size"):
            width = _embedding_width(layer) or math.prod(layer.kernel.shape)
            entries = sum(math.prod(size or 1 for size in call.output_shapes[0][1:]) for call in calls)
            count = entries // width if _embedding_width(layer) else self.macs(layer) // width
            return Positions(count, count, count)
        inputs = [_spatial(layer, call.input_shapes[0]) for call in calls]
        outputs = [_spatial(layer, call.output_shapes[0]) for call in calls]
        middle = [(after[0], *before[1:]) for before, after in zip(inputs, outputs, strict=True)]
        return Positions(*(sum(map(math.prod, places)) for places in (inputs, middle, outputs)))


def kernel_params(layer: keras.Layer) -> int:
    """Number of weights in the kernels of a layer."""
    return sum(math.prod(variable.shape) for _, variable in kernels(layer))


def put_in_place(
    model: keras.Model, replacements: list[Replacement], names: Names, means: dict[int, np.ndarray]
) -> keras.Model:
    """A copy of `model` with chains in the place of layers, their weights set.

    Args:
        model: the original.
        replacements: what replaces what; their chains are yet unbuilt.
        names: tells which layers must be closed by one of the old name.
        means: mean input rows by the id of the layer, (groups, inputs): the bias makes good for what the
            chain lacks on them.
    """
    by_layer = {id(replacement.layer): replacement for replacement in replacements}

    def replace(layer):
        found = by_layer.get(id(layer))
        return None if found is None else [*found.chain, *names.closing(layer)]

    def transfer(layer, _):
        replacement = by_layer[id(layer)]
        replacement.assign(replacement.kernels, _corrected_bias(replacement, means.get(id(layer))))

    return rewrite(model, replace, transfer=transfer)


def _corrected_bias(replacement, mean) -> np.ndarray | None:
    bias = getattr(replacement.layer, "bias", None)
    if bias is None:
        return None
    bias = keras.ops.convert_to_numpy(bias).astype("float64")
    if mean is None:
        return bias
    form = replacement.form
    missing = form.weights - product(form, replacement.kernels)
    # Of a convolution the mean is that of the channels, the same at each place of the window.
    rows = np.tile(mean, form.weights.shape[1] // mean.shape[1])
    return bias + np.einsum("gi,gio->go", rows, missing).reshape(bias.shape)


def facts(replacement: Replacement, before: Costs, after: Costs, errors: dict) -> dict:
    """What is told of one layer."""
    row = {
        "macs_before": before.macs(replacement.layer),
        "macs_after": after.macs(*replacement.chain),
        "params_before": kernel_params(replacement.layer),
        "params_after": sum(map(kernel_params, replacement.chain)),
        "error": round(replacement.error, 6),
    }
    if replacement.path in errors:
        row["output_error"], row["output_error_refitted"] = (round(e, 6) for e in errors[replacement.path])
    return row


def _embedding_width(layer) -> int:
    return layer.output_dim if isinstance(layer, keras.layers.Embedding) else 0


def _spatial(layer, shape) -> tuple[int, ...]:
    """The spatial axes; free ones count once, as in all counts of multiply-accumulates."""
    axes = shape[1:-1] if layer.data_format == "channels_last" else shape[2:]
    return tuple(size or 1 for size in axes)
