"""One `tf_keras` layer -> its Keras 3 twin: class, config and what is nested in it. Weights come later."""

import importlib
import inspect
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.models.legacy_layers import hard_sigmoid_v2

_RENAMED_CLASSES = {"ThresholdedReLU": "ReLU", "SyncBatchNormalization": "BatchNormalization"}
_RENAMED_KEYS = {
    "LeakyReLU": {"alpha": "negative_slope"},
    "ThresholdedReLU": {"theta": "threshold"},
}
_LOOKUPS = ("StringLookup", "IntegerLookup", "TextVectorization")


def make_twin(old, port: Callable, custom_objects: Mapping):
    """Builds the Keras 3 layer that does what a `tf_keras` layer does, without its weights.

    Args:
        old: a `tf_keras` layer that is neither a model nor a tfmot wrapper.
        port: function that ports a layer nested in `old`.
        custom_objects: Keras 3 classes and functions by the names of their Keras 2 counterparts.

    Returns:
        An unbuilt `keras.layers.Layer`.

    Raises:
        UnsupportedModelError: if there is no such Keras 3 class, or it refuses the configuration.
    """
    kind = twin_class(old, custom_objects)
    if kind is keras.layers.Lambda:
        return _port_lambda(old)
    try:
        with keras.saving.custom_object_scope(dict(custom_objects)):
            return kind(**_config(old, kind, port))
    except UnsupportedModelError:
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"Layer {old.name!r} ({type(old).__name__}) cannot be ported to Keras 3: {error} "
            f"Pass custom_objects={{{type(old).__name__!r}: YourKeras3Layer}} to say what takes its place."
        ) from error


def twin_class(old, custom_objects: Mapping) -> type:
    """The Keras 3 class for a `tf_keras` layer: the user's own if named, else the one of the same name."""
    name = type(old).__name__
    for candidate in (custom_objects.get(name), keras.saving.get_registered_object(name)):
        if inspect.isclass(candidate) and issubclass(candidate, keras.layers.Layer):
            return candidate
    if type(old).__module__.startswith(("tf_keras.", "keras.")) and not _is_revived(old):
        twin = getattr(keras.layers, _RENAMED_CLASSES.get(name, name), None) or _same_module_class(type(old))
        if twin is not None:
            return twin
        raise UnsupportedModelError(
            f"Layer {old.name!r} is a {name}, which Keras 3 no longer has. "
            f"Pass custom_objects={{{name!r}: YourKeras3Layer}} to say what takes its place."
        )
    raise UnsupportedModelError(
        f"Layer {old.name!r} is of the custom class {name}, which has no Keras 3 counterpart. "
        f"Write one as a subclass of `keras.layers.Layer` with the same weights and pass "
        f"custom_objects={{{name!r}: YourKeras3Layer}}."
    )


def _is_revived(old) -> bool:
    """Whether a SavedModel held the traced functions of a layer whose class is not at hand."""
    return ".saved_model." in type(old).__module__


def _same_module_class(kind: type) -> type | None:
    """Layers that `keras.applications` define for themselves have the same place in both Keras versions."""
    try:
        module = importlib.import_module(kind.__module__.replace("tf_keras.", "keras.", 1))
    except ImportError:
        return None
    return getattr(module, kind.__name__, None)


def _port_lambda(old):
    return keras.layers.Lambda(
        old.function,
        output_shape=getattr(old, "_output_shape", None),
        mask=getattr(old, "mask", None),
        arguments=dict(old.arguments or {}) or None,
        dtype=_dtype(old),
        name=layer_name(old.name),
    )


def layer_name(name: str) -> str:
    """A layer name that Keras 3 accepts: it has no slashes."""
    return name.replace("/", "_")


def _config(old, kind, port) -> dict:
    known = _parameters(kind)
    renames = _RENAMED_KEYS.get(type(old).__name__, {})
    config = {}
    for key, value in {**old.get_config(), **_learned_state(old)}.items():
        key = renames.get(key, key)
        if key in known:
            config[key] = _config_value(old, key, value, port)
    config["name"] = layer_name(old.name)
    config["trainable"] = bool(old.trainable)
    if type(old).__name__ in ("StringLookup", "TextVectorization"):
        config.pop("dtype", None)
    elif "dtype" in config:
        config["dtype"] = _dtype(old)
    if type(old).__name__ == "SyncBatchNormalization":
        config["synchronized"] = True
    return {key: value for key, value in config.items() if key in known}


def known_config(kind: type, config: Mapping) -> dict:
    """The part of a saved configuration that the constructor of a Keras 3 class knows."""
    known = _parameters(kind)
    return {key: _plain(value) for key, value in config.items() if key in known}


def _parameters(kind: type) -> set[str]:
    """Names of the constructor's arguments, also those it hands on to its parents."""
    names: set[str] = set()
    for parent in kind.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(parent.__init__).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} - {"self"}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters) or parent is keras.layers.Layer:
            break
    return names


def _config_value(old, key, value, port):
    live = getattr(old, key, None)
    if _is_layer(live):
        return port(live)
    if isinstance(live, (list, tuple)) and live and all(_is_layer(item) for item in live):
        return [port(item) for item in live]
    if "activation" in key and callable(live):
        return port_activation(live)
    if isinstance(value, Mapping) and "class_name" in value and key.endswith("initializer"):
        return _initializer(value)
    plain = _plain(value)
    return plain[0] if key == "axis" and isinstance(plain, list) and len(plain) == 1 else plain


def _is_layer(value) -> bool:
    return hasattr(value, "get_config") and hasattr(value, "weights") and hasattr(value, "call")


def port_activation(activation: Callable):
    """The Keras 3 name of a Keras 2 activation; a function Keras does not know is handed over as it is."""
    name = getattr(activation, "__name__", "")
    if not activation.__module__.startswith(("tf_keras.", "keras.", "tensorflow.")):
        return activation
    name = {"relu_v2": "relu", "softmax_v2": "softmax", "leaky_relu_v2": "leaky_relu", "swish": "silu"}.get(
        name, name
    )
    if name == "hard_sigmoid":
        return hard_sigmoid_v2
    return name if hasattr(keras.activations, name) else activation


def _initializer(value):
    """Initial values no longer matter, since weights are copied: what cannot be read gets the default."""
    try:
        return keras.initializers.deserialize(_plain(value))
    except (TypeError, ValueError):
        return "zeros"


def _learned_state(old) -> dict:
    """What preprocessing layers learned by `adapt`, which their Keras 2 config leaves out."""
    name = type(old).__name__
    if name in _LOOKUPS:
        return _vocabulary(old)
    if name == "Discretization" and old.bin_boundaries is not None:
        return {"bin_boundaries": np.asarray(old.bin_boundaries).tolist(), "num_bins": None}
    return {}


def _vocabulary(old) -> dict:
    lookup = getattr(old, "_lookup_layer", old)
    words = old.get_vocabulary(include_special_tokens=False)
    state = {"vocabulary": [word.item() if isinstance(word, np.generic) else word for word in words]}
    if lookup.output_mode in ("tf_idf", "tf-idf"):
        state["idf_weights"] = np.asarray(lookup.idf_weights)[-len(words) :].tolist()
    return state


def _dtype(old):
    policy = getattr(getattr(old, "_dtype_policy", None), "name", None) or "float32"
    return "float32" if policy == "_infer" else policy


def _plain(value):
    """Keras 2 configs hold TensorFlow's own lists, shapes and dtypes."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tf.TensorShape):
        return tuple(value.as_list())
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tf.DType):
        return value.name
    if tf.is_tensor(value):
        return value.numpy()
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
