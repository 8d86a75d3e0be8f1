"""Out of quantization-aware training again: a plain model, or the model as integer kernels compute it."""

import keras

from tfsqueeze.core import copying
from tfsqueeze.core.checks import UnsupportedModelError, check_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.attention import QuantizedAttention, copy_attention
from tfsqueeze.quantization.aware import is_quantization_aware
from tfsqueeze.quantization.ranges import BEFORE_RANGE
from tfsqueeze.quantization.wrapper import QuantizedLayer


def strip_quantization(model: keras.Model) -> keras.Model:
    """Makes a plain copy of a quantization-aware model: ordinary layers, weights on their grids.

    Activation ranges are lost; to keep them in a file, export the quantization-aware model itself.

    Args:
        model: what `tfs.quantize_aware` returned, trained or not, or loaded from a file; it is not changed.

    Returns:
        A new model with the layers, names and compile settings of the one that was given to
        `quantize_aware`.

    Raises:
        UnsupportedModelError: if the model is not quantization-aware.

    Example:
        >>> plain = tfs.strip_quantization(qat)
        >>> plain.save("plain.keras")
    """
    check_graph(model, "strip_quantization()")
    if not is_quantization_aware(model):
        raise UnsupportedModelError(
            f"Model {model.name!r} is not quantization-aware: `tfs.quantize_aware` did not make it, or it "
            "was stripped already."
        )
    done = {}

    def transfer(old, new_layers):
        if isinstance(old, QuantizedAttention):
            copy_attention(old.layer, new_layers[0], baked=True)
            done[old.layer.name] = {"weights": f"{old.weights_method}, baked"}
        elif isinstance(old, QuantizedLayer):
            copying.copy_state(old.layer, new_layers[0])
            bake(old, new_layers[0])
            done[old.layer.name] = {"weights": f"{old.weights_method}, baked"}
        elif new_layers:
            copying.copy_state(old, new_layers[0])

    return record(rewrite(model, _plain, transfer=transfer), "strip_quantization", done, {})


def bake(wrapper: QuantizedLayer, layer: keras.Layer) -> None:
    """Sets the kernels of `layer`, a copy of the wrapped one, to their rounded values."""
    for name, value in wrapper.baked().items():
        attribute = f"_{name}" if isinstance(getattr(layer, f"_{name}", None), keras.Variable) else name
        getattr(layer, attribute).assign(value)


def _plain(layer):
    if isinstance(layer, ActivationQuantizer):
        return []
    if isinstance(layer, QuantizedLayer):
        twin = copying.copy_layer(layer.layer)
        if layer.activation is not None:
            twin.activation = layer.activation
        return twin
    if isinstance(layer, QuantizedAttention):
        return copying.copy_layer(layer.layer)
    if layer.name.endswith(BEFORE_RANGE):
        twin = copying.copy_layer(layer)
        twin.name = layer.name.removesuffix(BEFORE_RANGE)
        return twin
    return None
