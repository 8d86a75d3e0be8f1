"""A lighter backbone under the same head."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.backbone_families import (
    Preprocessing,
    constructors,
    family_of,
    find_constructor,
    preprocessing_of,
)
from tfsqueeze.architecture.carrying_over import CarryOver, does_not_fit
from tfsqueeze.architecture.nesting import nest_until
from tfsqueeze.architecture.spatial import graph_of, is_channels_first, spatial_size
from tfsqueeze.core.checks import UnsupportedModelError, check_graph, did_you_mean, has_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import copy_compile, rewrite


def swap_backbone(
    model: keras.Model,
    name: str | keras.Model,
    *,
    weights: str | None = "imagenet",
    backbone: str | None = None,
    **settings: Any,
) -> keras.Model:
    """Returns the model with another network of `keras.applications` in the place of its nested backbone.

    Each feature map that the old backbone hands on is replaced by the last one of the same height and width
    in the new, so that pooled heads and U-Net decoders over several stages both fit. Layers of the head keep
    their weights where the channels are the same, and start anew where they are not: train the head first,
    with `model.get_layer(...).trainable = False` for the backbone, then all.

    Families expect different inputs (0..255, -1..1, other colour orders). The model is taken to prepare
    inputs as its old backbone's family expects; what the new one needs instead is computed at its entrance.

    Args:
        model: a built Sequential or Functional model with a backbone as a nested model, or with one input and
            the backbone's layers in its own graph.
        name: of a network in `keras.applications`, see `tfs.backbones`; or a built model of your own
            without a top, whose inputs are taken as they are.
        weights: "imagenet" (downloaded by Keras), a path to a weights file, or None for new ones.
        backbone: name or path of the nested model to replace; None for the one from `keras.applications`,
            or the only nested model there is. Of a backbone in the model's own graph, the name of its last
            layer; all before it is replaced.
        **settings: for the constructor, such as `alpha=0.35` of the MobileNets.

    Returns:
        A new model, compiled as `model` is. `model` is not changed. `tfs.explain` lists the features, the
        preprocessing and the layers that start anew.

    Raises:
        ValueError: if there is no such network (all are listed), or no such nested model.
        UnsupportedModelError: if the model has no nested backbone, or the new network no features of the
            sizes needed.

    Example:
        >>> small = tfs.swap_backbone(classifier, "MobileNetV2", alpha=0.35)
    """
    check_graph(model, "swap_backbone()")
    wanted = name if isinstance(name, keras.Model) else find_constructor(name)
    source, old = _find(model, backbone)
    new, facts = _features(old, wanted, weights, settings)
    carried = CarryOver()
    try:
        twin = rewrite(
            source,
            carried.replace,
            transfer=carried.transfer,
            adapt=lambda part: new if part is old else None,
        )
    except (ValueError, TypeError) as error:
        raise does_not_fit(model, f"with the backbone {new.name!r}", error, "") from error
    copy_compile(model, twin)
    fresh = {layer.name: f"starts anew: {a} -> {b}" for layer, (a, b) in carried.misfits.items()}
    return record(twin, "swap_backbone", {old.name: facts}, fresh)


def _find(model, name: str | None) -> tuple[keras.Model, keras.Model]:
    """The backbone, and the model, or a copy of it, in which it is nested."""
    inner = [layer for layer in model._flatten_layers(include_self=False) if isinstance(layer, keras.Model)]
    nested = {layer.name: layer for layer in inner if has_graph(layer)}
    if name is not None:
        short = name.rsplit("/", 1)[-1]
        own = [layer.name for layer in model.layers]
        if short in nested:
            return model, nested[short]
        if name in own:
            return nest_until(model, name)
        raise ValueError(
            f"The model has no nested model or layer {name!r}. {did_you_mean(name, [*nested, *own])} "
            f"Its nested models: {list(nested)}."
        )
    images = {key: layer for key, layer in nested.items() if len(graph_of(layer).inputs[0].shape) == 4}
    known = [layer for layer in images.values() if family_of(layer)]
    candidates = known or list(images.values())
    if len(candidates) == 1:
        return model, candidates[0]
    found = f"It has several: {[layer.name for layer in candidates]}" if candidates else "It has none"
    raise UnsupportedModelError(
        "swap_backbone() needs one nested model as the backbone, as in "
        "`head(keras.applications.ResNet50(include_top=False)(inputs))`. "
        f"{found}; name it by `backbone=`, or the last layer of a backbone in the model's own graph."
    )


def _features(old, wanted, weights, settings) -> tuple[keras.Model, dict]:
    """The new backbone with the outputs that the old one has, and facts to tell."""
    (entrance,) = old.inputs
    if isinstance(wanted, keras.Model):
        base, change = rewrite(wanted), "the inputs are taken as they are"
    else:
        base, change = _application(entrance, family_of(old), wanted, weights, settings)
    outputs = [_matching(base, tensor) for tensor in graph_of(old).outputs]
    struct = keras.tree.pack_sequence_as(graph_of(old)._outputs_struct, outputs)
    facts = {
        "backbone": f"{old.name} -> {base.name}",
        "parameters": f"{old.count_params():,} -> {base.count_params():,}",
        "preprocessing": change,
    }
    return keras.Model(base.inputs[0], struct, name=base.name), facts


def _application(entrance, family, name, weights, settings) -> tuple[keras.Model, str]:
    inputs = keras.Input(entrance.shape[1:], dtype=entrance.dtype)
    adapted, change = _adapted(inputs, family, name)
    base = constructors()[name](include_top=False, weights=weights, input_tensor=adapted, **settings)
    return base, change


def _adapted(inputs, family: str | None, name: str):
    """The inputs as the new family expects them."""
    expected = preprocessing_of(name)
    if family is None:
        warnings.warn(
            f"What inputs the old backbone expects is not known from its name. {name} expects {expected}: "
            "see to it that the model prepares its inputs so.",
            stacklevel=5,
        )
        return inputs, f"unknown; {name} expects {expected}"
    before = preprocessing_of(family)
    if before == expected or inputs.shape[-1] != 3:
        return inputs, f"unchanged: {expected}"
    change = before.then(expected)
    if not change.matrix[0, 0]:
        # One matrix entry per row: the colours change places.
        inputs = inputs[..., ::-1]
        change = Preprocessing(change.matrix[::-1], change.offset)
    scale = np.diag(change.matrix)
    adapted = layers.Rescaling(scale.tolist(), change.offset.tolist(), name="preprocessing")(inputs)
    return adapted, f"{before} -> {expected}"


def _matching(base: keras.Model, old: keras.KerasTensor) -> keras.KerasTensor:
    """The last feature map of the size of `old`, or the pooled last one where the old was pooled."""
    features = base.outputs[0]
    if len(old.shape) == 2:
        pooling = old._keras_history.operation
        known = isinstance(pooling, (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D))
        pool = type(pooling) if known else layers.GlobalAveragePooling2D
        return features if len(features.shape) == 2 else pool(name="pooled")(features)
    first = is_channels_first(base)
    size, sizes = spatial_size(old.shape, first), set()
    for depth in sorted(graph_of(base)._nodes_by_depth):
        for tensor in [t for node in graph_of(base)._nodes_by_depth[depth] for t in node.outputs]:
            if len(tensor.shape) == 4:
                sizes.add(spatial_size(tensor.shape, first))
                if spatial_size(tensor.shape, first) == size:
                    return tensor
    raise UnsupportedModelError(
        f"The head needs features of size {size}, and backbone {base.name!r} has none. Its features are of "
        f"sizes {sorted(sizes, key=str)}. Choose another backbone, or an input size at which they meet."
    )
