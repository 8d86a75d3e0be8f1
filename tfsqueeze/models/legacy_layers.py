"""What Keras 2 graphs contain and Keras 3 has no word for, as small serializable pieces.

Imported by `import tfsqueeze`, so that saved models that hold them load with nothing else.
"""

import inspect

import keras
import tensorflow as tf
from keras import ops
from tensorflow.python.util.tf_export import get_symbol_from_name

_ALLOWED_MODULES = ("math", "nn", "linalg", "image", "signal", "strings", "bitwise", "sets", "sparse")
_ALLOWED_NAMES = frozenset(
    """
    argsort batch_to_space bitcast boolean_mask broadcast_to cast clip_by_norm clip_by_value concat cumsum
    div einsum ensure_shape expand_dims eye fill floor_div floormod gather gather_nd identity linspace
    meshgrid norm one_hot ones ones_like pad range rank realdiv repeat reshape reverse reverse_sequence
    roll scatter_nd searchsorted sequence_mask shape shape_n size slice sort space_to_batch
    space_to_batch_nd split squeeze stack stop_gradient strided_slice tensor_scatter_nd_add
    tensor_scatter_nd_update tensordot tile transpose truncatediv truncatemod unique unstack where zeros
    zeros_like
    """.split()  # noqa: SIM905
)
_UNSAFE_IMAGE_PARTS = ("decode", "encode", "extract_jpeg", "read", "write")


@keras.saving.register_keras_serializable(package="tfsqueeze", name="hard_sigmoid_v2")
def hard_sigmoid_v2(x):
    """The hard sigmoid of Keras 2: clip(0.2 x + 0.5, 0, 1). Keras 3's has slope 1/6.

    Args:
        x: float tensor.

    Returns:
        Tensor of the same shape and dtype, in [0, 1].
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="tfsqueeze")
class TensorFlowOperation(keras.layers.Layer):
    """Calls one public TensorFlow function, with constant arguments kept in the config.

    It takes the place of a Keras 2 `TFOpLambda` whose function has no counterpart in `keras.ops`.
    Called with the tensors that stand in `arguments` as `{"tensor": position}`.

    Args:
        symbol: public name of the function without the leading "tf.", such as "math.cumsum". Only functions
            that compute tensors from tensors are accepted: a model file must not read or write files.
        arguments: the keyword arguments of the function, as made by `encode_argument`.

    Raises:
        ValueError: if `symbol` is not a TensorFlow function that may stand in a model.

    Example:
        >>> layer = TensorFlowOperation("math.cumsum", {"x": {"tensor": 0}, "axis": 1})
        >>> layer(np.ones((1, 3), "float32"))
        <tf.Tensor: shape=(1, 3), dtype=float32, numpy=array([[1., 2., 3.]], dtype=float32)>
    """

    def __init__(self, symbol: str, arguments: dict, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        check_symbol(symbol)
        self.symbol = symbol
        self.arguments = arguments
        self._function = get_symbol_from_name(symbol)
        self._signature = inspect.signature(self._function)

    def call(self, *tensors):
        arguments = {name: _decode(value, tensors) for name, value in self.arguments.items()}
        bound = self._signature.bind_partial()
        bound.arguments.update(arguments)
        return self._function(*bound.args, **bound.kwargs)

    def get_config(self):
        config = {**super().get_config(), "symbol": self.symbol, "arguments": self.arguments}
        config.pop("autocast", None)
        return config


def check_symbol(symbol: str) -> None:
    """Raises ValueError unless `symbol` names a TensorFlow function that only computes tensors."""
    parts = symbol.removeprefix("compat.v1.").split(".")
    module, name = parts[0], parts[-1]
    known = len(parts) == 1 and name in _ALLOWED_NAMES
    known = known or (module in _ALLOWED_MODULES and not any(part in name for part in _UNSAFE_IMAGE_PARTS))
    if not (known or module == "__operators__") or get_symbol_from_name(symbol) is None:
        raise ValueError(
            f"The model calls the TensorFlow function {symbol!r}, which is not among those that compute "
            "tensors from tensors, and cannot be kept. Rebuild the model without it."
        )


def encode_argument(value, position_of):
    """Turns one argument of a TensorFlow function into something JSON can hold.

    Args:
        value: a tensor of the graph, a constant, a dtype, a slice, or a list or tuple of these.
        position_of: function that gives the position of a graph tensor, or None for anything else.
    """
    position = position_of(value)
    if position is not None:
        return {"tensor": position}
    if isinstance(value, (list, tuple)):
        return [encode_argument(item, position_of) for item in value]
    if isinstance(value, slice):
        bounds = (value.start, value.stop, value.step)
        return {"slice": [encode_argument(bound, position_of) for bound in bounds]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, tf.DType):
        return {"dtype": value.name}
    if tf.is_tensor(value) or hasattr(value, "tolist"):
        array = ops.convert_to_numpy(value)
        return {"constant": array.tolist(), "dtype": array.dtype.name}
    return value


def _decode(value, tensors):
    if isinstance(value, (list, tuple)):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "slice" in value:
        return slice(*(_decode(bound, tensors) for bound in value["slice"]))
    if "ellipsis" in value:
        return Ellipsis
    if "constant" in value:
        return tf.constant(value["constant"], value["dtype"])
    return tf.dtypes.as_dtype(value["dtype"])
