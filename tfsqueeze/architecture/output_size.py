"""Segmentation at a lower resolution: up-sampling in the place of the last stages of the decoder."""

import keras
from keras import layers

from tfsqueeze.architecture.carrying_over import class_of
from tfsqueeze.architecture.spatial import graph_of, is_channels_first, spatial_size
from tfsqueeze.core import copying
from tfsqueeze.core.checks import UnsupportedModelError, check_count, check_graph, has_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import copy_compile, rewrite

HEADS = (layers.Conv2D, layers.SeparableConv2D, layers.Conv2DTranspose)


def downsample_output(model: keras.Model, factor: int, *, upsample: bool = True) -> keras.Model:
    """Returns a segmentation network that decides at 1/`factor` of the resolution, to be trained on.

    The decoder ends where its features are `factor` times smaller than the output: the later stages, and the
    encoder features that only they used, are gone. The last convolution, which makes the classes, is applied
    there; its scores are up-sampled bilinearly to the old size, and then go through what followed it (softmax
    or sigmoid: scores, not probabilities, are interpolated, and a model that returns logits still does).

    Weights are kept. The last convolution keeps its own only if it finds as many channels as before;
    otherwise it starts anew, and the model has to be trained for some epochs, best by `tfs.Distiller` from
    the old one.

    Args:
        model: a built Sequential or Functional model with one output (height, width, classes): a U-Net, an
            encoder-decoder, or one that up-samples its scores. Nested models are opened where needed.
        factor: how many times smaller, a whole number >= 2 for which the decoder has features.
        upsample: whether the output has the old size; otherwise it is `factor` times smaller, and targets
            must be too.

    Returns:
        A new model, compiled as `model` is. `model` is not changed. `tfs.explain` tells what was cut.

    Raises:
        ValueError: if `factor` is no whole number >= 2, or no features of that size lead to the output; the
            message lists the factors there are.
        UnsupportedModelError: if the model does not end in a convolution and functions of it.

    Example:
        >>> quarter = tfs.downsample_output(unet, 4)
        >>> quarter.fit(images, masks, epochs=10)
    """
    check_graph(model, "downsample_output()")
    check_count("factor", factor, 2)
    _check_output(model)
    opened = _opened(model) if _must_open(model, factor) else model
    head, tail = _ending(opened)
    stages = _stages(opened)
    if factor not in stages:
        known = ", ".join(map(str, sorted(stages))) or "none"
        raise ValueError(
            f"The decoder of model {model.name!r} has no features {factor} times smaller than its output on "
            f"the way to it. Received: factor={factor}. There are features for these factors: {known}."
        )
    trunk = rewrite(keras.Model(graph_of(opened)._inputs_struct, stages[factor], name=model.name))
    chain, kept = _new_ending(head, tail, factor if upsample else 1)
    features = outputs = trunk.outputs[0]
    for part in chain:
        outputs = part(outputs)
    twin = class_of(model)(trunk._inputs_struct, outputs, name=model.name)
    weights_kept = _carry(head, chain[0]) if kept else False
    copy_compile(model, twin)
    before, after = len(_named(opened)), len(_named(trunk))
    done = {
        head.name: {
            "decides at": str(tuple(features.shape[1:-1])),
            "weights": "kept" if weights_kept else "new",
            "layers dropped": before - after - 1 - len(tail),
        }
    }
    return record(twin, "downsample_output", done, {})


def _check_output(model) -> None:
    outputs = graph_of(model).outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 4 or is_channels_first(model):
        raise UnsupportedModelError(
            "downsample_output() needs a model with one output (batch, height, width, classes), channels "
            f"last. Received: {[tuple(tensor.shape) for tensor in outputs]}. Make a model of one output."
        )
    if None in outputs[0].shape[1:]:
        raise UnsupportedModelError(
            f"downsample_output() needs to know the size of the output. Received: {outputs[0].shape}. Fix it "
            "by `tfs.with_input_size(model, (height, width))`."
        )


def _must_open(model, factor: int) -> bool:
    """Whether the features or the last convolution lie inside a nested model."""
    operations = graph_of(model)._operations
    if not any(isinstance(operation, keras.Model) and has_graph(operation) for operation in operations):
        return False
    last = graph_of(model).outputs[0]._keras_history.operation
    return factor not in _stages(model) or isinstance(last, keras.Model)


def _named(model) -> list[keras.Layer]:
    return [
        layer
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, layers.InputLayer)
    ]


def _opened(model) -> keras.Model:
    """A copy whose nested models are laid out in one graph."""
    copy = rewrite(model)
    taken: set[str] = set()

    def call(operation, *args, **kwargs):
        if isinstance(operation, keras.Model) and has_graph(operation):
            return inlined(operation, args[0])
        while operation.name in taken and not operation._inbound_nodes[1:]:
            operation.name = f"{operation.name}_inner"
        taken.add(operation.name)
        return operation(*args, **kwargs)

    def inlined(part, inputs):
        return graph_of(part)._run_through_graph(
            inputs, operation_fn=lambda operation: operation, call_fn=call
        )

    struct = keras.tree.map_structure(
        lambda tensor: keras.Input(
            tensor.shape[1:], dtype=tensor.dtype, name=tensor._keras_history.operation.name
        ),
        graph_of(copy)._inputs_struct,
    )
    return keras.Model(struct, inlined(copy, struct), name=model.name)


def _ending(model) -> tuple[keras.Layer, list[keras.Operation]]:
    """The convolution that makes the classes, and the functions after it that are no up-sampling."""
    tail: list[keras.Operation] = []
    tensor = graph_of(model).outputs[0]
    while True:
        history = tensor._keras_history
        operation, node = history.operation, history.operation._inbound_nodes[history.node_index]
        if isinstance(operation, HEADS):
            return operation, tail[::-1]
        if len(node.input_tensors) != 1 or getattr(operation, "weights", None):
            raise UnsupportedModelError(
                "downsample_output() needs a model that ends in a convolution and functions of it, such as "
                f"softmax. Received: {model.name!r} ends in {operation.name!r} ({type(operation).__name__})."
            )
        before = node.input_tensors[0]
        if not _grows(before, tensor):
            tail.append(operation)
        tensor = before


def _grows(before, after) -> bool:
    if len(before.shape) != 4 or None in before.shape[1:] or len(after.shape) != 4:
        return False
    return spatial_size(before.shape) < spatial_size(after.shape)


def _stages(model) -> dict[int, keras.KerasTensor]:
    """By factor, the last features of that size that are up-sampled on their way to the output."""
    whole = spatial_size(graph_of(model).outputs[0].shape)
    found: dict[int, keras.KerasTensor] = {}
    for depth in sorted(graph_of(model)._nodes_by_depth):
        for node in graph_of(model)._nodes_by_depth[depth]:
            for before in node.input_tensors:
                factor = _factor(whole, before)
                if factor and any(_grows(before, after) for after in node.outputs):
                    found.setdefault(factor, before)
    return found


def _factor(whole, tensor) -> int | None:
    part = spatial_size(tensor.shape) if len(tensor.shape) == 4 else ()
    if not part or None in part:
        return None
    factor = whole[0] // part[0]
    return factor if factor > 1 and all(a == b * factor for a, b in zip(whole, part, strict=True)) else None


def _new_ending(head, tail, factor: int) -> tuple[list, bool]:
    """The convolution, up-sampling and functions in order; and whether the convolution is of the old kind."""
    activation, name = head.activation, head.name
    fused = activation is not keras.activations.linear
    last = not tail and not fused
    own_name = name if tail or (factor == 1 and last) else f"{name}_scores"
    same_kind = not isinstance(head, layers.Conv2DTranspose)
    settings = {
        "name": own_name,
        "activation": "linear",
        "strides": (1, 1),
        "padding": "same",
    }
    chain: list = [_convolution(head, settings, same_kind)]
    if factor > 1:
        chain.append(
            layers.UpSampling2D(
                factor,
                interpolation="bilinear",
                name=name if last else f"{name}_upsampled",
                dtype=head.dtype_policy,
            )
        )
    if fused:
        chain.append(
            layers.Activation(
                activation, name=name if not tail else f"{name}_activation", dtype=head.dtype_policy
            )
        )
    chain += [
        copying.copy_layer(part) if isinstance(part, keras.Layer) else copying.copy_operation(part)
        for part in tail
    ]
    return chain, same_kind


def _convolution(head, settings, same_kind: bool) -> keras.Layer:
    if same_kind:
        twin = copying.copy_layer(head, settings)
        twin.name = settings["name"]
        return twin
    known = ("filters", "kernel_size", "use_bias", "dtype", "kernel_regularizer", "bias_regularizer")
    config = head.get_config()
    return layers.Conv2D.from_config({**{key: config[key] for key in known}, **settings})


def _carry(head, new) -> bool:
    """Copies the weights if they fit."""
    fits = [w.shape for w in head.weights] == [w.shape for w in new.weights]
    if fits:
        new.set_weights(head.get_weights())
    return fits
