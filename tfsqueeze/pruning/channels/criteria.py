"""How important each unit of a group is, over everything the group touches; the lowest go first."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from tfsqueeze.core.checks import check_choice
from tfsqueeze.pruning.channels.activations import ACTIVATION_CRITERIA, activation_scores
from tfsqueeze.pruning.channels.graph import ChannelGraph, Group, Slice
from tfsqueeze.pruning.channels.reconstruction import reconstruction_scores
from tfsqueeze.pruning.gradients import loss_gradients

Criterion = str | Callable[[Group], np.ndarray]


@dataclass(frozen=True)
class Evidence:
    """What criteria look at beside the weights.

    Attributes:
        gradients: of the loss, by id of the variable.
        activations: scores from what the model computes, by name of the group.
        seed: of random scores.
    """

    gradients: dict[int, np.ndarray]
    activations: dict[str, np.ndarray]
    seed: int


def l1(group: Group, evidence: Evidence) -> np.ndarray:
    """Mean over the kernels, producing and consuming, of each unit's share of |w|.

    Li et al., Pruning Filters for Efficient ConvNets, arXiv:1608.08710; over whole groups as in Fang et
    al., DepGraph, arXiv:2301.12900.
    """
    return _mean_share(group, group.producers + group.consumers, np.abs)


def l2(group: Group, evidence: Evidence) -> np.ndarray:
    """As `l1`, with the Euclidean norm of each unit's weights."""
    return np.sqrt(_mean_share(group, group.producers + group.consumers, np.square))


def bn_scale(group: Group, evidence: Evidence) -> np.ndarray:
    """|gamma| of the batch normalisations the units pass; `l1` for groups that pass none.

    Liu et al., Learning Efficient Convolutional Networks through Network Slimming, arXiv:1708.06519.
    """
    scales = [
        part
        for part in group.followers
        if isinstance(part.layer, keras.layers.BatchNormalization) and part.variable is part.layer.gamma
    ]
    return _mean_share(group, scales, np.abs) if scales else l1(group, evidence)


def taylor(group: Group, evidence: Evidence) -> np.ndarray:
    """|sum of w * g|: the first-order change of the loss without the unit (arXiv:1906.10771, eq. 8)."""
    parts = [part for part in group.producers + group.followers if id(part.variable) in evidence.gradients]
    changes = [per_unit(group, part, _array(part) * evidence.gradients[id(part.variable)]) for part in parts]
    return np.abs(np.sum(changes, axis=0))


def geometric_median(group: Group, evidence: Evidence) -> np.ndarray:
    """Distance to all other units: those that others can replace go first (arXiv:1811.00250)."""
    total = np.zeros(group.size)
    for part in group.producers:
        vectors = _unit_vectors(group, part)
        squares = (vectors**2).sum(axis=1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0)).sum(axis=1)
        total += distances / max(distances.mean(), 1e-12)
    return total


def random(group: Group, evidence: Evidence) -> np.ndarray:
    """The control every criterion must beat."""
    return np.random.default_rng((evidence.seed, group.start)).uniform(0.5, 1.0, group.size)


_CRITERIA = {
    "l1": l1,
    "l2": l2,
    "bn_scale": bn_scale,
    "taylor": taylor,
    "geometric_median": geometric_median,
    "random": random,
    **dict.fromkeys(
        (*ACTIVATION_CRITERIA, "reconstruction"), lambda group, evidence: evidence.activations[group.name]
    ),
}


def unit_scores(
    graph: ChannelGraph, criterion: Criterion, data=None, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Scores of the units of all groups.

    Args:
        graph: the groups.
        criterion: "reconstruction", "l1", "l2", "bn_scale", "taylor", "apoz", "mean", "entropy",
            "geometric_median", "random", or a function from a `Group` to its units' scores.
        data: examples for "reconstruction", "apoz", "mean" and "entropy"; labelled ones for "taylor".
        seed: of the random scores.

    Returns:
        By name of the group, a float array of its size, >= 0 for the criteria known by name.

    Raises:
        ValueError: if the criterion is unknown, data is missing, or weights or scores are not finite.
    """
    if not callable(criterion):
        check_choice("criterion", criterion, _CRITERIA)
    _check_finite(graph)
    evidence = _gather(graph, criterion, data, seed)
    scores = {}
    for group in graph.groups.values():
        found = criterion(group) if callable(criterion) else _CRITERIA[criterion](group, evidence)
        scores[group.name] = _checked(group, np.asarray(found, "float64"))
    return scores


def per_unit(group: Group, part: Slice, values: np.ndarray) -> np.ndarray:
    """Sums an array of a variable's shape over the positions of each unit."""
    lines = np.moveaxis(values, part.axis, 0).reshape(len(part.units), -1).sum(axis=1, dtype="float64")
    own = part.units >= 0
    return np.bincount(part.units[own], weights=lines[own], minlength=group.size)


def _mean_share(group, parts, function) -> np.ndarray:
    total = np.zeros(group.size)
    for part in parts:
        sums = per_unit(group, part, function(_array(part)))
        total += sums / max(sums.mean(), 1e-12)
    return total / max(len(parts), 1)


def _unit_vectors(group, part) -> np.ndarray:
    """All weights of each unit in a row; units with fewer positions than others are filled up with zeros."""
    lines = np.moveaxis(_array(part), part.axis, 0).reshape(len(part.units), -1)
    positions = [part.positions(unit) for unit in range(group.size)]
    vectors = np.zeros((group.size, max(map(len, positions)) * lines.shape[1]))
    for row, own in zip(vectors, positions, strict=True):
        row[: len(own) * lines.shape[1]] = lines[own].ravel()
    return vectors


def _gather(graph, criterion, data, seed) -> Evidence:
    gradients, activations = {}, {}
    if criterion == "taylor":
        parts = {
            id(part.variable): part
            for group in graph.groups.values()
            for part in group.producers + group.followers
            if part.variable.trainable
        }
        found = loss_gradients(graph.model, list(parts.values()), data)
        gradients = dict(zip(parts, found, strict=True))
    elif criterion in ACTIVATION_CRITERIA:
        activations = activation_scores(graph, criterion, data)
    elif criterion == "reconstruction":
        activations = reconstruction_scores(graph, data, seed=seed)
    return Evidence(gradients, activations, seed)


def _check_finite(graph) -> None:
    for part in (part for group in graph.groups.values() for part in group.slices):
        if not np.isfinite(_array(part)).all():
            raise ValueError(
                f"Layer {part.path!r} holds NaN or infinity in {part.variable.name!r}, so its channels "
                "cannot be ranked. The training diverged: lower the learning rate and train again."
            )


def _checked(group, scores) -> np.ndarray:
    if scores.shape != (group.size,) or not np.isfinite(scores).all():
        raise ValueError(
            f"The criterion must return {group.size} finite scores for group {group.name!r}. "
            f"Received: shape={scores.shape}, finite={bool(np.isfinite(scores).all())}."
        )
    return scores


def _array(part: Slice) -> np.ndarray:
    return keras.ops.convert_to_numpy(part.variable).astype("float32", copy=False)
