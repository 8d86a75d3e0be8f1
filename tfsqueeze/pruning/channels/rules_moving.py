"""Rules of operations that move channels to other positions without changing them."""

import math
from dataclasses import replace

import numpy as np

from tfsqueeze.pruning.channels.flow import Axes, Call, Flow, Tensor
from tfsqueeze.pruning.channels.labels import FIXED, Labels
from tfsqueeze.pruning.channels.rules_trial import by_trial


def concatenate(flow: Flow, call: Call) -> list[Axes]:
    """`Concatenate`: channels keep their order behind those of the tensors before."""
    rank = len(call.output_shapes[0])
    joined = call.operation.axis % rank
    return [
        tuple(_chained(call, axis) if axis == joined else _shared(flow, call, axis) for axis in range(rank))
    ]


def _chained(call, axis) -> Labels:
    if all(tensor.axes[axis] is None for tensor in call.inputs):
        return None
    return np.concatenate([_positions(tensor.axes[axis], tensor.shape[axis]) for tensor in call.inputs])


def _shared(flow, call, axis) -> Labels:
    labels = call.inputs[0].axes[axis]
    for tensor in call.inputs[1:]:
        labels = flow.sets.join(
            labels, tensor.axes[axis], f"{call.path!r} sets them beside what cannot be cut"
        )
    return labels


def _positions(labels: Labels, size: int) -> np.ndarray:
    return np.full(size, FIXED) if labels is None else labels


def flatten(flow: Flow, call: Call) -> list[Axes]:
    """`Flatten`, which puts channels last before it merges the axes."""
    tensor = call.inputs[0]
    if call.operation.data_format == "channels_first" and len(tensor.shape) > 2:
        moved = (0, *range(2, len(tensor.shape)), 1)
        shape, axes = (tuple(part[axis] for axis in moved) for part in (tensor.shape, tensor.axes))
        call = replace(call, inputs=[Tensor(shape, axes, tensor.symbol)])
    return reshape(flow, call)


def reshape(flow: Flow, call: Call) -> list[Axes]:
    """`Reshape` and `keras.ops.reshape`: axes are merged and split, row by row."""
    tensor, shape = call.inputs[0], call.output_shapes[0]
    if not tensor.is_labelled:
        return [(None,) * len(shape)]
    axes: list[Labels] = [None] * len(shape)
    reason = f"{call.path!r} ({type(call.operation).__name__}) mixes them with other axes"
    for entering, leaving in _blocks(tensor.shape, shape):
        labels = [tensor.axes[axis] for axis in entering]
        sizes = [tensor.shape[axis] for axis in entering]
        new_sizes = [shape[axis] for axis in leaving]
        if (
            None in sizes + new_sizes
            and any(part is not None for part in labels)
            and len(sizes + new_sizes) > 2
        ):
            for part in labels:
                flow.sets.pin(part, reason)
            continue
        merged = _merged(flow, labels, sizes, reason)
        for axis, part in zip(leaving, _split(flow, merged, new_sizes, reason), strict=True):
            axes[axis] = part
    _resize_shape(flow, call, axes)
    return [tuple(axes)]


def _blocks(before, after) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of axes of both shapes that hold the same entries; free axes match each other."""
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    middle = _by_products(
        list(range(head, len(before) - tail)), list(range(head, len(after) - tail)), before, after
    )
    same_head = [([axis], [axis]) for axis in range(head)]
    same_tail = [([len(before) - 1 - i], [len(after) - 1 - i]) for i in range(tail)]
    return [*same_head, *middle, *same_tail]


def _by_products(entering, leaving, before, after):
    if any(before[axis] is None for axis in entering) or any(after[axis] is None for axis in leaving):
        return [(entering, leaving)]
    blocks = []
    while entering or leaving:
        one, other = [], []
        while (not one and not other) or math.prod(before[a] for a in one) != math.prod(
            after[a] for a in other
        ):
            grow_first = math.prod(before[a] for a in one) <= math.prod(after[a] for a in other)
            source, target = (entering, one) if (grow_first and entering) or not leaving else (leaving, other)
            target.append(source.pop(0))
        blocks.append((one, other))
    if len(blocks) > 1 and not (blocks[-1][0] and blocks[-1][1]):
        one, other = blocks.pop()
        blocks[-1] = (blocks[-1][0] + one, blocks[-1][1] + other)
    return blocks


def _merged(flow, labels: list[Labels], sizes, reason) -> Labels:
    """Labels of the axes as one, of which only one may be labelled."""
    labelled = [index for index, part in enumerate(labels) if part is not None]
    if not labelled:
        return None
    for index in labelled[:-1]:
        flow.sets.pin(labels[index], reason)
    index = labelled[-1]
    after, before = math.prod(sizes[index + 1 :]), math.prod(sizes[:index])
    return np.tile(np.repeat(labels[index], after), before)


def _split(flow, labels: Labels, sizes: list[int], reason) -> list[Labels]:
    """Labels of one axis as several: all go to the axis along which they already differ, or the longest."""
    parts: list[Labels] = [None] * len(sizes)
    if labels is None or not sizes:
        flow.sets.pin(labels, reason)
        return parts
    if len(sizes) == 1:
        return [labels]
    index = _varying_axis(labels, sizes)
    lines = np.moveaxis(labels.reshape(sizes), index, 0).reshape(sizes[index], -1)
    for line in lines.T[1:]:
        flow.sets.join(lines[:, 0], line, reason)
    parts[index] = lines[:, 0].copy()
    return parts


def _varying_axis(labels, sizes) -> int:
    block = labels.reshape(sizes)
    varying = [axis for axis in range(len(sizes)) if (block != block.take([0], axis)).any()]
    return varying[0] if len(varying) == 1 else int(np.argmax(sizes))


def _resize_shape(flow, call, axes) -> None:
    name = "newshape" if hasattr(call.operation, "newshape") else "target_shape"
    shape = getattr(call.operation, name, None)
    if shape is None:
        return
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    after = axes[len(axes) - len(shape) :]
    sizes = zip(shape, after, strict=True)
    new = tuple(s if labels is None or s in (-1, None) else labels for s, labels in sizes)
    flow.resize(call.operation, **{name: new})


def split(flow: Flow, call: Call) -> list[Axes]:
    """`keras.ops.split`: each part has its own run of positions."""
    operation, tensor = call.operation, call.inputs[0]
    axis = operation.axis % len(tensor.shape)
    labels = tensor.axes[axis]
    others = [None if index == axis else part for index, part in enumerate(tensor.axes)]
    runs: list[Labels] = [None] * len(call.output_shapes)
    if labels is not None:
        ends = np.cumsum([shape[axis] for shape in call.output_shapes])
        runs = np.split(labels, ends[:-1])
        flow.resize(operation, indices_or_sections=tuple(labels[:end] for end in ends[:-1]))
    return [tuple(run if index == axis else others[index] for index in range(len(others))) for run in runs]


def get_item(flow: Flow, call: Call) -> list[Axes]:
    """`tensor[key]`: a run of channels is a run of the channels that are left of it."""
    tensor, shape = call.inputs[0], call.output_shapes[0]
    if not tensor.is_labelled:
        return [(None,) * len(shape)]
    key = _spelled_out(call, len(tensor.shape))
    if key is None:
        return by_trial(flow, call)
    axes, new_key = [], []
    for part, labels, size in zip(key, tensor.axes, tensor.shape, strict=True):
        new_part, left = _taken(flow, call, part, labels, size)
        new_key.append(new_part)
        if isinstance(part, slice):
            axes.append(left)
    flow.resize(call.operation, key=tuple(new_key))
    return [tuple(axes)]


def _taken(flow, call, part, labels, size):
    """A part of the key with its ends as labels of what is before them, and the labels it takes."""
    if labels is None or part == slice(None):
        return part, labels
    start, stop, step = part.indices(size) if isinstance(part, slice) else (0, 0, 0)
    if step != 1 or start >= stop:
        flow.sets.pin(labels, f"{call.path!r} takes single channels")
        return part, None
    return slice(labels[:start], labels[:stop]), labels[start:stop]


def _spelled_out(call, rank) -> list | None:
    """One entry per axis; None where the key holds more than slices, integers and an ellipsis."""
    arguments = call.node.arguments
    key = arguments.kwargs.get("key", arguments.args[1] if len(arguments.args) > 1 else None)
    key = list(key) if isinstance(key, (tuple, list)) else [key]
    if not all(isinstance(part, (slice, int)) or part is Ellipsis for part in key):
        return None
    hole = next((index for index, part in enumerate(key) if part is Ellipsis), len(key))
    ends = key[hole + 1 :]
    missing = rank - len(ends) - hole
    return [*key[:hole], *[slice(None)] * missing, *ends]
