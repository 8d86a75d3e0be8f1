"""Which layers' values exceed what half precision can hold."""

import warnings
from typing import Any

import keras
import numpy as np
from keras.optimizers import LossScaleOptimizer

from tfsqueeze.core.checks import check_choice, check_model, has_graph
from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.core.inner_inputs import InnerInputs, Received
from tfsqueeze.core.layer_info import counts_sublayers
from tfsqueeze.core.select import select_layers, walk
from tfsqueeze.core.trained import trained_model
from tfsqueeze.precision.conversion import layer_by_layer

EXAMPLES = 32


def find_overflows(
    model: keras.Model, data: Any, precision: str = "float16", *, select=None
) -> dict[str, str]:
    """Finds the layers whose results on `data` are finite in float32 but not in half precision.

    Each layer is given, in half precision, what it receives when the whole model runs in float32, so that one
    layer's overflow does not hide another's.

    Args:
        model: any built model; it is not changed.
        data: examples in any form `model.fit` takes; the first 32 are used, in inference mode.
        precision: "float16" (largest value 65,504) or "bfloat16" (which has the range of float32).
        select: layers to look at, see `tfs.Select`; None for all.

    Returns:
        What overflows, by layer path; empty if nothing does.

    Raises:
        ValueError: if the data does not fit the model, or `precision` is unknown.

    Example:
        >>> tfs.find_overflows(model, x[:32])
        {'score': 'makes values up to 1.2e+05'}
    """
    check_model(model, "find_overflows()")
    precision = check_choice("precision", precision, ("float16", "bfloat16"))
    chosen = {id(named.layer) for named in select_layers(model, select, lambda layer: None).chosen}
    reference, half = (layer_by_layer(model, name) for name in ("float32", precision))
    twins = {
        id(single.layer): (named.path, single.layer, low.layer)
        for named, single, low in zip(walk(model), walk(reference), walk(half), strict=True)
        if id(named.layer) in chosen and _is_innermost(named.layer)
    }
    examples = collect(data, input_specs(model), limit=EXAMPLES)
    inputs = InnerInputs(reference, [single for _, single, _ in twins.values()], [examples])
    found = {}
    for layer in inputs.order:
        path, _, low = twins[id(layer)]
        reasons = [_reason(layer, low, call, precision) for call in inputs.read(layer, examples)]
        reason = next(filter(None, reasons), None)
        if reason:
            found[path] = reason
    return found


class OverflowCallback(keras.callbacks.Callback):
    """Warns during training of layers whose values have grown beyond half precision.

    Looks at the end of each epoch, and names each layer once; in a model that is in float32 as yet, the
    layers that would overflow. It also warns when the optimizer's loss scale has fallen to 1, which means
    that gradients overflow at every step.

    Args:
        data: examples to look at; 32 are enough.
        precision: "float16" or "bfloat16".

    Example:
        >>> model.fit(x, y, callbacks=[tfs.callbacks.OverflowCallback(x[:32])])
    """

    def __init__(self, data: Any, precision: str = "float16"):
        super().__init__()
        self.data, self.precision = data, precision
        self.found: dict[str, str] = {}

    def on_epoch_end(self, epoch, logs=None):
        """Looks at the model as it is now."""
        model = trained_model(self.model)
        half = [named.layer for named in walk(model) if named.layer.compute_dtype == self.precision]
        found = find_overflows(model, self.data, self.precision, select=half or None)
        for path, reason in found.items():
            if path not in self.found:
                warnings.warn(
                    f"Epoch {epoch + 1}: layer {path!r} overflows in {self.precision}: it {reason}. Keep it "
                    f"in float32: tfs.with_precision(model, {self.precision!r}, "
                    f"select=tfs.Select(skip={path!r})).",
                    stacklevel=2,
                )
        self.found.update(found)
        optimizer = getattr(self.model, "optimizer", None)
        if isinstance(optimizer, LossScaleOptimizer) and float(optimizer.dynamic_scale) <= 1:
            warnings.warn(
                f"Epoch {epoch + 1}: the loss scale has fallen to {float(optimizer.dynamic_scale):g}: "
                "gradients overflow at every step. Lower the learning rate or clip gradients.",
                stacklevel=2,
            )


def _is_innermost(layer) -> bool:
    """Whether a layer computes by itself: what it is made of would be blamed otherwise."""
    children = layer._flatten_layers(include_self=False, recursive=False)
    return not has_graph(layer) and (counts_sublayers(layer) or not any(True for _ in children))


def _reason(layer, half, call: Received, precision: str) -> str | None:
    if half.compute_dtype == layer.compute_dtype:
        # The plan keeps outputs in float32, where nothing overflows.
        return None
    expected = _magnitude(layer(*call.args, **call.kwargs))
    if not np.isfinite(expected):
        return None
    received = keras.tree.map_structure(lambda value: _cast(value, precision), (call.args, call.kwargs))
    if not np.isfinite(_magnitude(received)):
        return f"receives values up to {_magnitude((call.args, call.kwargs)):.2g}"
    if not np.isfinite(_magnitude(half(*received[0], **received[1]))):
        return f"makes values up to {expected:.2g}"
    return None


def _cast(value, precision: str):
    return keras.ops.cast(value, precision) if _is_floats(value) else value


def _magnitude(structure) -> float:
    """The largest magnitude in a structure of tensors, NaN if there is one."""
    largest = [
        float(keras.ops.max(keras.ops.abs(keras.ops.cast(value, "float32"))))
        for value in keras.tree.flatten(structure)
        if _is_floats(value) and 0 not in value.shape
    ]
    return float(np.max(largest)) if largest else 0.0


def _is_floats(value) -> bool:
    return hasattr(value, "dtype") and keras.backend.is_float_dtype(value.dtype)
