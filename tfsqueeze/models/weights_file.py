"""Files that hold only weights: `.weights.h5`, Keras 2 HDF5 weights and TensorFlow checkpoints."""

import functools
import re
from collections import defaultdict

import h5py
import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.models.file_kind import FileKind, brief

_CHECKPOINT_KEY = "/.ATTRIBUTES/VARIABLE_VALUE"
_NUMBERED_LAYER = "layer_with_weights-"


def load_weights_into_copy(kind: FileKind, architecture: keras.Model | None) -> keras.Model:
    """Loads a weights-only file into a copy of the model it was saved from.

    Args:
        kind: what the file is ("h5_weights" or "checkpoint").
        architecture: a `keras.Model` of the same structure; it is not changed.

    Returns:
        A copy of `architecture` with the weights of the file.

    Raises:
        ValueError: if `architecture` is None or of another structure; says what the file holds.
    """
    if architecture is None:
        raise ValueError(
            f"{str(kind.path)!r} holds only weights and not the model they belong to. Build the model in "
            "code and pass it: load_model(path, architecture=model)."
        )
    model = _copy(architecture)
    try:
        if kind.name == "checkpoint":
            _load_checkpoint(str(kind.path), model)
        else:
            _load_hdf5(kind.path, model)
    except Exception as error:
        raise ValueError(
            f"The weights in {str(kind.path)!r} do not fit the architecture {architecture.name!r}: "
            f"{brief(error)}"
        ) from error
    return model


def _copy(model):
    """A model of the same structure with weights of its own."""
    try:
        copy = keras.models.clone_model(model)
    except (ValueError, NotImplementedError):
        copy = type(model).from_config(model.get_config())
    if not copy.built and getattr(model, "_build_shapes_dict", None):
        copy.build_from_config(model.get_build_config())
    copy.set_weights(model.get_weights())
    return copy


def _load_hdf5(path, model):
    from keras.src.legacy.saving import legacy_h5_format
    from keras.src.saving import saving_lib

    with h5py.File(path, "r") as file:
        is_keras_2 = "layer_names" in file.attrs
        if is_keras_2:
            legacy_h5_format.load_weights_from_hdf5_group(file, model)
    if not is_keras_2:
        saving_lib.load_weights_only(model, str(path))


def _load_checkpoint(prefix, model):
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    stored = {
        key.removesuffix(_CHECKPOINT_KEY): reader.get_tensor(key)
        for key in shapes
        if key.endswith(_CHECKPOINT_KEY) and "OPTIMIZER_SLOT" not in key
    }
    if not any(key.startswith(_NUMBERED_LAYER) for key in stored):
        raise ValueError(
            f"the checkpoint was not written by `model.save_weights`; it holds {sorted(stored)[:5]}"
        )
    _assign_layers(stored, model)


def _assign_layers(stored, model):
    """Checkpoints of Keras 2 number the layers that have weights in the order of the model."""
    groups = defaultdict(dict)
    for key, value in stored.items():
        found = re.match(rf"{_NUMBERED_LAYER}(\d+)/(.*)", key)
        if found:
            groups[int(found[1])][found[2]] = value
    layers = [layer for layer in model.layers if layer.weights]
    if len(layers) != len(groups):
        raise ValueError(f"it holds {len(groups)} layers with weights, the architecture has {len(layers)}")
    for index, layer in enumerate(layers):
        if any(key.startswith(_NUMBERED_LAYER) for key in groups[index]):
            _assign_layers(groups[index], layer)
        else:
            _assign_variables(groups[index], layer)


def _assign_variables(stored, layer):
    """A key is the path of attributes to a variable; where that path changed, its last part still tells."""
    waiting = list(layer.weights)
    by_name = defaultdict(list)
    for key in sorted(stored):
        variable = _variable_at(layer, key)
        if any(variable is weight for weight in waiting) and tuple(variable.shape) == stored[key].shape:
            variable.assign(stored[key])
            waiting = [weight for weight in waiting if weight is not variable]
        else:
            by_name[key.split("/")[-1].removeprefix("depthwise_")].append(stored[key])
    for weight in waiting:
        values = by_name.get(weight.name.removeprefix("depthwise_"))
        if not values or values[0].shape != tuple(weight.shape):
            found = [np.shape(value) for value in values or []]
            raise ValueError(f"layer {layer.name!r} needs {weight.name} {tuple(weight.shape)}, found {found}")
        weight.assign(values.pop(0))


def _variable_at(layer, key: str):
    try:
        return functools.reduce(getattr, key.split("/"), layer)
    except AttributeError:
        return None
