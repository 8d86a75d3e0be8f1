"""Checks that a ported model computes what the Keras 2 model did, and finds where it does not."""

import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.models.port import Port

_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1}
_FREE_AXIS_SIZES = (32, 128)


def check_port(old, new, port: Port, *, seed: int = 0) -> None:
    """Runs both models on random input and compares all outputs.

    Outputs must agree to 1e-5 of their largest magnitude (2e-2 where layers compute in float16, 1e-1
    in bfloat16).

    Args:
        old: the `tf_keras` model. Its weights and states are as before when this returns.
        new: its Keras 3 port.
        port: the record of the port.
        seed: of the random input.

    Raises:
        UnsupportedModelError: names the first layer whose output differs.
    """
    inputs = _runnable_inputs(old, seed)
    if inputs is None:
        return
    tolerance = max(_TOLERANCE.get(layer.compute_dtype, 1e-5) for layer in [old, *old.layers])
    expected, received = (_flat(_run(model, inputs)) for model in (old, new))
    if all(difference(a, b) <= tolerance for a, b in zip(expected, received, strict=True)):
        return
    layer, worst = _first_difference(old, new, port, inputs, tolerance)
    raise UnsupportedModelError(
        f"The port of {old.name!r} to Keras 3 computes something else from layer {layer!r} on: its output "
        f"differs by {worst:.2g} of its largest magnitude (allowed: {tolerance:.0e}). "
        "Pass custom_objects={class name: YourKeras3Layer} to say what takes the place of that layer."
    )


def difference(expected: np.ndarray, received: np.ndarray) -> float:
    """Largest absolute difference of two arrays as a fraction of the largest finite magnitude expected."""
    if expected.shape != received.shape:
        return np.inf
    if expected.dtype.kind not in "fc":
        return 0.0 if np.array_equal(expected, received) else np.inf
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], received[~finite], equal_nan=True):
        return np.inf
    if not finite.any():
        return 0.0
    gaps = np.abs(expected[finite] - received[finite])
    worst = float(gaps.max() / max(np.abs(expected[finite]).max(), 1e-6))
    return worst if np.isfinite(worst) else np.inf


def _runnable_inputs(old, seed):
    """Random inputs the Keras 2 model can be run on; None if it runs on none of them.

    Normal values suit most models; those that look values up in a table need small whole numbers.
    """
    structure = getattr(old, "_nested_inputs", None)
    if structure is None:
        structure = tf.TensorSpec(old._build_input_shape, "float32")
    for size in _FREE_AXIS_SIZES:
        for whole in (False, True):
            rng = np.random.default_rng(seed)
            inputs = tf.nest.map_structure(lambda t: _random(rng, t, size, whole), structure)  # noqa: B023
            inputs = inputs[0] if isinstance(inputs, (list, tuple)) and len(inputs) == 1 else inputs
            try:
                _run(old, inputs)
            except Exception:
                continue
            return inputs
    return None


def _run(model, inputs):
    """Runs a model from zero states, and leaves it so."""
    _reset_states(model)
    outputs = model(inputs, training=False)
    _reset_states(model)
    return outputs


def _reset_states(model) -> None:
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and hasattr(layer, "cell"):
            getattr(layer, "reset_states", getattr(layer, "reset_state", None))()


def _random(rng, tensor, size, whole):
    shape = [2, *tensor.shape[1:]] if tensor.shape[0] is None else list(tensor.shape)
    shape = [size if axis is None else axis for axis in shape]
    dtype = tf.dtypes.as_dtype(tensor.dtype)
    if dtype == tf.string:
        return tf.constant(rng.choice(["a", "b", "the cat"], shape))
    values = rng.normal(size=shape) if dtype.is_floating and not whole else rng.integers(0, 2, shape)
    return tf.cast(tf.constant(values), dtype)


def _flat(outputs) -> list[np.ndarray]:
    return [np.asarray(_dense(tensor)) for tensor in tf.nest.flatten(outputs)]


def _dense(tensor):
    tensor = tf.sparse.to_dense(tensor) if isinstance(tensor, tf.SparseTensor) else tensor
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _first_difference(old, new, port, inputs, tolerance):
    """Name of the first layer in the graph's order whose outputs differ, and by how much."""
    import keras
    import tf_keras

    worst = 0.0
    for layer, before, after in port.tensors:
        expected = _run(tf_keras.Model(old.inputs, before), inputs)
        received = _run(keras.Model(new.inputs, after), inputs)
        worst = difference(*_flat([expected, received]))
        if worst > tolerance:
            return layer.name, worst
    return new.name, worst
