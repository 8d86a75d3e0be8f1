"""The same network for inputs of another size, without retraining."""

import math
import numbers
from collections.abc import Mapping

import keras
from keras import layers

from tfsqueeze.architecture.carrying_over import CarryOver, does_not_fit, source_of
from tfsqueeze.architecture.image_resizing import ImageResizing
from tfsqueeze.architecture.spatial import (
    Propagation,
    Shape,
    graph_of,
    is_channels_first,
    spatial_size,
    with_spatial_size,
)
from tfsqueeze.core.checks import UnsupportedModelError, check_graph, did_you_mean
from tfsqueeze.core.data import input_specs
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.select import walk

GLOBAL_POOLING = {
    layers.AveragePooling1D: layers.GlobalAveragePooling1D,
    layers.AveragePooling2D: layers.GlobalAveragePooling2D,
    layers.AveragePooling3D: layers.GlobalAveragePooling3D,
    layers.MaxPooling1D: layers.GlobalMaxPooling1D,
    layers.MaxPooling2D: layers.GlobalMaxPooling2D,
    layers.MaxPooling3D: layers.GlobalMaxPooling3D,
}
RESIZING = (layers.Resizing, layers.CenterCrop, layers.RandomCrop)
LARGEST_FACTOR = 4


def with_input_size(
    model: keras.Model,
    size: int | float | tuple | Mapping[str, int | tuple],
    *,
    keep_input: bool = False,
) -> keras.Model:
    """Returns the same network, weights kept, for inputs of another spatial size.

    Works for networks whose weights do not depend on the size: fully convolutional ones, and those whose
    features are pooled over the whole image, also where an ordinary pooling layer covers all of it (it then
    covers all of the new size too). MACs fall with the square of the size, and accuracy with it: measure
    both with `tfs.sweep_input_sizes`, and train a little at the new size where it matters.

    Args:
        model: a built Sequential or Functional model, nested models included.
        size: (height, width); an int for squares; (steps,) or an int for sequences; None in it leaves an axis
            free. All inputs that have so many spatial axes get it; a dict by input name names them. A float
            is a factor on the size that each input has, in (0, 4].
        keep_input: whether images are still given at their old size, and the network makes them smaller
            (bilinearly) itself: what calls it need not change.

    Returns:
        A new model, compiled as `model` is. `model` is not changed. `tfs.explain` lists the inputs, poolings
        that were adapted, and layers that set a size of their own.

    Raises:
        UnsupportedModelError: if a layer's weights depend on the input size (a dense layer after Flatten,
            position embeddings), or features do not meet at that size; names the layer.
        ValueError: if `size` is no size, no input has spatial axes, or what is no image is to be resized.

    Example:
        >>> small = tfs.with_input_size(model, 160)
        >>> same_input = tfs.with_input_size(model, 0.5, keep_input=True)

    Source: the resolution multiplier of Howard et al., MobileNets, arXiv:1704.04861, section 3.4.
    """
    check_graph(model, "with_input_size()")
    sizing = _Sizing(model, size, keep_input)
    carried = CarryOver()
    try:
        sizing.measure()
        twin = rewrite(
            model,
            lambda layer: sizing.stand_in(layer) or carried.replace(layer),
            transfer=carried.transfer,
            after=sizing.resizing,
            adapt=sizing.adapt,
        )
    except (ValueError, TypeError) as error:
        raise does_not_fit(model, f"at input size {sizing.text}", error, sizing.hint()) from error
    if carried.misfits:
        raise UnsupportedModelError(_explanation(model, sizing, carried.misfits))
    return record(twin, "with_input_size", sizing.done, sizing.fixed)


class _Sizing:
    """The new shape of every input, those of nested models included."""

    def __init__(self, model: keras.Model, size, keep_input: bool):
        self._model = model
        self._resized = _input_layers(model) if keep_input else set()
        self._channels_first = is_channels_first(model)
        self._specs = input_specs(model)
        self._shapes = _new_shapes(self._specs, size, self._channels_first)
        self._flow = Propagation(self.stand_in)
        self._paths = {id(named.layer): named.path for named in walk(model)}
        self.done: dict[str, dict] = {}
        self.fixed: dict[str, str] = {}
        for spec in self._specs:
            old, new = (spatial_size(s, self._channels_first) for s in (spec.shape, self._shapes[spec.name]))
            if old != new:
                if keep_input and len(old) != 2:
                    raise ValueError(
                        "`keep_input` is for images, of shape (batch, height, width, channels). Received: "
                        f"input {spec.name!r} of shape {spec.shape}."
                    )
                self.done[spec.name] = {"size": f"{old} -> {new}"}
        self.text = "; ".join(f"{name}: {row['size']}" for name, row in self.done.items()) or f"{size}"

    def measure(self) -> None:
        """Finds out what every layer would receive."""
        struct = graph_of(self._model)._inputs_struct
        tensors = [
            keras.KerasTensor(self._shapes[spec.name], spec.dtype, name=spec.name)
            for spec in self._in_graph_order()
        ]
        self._flow.run(self._model, keras.tree.pack_sequence_as(struct, tensors))

    def adapt(self, operation):
        """An input layer of the new shape in the place of an old one."""
        if not isinstance(operation, layers.InputLayer) or id(operation) in self._resized:
            return None
        shape = self._flow.received[id(operation)][0]
        return type(operation).from_config({**operation.get_config(), "batch_shape": shape})

    def resizing(self, operation) -> keras.Layer | None:
        """What makes the images of an input that stays smaller."""
        if id(operation) not in self._resized:
            return None
        new = self._shapes[operation.name]
        if operation.batch_shape == new:
            return None
        data_format = "channels_first" if self._channels_first else "channels_last"
        return ImageResizing(
            *spatial_size(new, self._channels_first),
            data_format=data_format,
            name=f"{operation.name}_resized",
        )

    def stand_in(self, layer) -> keras.Layer | None:
        """A global pooling for one that covered the whole image; notes layers with a size of their own."""
        path = self._paths.get(id(layer), layer.name)
        if isinstance(layer, RESIZING):
            self.fixed[path] = f"brings images to its own size, ({layer.height}, {layer.width})"
        pooling = GLOBAL_POOLING.get(type(layer))
        if pooling is None:
            return None
        node = layer._inbound_nodes[0]
        first = layer.data_format == "channels_first"
        size, left = (spatial_size(t.shape, first) for t in (node.input_tensors[0], node.outputs[0]))
        window = (layer.pool_size,) * len(size) if isinstance(layer.pool_size, int) else layer.pool_size
        if tuple(window) != size or any(axis != 1 for axis in left):
            return None
        self.done[path] = {"pooling": f"covered all of {size}, covers all of any size"}
        return pooling(
            data_format=layer.data_format, keepdims=True, name=layer.name, dtype=layer.dtype_policy
        )

    def hint(self) -> str:
        """The sizes at which everything that is halved and doubled again meets."""
        strides = [1]
        for spec in self._specs:
            whole = spatial_size(spec.shape, self._channels_first)
            for operation in graph_of(self._model)._operations:
                for node in operation._inbound_nodes:
                    for tensor in node.input_tensors:
                        part = spatial_size(tensor.shape, self._channels_first)
                        if len(part) == len(whole) >= 1 and all(part) and all(whole):
                            strides.append(max(a // b for a, b in zip(whole, part, strict=True)))
        stride = 2 ** round(math.log2(max(strides)))
        return f"Sizes that are multiples of {stride} are the likeliest to fit." if stride > 1 else ""

    def received(self, layer) -> Shape:
        """What a layer would receive first."""
        return self._flow.received[id(layer)][0]

    def _in_graph_order(self):
        named = {spec.name: spec for spec in self._specs}
        if len(named) == 1 or isinstance(graph_of(self._model)._inputs_struct, Mapping):
            # Both `input_specs` and Keras' trees order a dict by its keys.
            return list(named.values())
        return [named[tensor._keras_history.operation.name] for tensor in graph_of(self._model)._inputs]


def _input_layers(model) -> set[int]:
    """Identities of the outermost input layers."""
    return {id(one) for one in graph_of(model)._operations if isinstance(one, layers.InputLayer)}


def _scaled_sizes(specs, factor: float, channels_first) -> dict[str, tuple[int, ...]]:
    """By name of the inputs that have a size, that size times the factor, in whole pixels."""
    if not 0 < factor <= LARGEST_FACTOR:
        raise ValueError(
            f"A float `size` is a factor in (0, {LARGEST_FACTOR}]. Received: size={factor!r}. "
            "A number of pixels is a whole number."
        )
    sizes = {spec.name: spatial_size(spec.shape, channels_first) for spec in specs}
    sizes = {name: size for name, size in sizes.items() if size and all(size)}
    if not sizes:
        shapes = {spec.name: spec.shape for spec in specs}
        raise ValueError(f"No input has a size that could be scaled by {factor}: {shapes}.")
    return {name: tuple(max(1, round(factor * axis)) for axis in size) for name, size in sizes.items()}


def _new_shapes(specs, size, channels_first) -> dict[str, Shape]:
    if isinstance(size, float):
        size = _scaled_sizes(specs, size, channels_first)
    if isinstance(size, Mapping):
        names = [spec.name for spec in specs]
        for name in size:
            if name not in names:
                raise ValueError(
                    f"`size` names no input of the model: {name!r}. {did_you_mean(name, names)} "
                    f"Its inputs: {names}."
                )
        wanted = {spec.name: size.get(spec.name) for spec in specs}
    else:
        spatial = [spec for spec in specs if _fits_rank(size, len(spec.shape) - 2)]
        if not spatial:
            shapes = {spec.name: spec.shape for spec in specs}
            raise ValueError(
                f"`size` must be as many numbers as an input has spatial axes. Received: size={size!r} "
                f"for inputs {shapes}, whose first axis is the batch and whose last the channels."
            )
        wanted = {spec.name: size if spec in spatial else None for spec in specs}
    return {
        spec.name: spec.shape
        if wanted[spec.name] is None
        else _resized(spec, wanted[spec.name], channels_first)
        for spec in specs
    }


def _fits_rank(size, rank: int) -> bool:
    return rank >= 1 and (
        isinstance(size, numbers.Integral) or (isinstance(size, (tuple, list)) and len(size) == rank)
    )


def _resized(spec, size, channels_first) -> Shape:
    rank = len(spec.shape) - 2
    whole = tuple([size] * rank if isinstance(size, numbers.Integral) else size)
    numeric = all(
        n is None or (isinstance(n, numbers.Integral) and not isinstance(n, bool) and n >= 1) for n in whole
    )
    if not numeric or len(whole) != rank or rank < 1:
        raise ValueError(
            f"The size of input {spec.name!r} must be {rank} whole numbers >= 1. Received: size={size!r}. "
            f"The input has shape {spec.shape}, batch first."
        )
    return with_spatial_size(spec.shape, tuple(n and int(n) for n in whole), channels_first)


def _explanation(model, sizing: _Sizing, misfits) -> str:
    lines = []
    for layer, (old, new) in misfits.items():
        line = f"{layer.name!r} ({type(layer).__name__}) has weights of shape {old} and would need {new}"
        flat = source_of(layer, (layers.Flatten, layers.Reshape))
        if flat is not None and len(old) == 2:
            made, makes = flat._inbound_nodes[0].input_tensors[0].shape, sizing.received(flat)
            line += f": {flat.name!r} lays features of {made[1:]} out in a row, which become {makes[1:]}"
        lines.append(line)
    return (
        f"Model {model.name!r} cannot take inputs of another size ({sizing.text}), because weights depend on "
        f"it: {'; '.join(lines)}. A network whose features are pooled over the whole image "
        "(GlobalAveragePooling2D in the place of Flatten) can be resized; it has to be trained so."
    )
