"""Which `keras.ops` function does what a TensorFlow function does, with TensorFlow's parameter names."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from keras import ops


def keras_operation(symbol: str, names: set[str]) -> Callable | None:
    """The counterpart of a TensorFlow function, called with TensorFlow's keyword arguments.

    Args:
        symbol: public name of the function without "tf.", such as "math.add".
        names: names of the arguments it is called with; all must be understood.

    Returns:
        A function, or None if `keras.ops` has no counterpart for such a call.
    """
    if symbol in _ADAPTED:
        function = _ADAPTED[symbol]
        known = set(function.__code__.co_varnames[: function.__code__.co_argcount])
        return function if names <= known else None
    if symbol not in _RENAMED:
        return None
    operation, renames = _RENAMED[symbol]
    if not names <= set(renames):
        return None
    return lambda **arguments: operation(**{renames[name]: value for name, value in arguments.items()})


def _binary(operation):
    def call(x, y):
        return operation(_like(x, y), _like(y, x))

    return call


def _like(value, other):
    """TensorFlow gives a constant the dtype of the tensor beside it, where Keras would promote both."""
    is_constant = isinstance(value, (list, tuple, np.ndarray, np.generic))
    return np.asarray(value, other.dtype) if is_constant and hasattr(other, "dtype") else value


def _reduction(operation):
    def call(input_tensor, axis=None, keepdims=False):
        return operation(input_tensor, axis=_axis(axis), keepdims=bool(keepdims))

    return call


def _ints(value):
    if value is None or isinstance(value, int):
        return value
    return tuple(int(size) for size in np.asarray(value).ravel())


def _axis(value):
    axes = _ints(value)
    return axes[0] if isinstance(axes, tuple) and len(axes) == 1 else axes


def _concat(values, axis):
    return ops.concatenate(values, int(axis))


def _split(value, num_or_size_splits, axis=0):
    sizes = np.asarray(num_or_size_splits)
    return ops.split(value, int(sizes) if sizes.ndim == 0 else np.cumsum(sizes)[:-1].tolist(), int(axis))


def _reshape(tensor, shape):
    return ops.reshape(tensor, _ints(shape))


def _transpose(a, perm=None):
    return ops.transpose(a, _ints(perm))


def _expand_dims(input, axis):
    return ops.expand_dims(input, _axis(axis))


def _squeeze(input, axis=None):
    return ops.squeeze(input, _axis(axis))


def _tile(input, multiples):
    return ops.tile(input, _ints(multiples))


def _cast(x, dtype):
    return ops.cast(x, tf.dtypes.as_dtype(dtype).name)


def _einsum(equation, inputs):
    return ops.einsum(equation, *inputs)


def _identity(input):
    return input


def _bias_add(value, bias):
    return ops.add(value, _like(bias, value))


def _pad(tensor, paddings, mode="CONSTANT", constant_values=0):
    pads = [[int(before), int(after)] for before, after in np.asarray(paddings)]
    values = (constant_values,) if mode.upper() == "CONSTANT" else ()
    return ops.pad(tensor, pads, mode.lower(), *values)


def _matmul(a, b, transpose_a=False, transpose_b=False):
    def transposed(matrix, wanted):
        return ops.swapaxes(matrix, -1, -2) if wanted else matrix

    return ops.matmul(transposed(_like(a, b), transpose_a), transposed(_like(b, a), transpose_b))


_BINARY = {
    "add": ops.add,
    "subtract": ops.subtract,
    "multiply": ops.multiply,
    "divide": ops.true_divide,
    "truediv": ops.true_divide,
    "floordiv": ops.floor_divide,
    "pow": ops.power,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "equal": ops.equal,
    "not_equal": ops.not_equal,
    "greater": ops.greater,
    "greater_equal": ops.greater_equal,
    "less": ops.less,
    "less_equal": ops.less_equal,
    "logical_and": ops.logical_and,
    "logical_or": ops.logical_or,
}
_UNARY = {
    "abs": ops.abs,
    "negative": ops.negative,
    "exp": ops.exp,
    "log": ops.log,
    "sqrt": ops.sqrt,
    "rsqrt": ops.rsqrt,
    "square": ops.square,
    "sin": ops.sin,
    "cos": ops.cos,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
    "floor": ops.floor,
    "ceil": ops.ceil,
    "sign": ops.sign,
    "erf": ops.erf,
    "logical_not": ops.logical_not,
}
_REDUCTIONS = {
    "reduce_mean": ops.mean,
    "reduce_sum": ops.sum,
    "reduce_max": ops.max,
    "reduce_min": ops.min,
    "reduce_prod": ops.prod,
}
_RENAMED = {
    **{f"math.{name}": (operation, {"x": "x"}) for name, operation in _UNARY.items()},
    "nn.sigmoid": (ops.sigmoid, {"x": "x"}),
    "nn.tanh": (ops.tanh, {"x": "x"}),
    "nn.relu": (ops.relu, {"features": "x"}),
    "nn.relu6": (ops.relu6, {"features": "x"}),
    "nn.elu": (ops.elu, {"features": "x"}),
    "nn.selu": (ops.selu, {"features": "x"}),
    "nn.silu": (ops.silu, {"features": "x"}),
    "nn.softplus": (ops.softplus, {"features": "x"}),
    "math.softplus": (ops.softplus, {"features": "x"}),
    "nn.gelu": (
        lambda x, approximate=False: ops.gelu(x, approximate),
        {"features": "x", "approximate": "approximate"},
    ),
    "nn.leaky_relu": (ops.leaky_relu, {"features": "x", "alpha": "negative_slope"}),
    "nn.softmax": (ops.softmax, {"logits": "x", "axis": "axis"}),
    "stack": (ops.stack, {"values": "x", "axis": "axis"}),
    "clip_by_value": (ops.clip, {"t": "x", "clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "stop_gradient": (ops.stop_gradient, {"input": "variable"}),
    "zeros_like": (ops.zeros_like, {"input": "x"}),
    "ones_like": (ops.ones_like, {"input": "x"}),
}
_ADAPTED = {
    **{f"math.{name}": _binary(operation) for name, operation in _BINARY.items()},
    **{f"math.{name}": _reduction(operation) for name, operation in _REDUCTIONS.items()},
    "__operators__.add": _binary(ops.add),
    "concat": _concat,
    "split": _split,
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "tile": _tile,
    "pad": _pad,
    "cast": _cast,
    "einsum": _einsum,
    "identity": _identity,
    "linalg.matmul": _matmul,
    "nn.bias_add": _bias_add,
}
