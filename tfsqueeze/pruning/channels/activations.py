"""Scores from what channels do on data, seen where they are consumed."""

import keras
import numpy as np

from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.pruning.channels.graph import ChannelGraph, Group, Slice

ACTIVATION_CRITERIA = ("apoz", "mean", "entropy")
_BINS = 16


def activation_scores(
    graph: ChannelGraph, criterion: str, data, *, limit: int = 256, batch_size: int = 64
) -> dict[str, np.ndarray]:
    """Scores each unit by its activations, averaged over the layers that receive it.

    Args:
        graph: the groups.
        criterion: "apoz": fraction of activations that are not zero (Hu et al., Network Trimming,
            arXiv:1607.03250). "mean": mean absolute activation. "entropy": of the distribution of a
            channel's mean over examples (Luo & Wu, arXiv:1706.05791).
        data: examples, labelled or not.
        limit: most examples to use, >= 1.
        batch_size: examples per run of the model, >= 1.

    Returns:
        By name of the group, a float array of its size. Groups whose channels never leave a layer, such as
        the units of a recurrent layer before another, score 1 for each unit.

    Raises:
        ValueError: if there are no data.
    """
    if data is None:
        raise ValueError(f"criterion={criterion!r} needs `data`: a few inputs. Received: data=None.")
    examples = collect(data, input_specs(graph.model), limit=limit)
    watched = {group.name: _watched(group) for group in graph.groups.values()}
    layers = {id(part.layer): part.layer for parts in watched.values() for part in parts}
    reader = InnerInputs(graph.model, list(layers.values()), [examples])
    means: dict[int, list[np.ndarray]] = {}
    for batch in examples.batches(batch_size):
        for layer, calls in zip(reader.order, reader.read_all(reader.order, batch), strict=True):
            found = [_per_channel(layer, call.first, criterion) for call in calls]
            means.setdefault(id(layer), []).append(np.concatenate(found))
    channels = {key: _summary(np.concatenate(parts), criterion) for key, parts in means.items()}
    return {name: _scores(graph.groups[name], parts, channels) for name, parts in watched.items()}


def _watched(group: Group) -> list[Slice]:
    """Slices whose layers receive the group's channels as they are."""
    consumers = [part for part in group.consumers if part.tensors]
    followers = [part for part in group.followers if part.axis == 0 or "kernel" in part.variable.name]
    return consumers or followers


def _per_channel(layer, values, criterion) -> np.ndarray:
    """Mean statistic of each channel of each example, (examples, channels)."""
    values = keras.ops.convert_to_numpy(values).astype("float32", copy=False)
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else values.ndim - 1
    values = np.moveaxis(values, axis, -1).reshape(len(values), -1, values.shape[axis])
    if criterion == "apoz":
        return (values != 0).mean(axis=1)
    return (np.abs(values) if criterion == "mean" else values).mean(axis=1)


def _summary(means: np.ndarray, criterion) -> np.ndarray:
    return np.apply_along_axis(_entropy, 0, means) if criterion == "entropy" else means.mean(axis=0)


def _entropy(values) -> float:
    counts, _ = np.histogram(values, _BINS)
    shares = counts[counts > 0] / len(values)
    return float(-(shares * np.log(shares)).sum())


def _scores(group, parts, channels) -> np.ndarray:
    totals, count = np.zeros(group.size), 0
    for part in parts:
        found = channels.get(id(part.layer))
        if found is None or len(found) % len(part.units):
            continue
        units = np.tile(part.units, len(found) // len(part.units))
        sums = np.bincount(units[units >= 0], weights=found[units >= 0], minlength=group.size)
        sizes = np.bincount(units[units >= 0], minlength=group.size)
        totals, count = totals + sums / np.maximum(sizes, 1), count + 1
    return totals / count if count else np.ones(group.size)
