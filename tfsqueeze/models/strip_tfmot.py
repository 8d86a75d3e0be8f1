"""Takes the wrappers of tensorflow_model_optimization off one `tf_keras` layer, and its weights with it.

What is left has the float weights that the wrapper computes with: masked where it prunes, replaced by
centroids where it clusters, and as trained (before fake quantization) where it quantizes.
"""

import numpy as np

WRAPPERS = (
    "PruneLowMagnitude",
    "ClusterWeights",
    "ClusterWeightsMHA",
    "QuantizeAnnotate",
    "QuantizeWrapper",
    "QuantizeWrapperV2",
    "QuantizeLayer",
)


def is_wrapped(layer) -> bool:
    """Whether `layer` is one of tfmot's wrappers, or the QuantizeLayer it puts after inputs."""
    return wrapper_name(layer) is not None


def changes_outputs(layer) -> bool:
    """Whether stripping `layer` changes what the model computes: only fake quantization does."""
    return (wrapper_name(layer) or "").startswith(("QuantizeWrapper", "QuantizeLayer"))


def wrapper_name(layer) -> str | None:
    """Name of the tfmot wrapper class `layer` is of; None if it is of none."""
    for kind in type(layer).__mro__:
        if kind.__module__.startswith("tensorflow_model_optimization") and kind.__name__ in WRAPPERS:
            return kind.__name__
    return None


def strip(layer):
    """The plain `tf_keras` layer inside a tfmot wrapper, with the weights it computes with.

    Args:
        layer: a built tfmot wrapper. It is left as it is.

    Returns:
        A `tf_keras` layer, which may itself be wrapped, or None if nothing is left (QuantizeLayer).
    """
    kind = wrapper_name(layer)
    if kind == "QuantizeLayer":
        return None
    if kind == "QuantizeAnnotate":
        return layer.layer
    if kind == "ClusterWeightsMHA":
        layer.update_clustered_weights_associations()
        return layer.strip_clustering()
    weights = {"PruneLowMagnitude": _masked, "ClusterWeights": _clustered}.get(kind, _quantized)
    return _clean_layer(layer, weights)


def _clean_layer(wrapper, weights_of):
    """A new layer like the wrapped one; `weights_of(wrapper, new_layer)` gives its weights."""
    from tensorflow_model_optimization.python.core.quantization.keras.quantize import quantize_scope

    inner = wrapper.layer
    with quantize_scope():
        clean = type(inner).from_config(inner.get_config())
    _clean_activation(clean)
    if wrapper.built:
        clean.build(wrapper._build_input_shape)
        clean.set_weights(weights_of(wrapper, clean))
    return clean


def _clean_activation(layer) -> None:
    activation = getattr(layer, "activation", None)
    kind = type(activation).__name__
    if kind == "QuantizeAwareActivation":
        layer.activation = activation.activation
    elif kind == "NoOpActivation":
        from tf_keras.activations import linear

        layer.activation = linear


def _masked(wrapper, clean):
    masks = {id(weight): mask for weight, mask, _ in wrapper.pruning_vars}
    values = []
    for weight in wrapper.layer.weights:
        mask = masks.get(id(weight))
        values.append(weight.numpy() if mask is None else weight.numpy() * mask.numpy())
    return values


def _clustered(wrapper, clean):
    wrapper.update_clustered_weights_associations()
    values = wrapper.layer.get_weights()
    for position, name in wrapper.position_original_weights.items():
        values.insert(position, np.asarray(wrapper.get_weight_from_layer(name)))
    return values


def _quantized(wrapper, clean):
    """The wrapper holds the trained variables under their own names beside its ranges and step counter."""
    held = {}
    for weight in wrapper.weights:
        held.setdefault(_variable_name(weight), weight)
    missing = [weight.name for weight in clean.weights if _variable_name(weight) not in held]
    if missing:
        raise ValueError(f"The quantization wrapper {wrapper.name!r} lacks the weights {missing}.")
    return [held[_variable_name(weight)].numpy() for weight in clean.weights]


def _variable_name(variable) -> str:
    return variable.name.split(":")[0].split("/")[-1]
