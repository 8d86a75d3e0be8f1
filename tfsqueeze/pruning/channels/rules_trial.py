"""The rule of every operation without one of its own: what it does with channels is tried out."""

import keras
import numpy as np

from tfsqueeze.core import copying
from tfsqueeze.pruning.channels import trial
from tfsqueeze.pruning.channels.flow import Axes, Call, Flow

_SHRUNK, _FREE = 8, 4


def by_trial(flow: Flow, call: Call) -> list[Axes]:
    """Passes on the channels that the operation, tried on random numbers, treats one by one."""
    if not any(tensor.is_labelled for tensor in call.inputs):
        flow.leave_whole(call.operation, f"{call.path!r} also works on channels that cannot be cut")
        return [(None,) * len(shape) for shape in call.output_shapes]
    if getattr(call.operation, "weights", None):
        return channelwise_layer(flow, call)
    if len(call.output_shapes) != 1:
        return flow.pin(call, f"{call.path!r} ({type(call.operation).__name__}) has several outputs")
    passed: list = [None] * len(call.output_shapes[0])
    settled: set[tuple[int, int]] = set()
    for output, axes in _candidates(call):
        taken = {(index, axis) for index, axis in enumerate(axes) if axis is not None}
        if passed[output] is None and not taken & settled and _passes(flow, call, axes, output):
            passed[output] = _joined(flow, call, axes)
            settled |= taken
    for index, tensor in enumerate(call.inputs):
        for axis, labels in enumerate(tensor.axes):
            if (index, axis) not in settled:
                flow.sets.pin(labels, f"{call.path!r} ({type(call.operation).__name__}) mixes them")
    return [tuple(passed)]


def _candidates(call: Call):
    """Pairs of an output axis and the input axes that may correspond, the likeliest first."""
    rank = len(call.output_shapes[0])
    seen = set()
    for output in range(rank - 1, 0, -1):
        aligned = tuple(_axis(call, t, output - rank + len(t.shape), output) for t in call.inputs)
        leading = tuple(_axis(call, t, output, output) for t in call.inputs)
        alone = [(axis,) for axis in range(1, len(call.inputs[0].shape)) if len(call.inputs) == 1]
        for axes in (aligned, leading, *alone):
            if (output, axes) not in seen and _is_worth_trying(call, axes, output):
                seen.add((output, axes))
                yield output, axes


def _axis(call, tensor, axis, output):
    is_there = 1 <= axis < len(tensor.shape)
    return axis if is_there and tensor.shape[axis] == call.output_shapes[0][output] else None


def _is_worth_trying(call, axes, output) -> bool:
    size = call.output_shapes[0][output]
    pairs = [(t, axis) for t, axis in zip(call.inputs, axes, strict=True) if axis is not None]
    return any(t.axes[axis] is not None and t.shape[axis] == size for t, axis in pairs)


def _joined(flow, call, axes):
    parts = [t.axes[axis] for t, axis in zip(call.inputs, axes, strict=True) if axis is not None]
    labels = parts[0]
    for part in parts[1:]:
        labels = flow.sets.join(labels, part, f"{call.path!r} combines them with what cannot be cut")
    return labels


def _passes(flow, call, axes, output) -> bool:
    key = (_signature(call), axes, output)
    if key[0] is None or key not in flow.trials:
        flow.trials[key] = any(_passes_at(call, axes, output, limit) for limit in (_SHRUNK, None))
    return flow.trials[key]


def _passes_at(call, axes, output, limit) -> bool:
    inputs = [
        trial.draw(_drawn_shape(call, tensor, axis, limit), tensor.symbol.dtype)
        for tensor, axis in zip(call.inputs, axes, strict=True)
    ]
    return trial.is_equivariant(lambda *arrays: _apply(call, arrays), inputs, list(axes), output)


def _drawn_shape(call, tensor, axis, limit) -> tuple[int, ...]:
    """Small where it may be: only the axis in question must have its own size."""
    sizes = [size or _beside(call, tensor, index) for index, size in enumerate(tensor.shape)]
    if limit is not None:
        sizes = [size if index == axis else min(size, limit) for index, size in enumerate(sizes)]
    return (2, *sizes[1:])


def _beside(call, tensor, axis) -> int:
    """A size for a free axis: that of the same axis of another input, if it is known there."""
    from_end = axis - len(tensor.shape)
    sizes = [other.shape[from_end] for other in call.inputs if len(other.shape) >= -from_end]
    return next((size for size in sizes if size), _FREE)


def _apply(call, arrays):
    values = {
        id(tensor.symbol): keras.ops.convert_to_tensor(array, tensor.symbol.dtype)
        for tensor, array in zip(call.inputs, arrays, strict=True)
    }
    args, kwargs = call.node.arguments.fill_in(values)
    if kwargs.get("training"):
        # Noise that is drawn for each channel by itself cannot be compared.
        kwargs["training"] = False
    return call.operation(*args, **kwargs)


def _signature(call):
    """What decides the outcome of a trial; None where it cannot be told."""
    operation = call.operation
    if not type(operation).__module__.startswith("keras.") or isinstance(operation, keras.layers.Lambda):
        return None
    try:
        config = {name: value for name, value in operation.get_config().items() if name != "name"}
    except Exception:  # Operations need not have a configuration.
        return None
    arguments = call.node.arguments.convert(
        lambda leaf: "tensor" if isinstance(leaf, keras.KerasTensor) else leaf
    )
    shapes = [(tensor.shape, tuple(a is not None for a in tensor.axes)) for tensor in call.inputs]
    return repr((type(operation), config, arguments, shapes))


def channelwise_layer(flow: Flow, call: Call) -> list[Axes]:
    """A layer with weights that is not known: cut if a smaller one made for the purpose proves it right.

    Its variables must have one axis of the channels' size each, or none; settings of that value count
    channels too. This covers scales, shifts and gates that people write themselves.
    """
    layer, tensor = call.operation, call.inputs[0]
    labelled = [axis for axis, labels in enumerate(tensor.axes) if labels is not None]
    reason = f"{call.path!r} ({type(layer).__name__}) is not known to treat channels one by one"
    if len(call.inputs) > 1 or len(call.output_shapes) > 1 or len(labelled) > 1 or _has_sublayers(layer):
        return flow.pin(call, reason)
    axis, shape = labelled[0], call.output_shapes[0]
    size = tensor.shape[axis]
    output = axis if len(shape) == len(tensor.shape) and shape[axis] == size else None
    sliced = [(variable, _only_axis(variable, size)) for variable in layer.weights]
    settings = [name for name, value in layer.get_config().items() if value == size and _is_int(value)]
    if output is None or not _cut_layer_agrees(call, axis, sliced, settings):
        return flow.pin(call, reason)
    for variable, variable_axis in sliced:
        if variable_axis is not None:
            flow.touch(layer, variable, variable_axis, "follower", tensor.axes[axis])
    flow.resize(layer, **dict.fromkeys(settings, tensor.axes[axis]))
    return [tuple(tensor.axes[axis] if index == output else None for index in range(len(shape)))]


def _cut_layer_agrees(call, axis, sliced, settings) -> bool:
    layer, tensor = call.operation, call.inputs[0]
    rng = np.random.default_rng(0)
    weights = [rng.uniform(0.5, 1.5, variable.shape) for variable, _ in sliced]
    size = tensor.shape[axis]
    inputs = trial.draw(_drawn_shape(call, tensor, axis, _SHRUNK), tensor.symbol.dtype)
    try:
        whole = _made(layer, {}, inputs, weights)
        for kept in trial.parts(size):
            cut = [w if a is None else np.take(w, kept, a) for w, (_, a) in zip(weights, sliced, strict=True)]
            part = _made(layer, dict.fromkeys(settings, len(kept)), np.take(inputs, kept, axis), cut)
            if not np.allclose(part, np.take(whole, kept, axis), rtol=1e-4, atol=1e-5):
                return False
    except Exception:  # A layer that cannot be made smaller cannot be cut.
        return False
    return True


def _made(layer, changes, inputs, weights) -> np.ndarray:
    twin = copying.copy_layer(layer, changes)
    twin(inputs)
    for variable, value in zip(twin.weights, weights, strict=True):
        variable.assign(value)
    return np.asarray(keras.ops.cast(twin(inputs), "float32"))


def _has_sublayers(layer) -> bool:
    return any(layer._flatten_layers(include_self=False))


def _only_axis(variable, size):
    axes = [axis for axis, length in enumerate(variable.shape) if length == size]
    return axes[-1] if axes else None


def _is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
