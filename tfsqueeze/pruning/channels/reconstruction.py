"""Scores from what layers could not make good for: the criterion that goes with the repair."""

import math

import keras
import numpy as np

from tfsqueeze.core.data import Examples, collect, input_specs
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.least_squares import MOST_INPUTS_OF_TRIALS, LeastSquares, portions
from tfsqueeze.core.linear_view import linear_view
from tfsqueeze.pruning.channels.elimination import Elimination
from tfsqueeze.pruning.channels.graph import ChannelGraph, Group, Slice

ROWS = 20_000
STEPS = 64


def reconstruction_scores(
    graph: ChannelGraph, data, *, limit: int = 512, batch_size: int = 64, seed: int = 0
) -> dict[str, np.ndarray]:
    """Scores each unit by the error that is left in the layers that receive it, once they are refitted.

    In each group the unit that is missed least goes first, then the one missed least by what is left, and
    so on. A unit's score is the error its group has caused by then: the squared error relative to the
    variance of the outputs, summed over the layers that receive the group. So scores of different groups
    compare as they are.

    Args:
        graph: the groups.
        data: examples, labelled or not.
        limit: most examples to use, >= 1.
        batch_size: examples per run of the model, >= 1.
        seed: of the positions drawn in images and sequences.

    Returns:
        By name of the group, a float array of its size. Groups whose channels go to no layer that is a
        matrix product score by the share of their squared weights.

    Raises:
        ValueError: if there are no data, or they do not fit.

    Source: Luo et al., ThiNet, arXiv:1707.06342; the closed form is that of the Optimal Brain Surgeon.
    """
    if data is None:
        raise ValueError('criterion="reconstruction" needs `data`: a few inputs. Received: data=None.')
    examples = collect(data, input_specs(graph.model), limit=limit)
    scores = {}
    for groups in portions(graph.groups.values(), _bytes_of):
        problems = _problems(graph.model, groups, list(examples.batches(batch_size)), seed)
        for group in groups:
            scores[group.name] = _errors_in_turn(group, problems)
    return scores


def _bytes_of(group: Group) -> int:
    """Memory that the sums of products of a group's inputs take."""
    return sum(8 * math.prod(linear_view(part.layer).weights.shape[:2]) ** 2 for part in _inputs(group))


def _inputs(group: Group) -> list[Slice]:
    """Slices that are inputs of a matrix product small enough to invert."""
    found = []
    for part in group.consumers:
        view = linear_view(part.layer)
        if (
            view is not None
            and part.variable is view.kernel
            and view.weights.shape[1] <= MOST_INPUTS_OF_TRIALS
        ):
            found.append(part)
    return found


def _problems(model, groups, batches: list[Examples], seed) -> dict[int, LeastSquares]:
    layers = {id(part.layer): part.layer for group in groups for part in _inputs(group)}
    reader = InnerInputs(model, list(layers.values()), batches)
    views = {id(layer): linear_view(layer) for layer in reader.order}
    problems = {key: LeastSquares(*view.weights.shape[:2], 0) for key, view in views.items()}
    count = math.ceil(ROWS / len(batches))
    for number, batch in enumerate(batches if reader.order else ()):
        for layer, calls in zip(reader.order, reader.read_all(reader.order, batch), strict=True):
            for call, received in enumerate(calls):
                values = keras.ops.convert_to_numpy(received.first).astype("float32", copy=False)
                rng = np.random.default_rng((seed, number, call))
                rows = views[id(layer)].rows(values, rng, math.ceil(count / len(calls)))
                problems[id(layer)].add(rows, np.zeros((*rows.shape[:2], 0), "float32"))
    return problems


def _errors_in_turn(group: Group, problems) -> np.ndarray:
    parts = [part for part in _inputs(group) if id(part.layer) in problems]
    if not parts:
        return _weight_shares(group)
    eliminations = [_elimination(group, part, problems[id(part.layer)]) for part in parts]
    scores, error, left = np.zeros(group.size), 0.0, list(range(group.size))
    at_once = max(1, group.size // STEPS)
    while left:
        losses = sum(elimination.losses() for elimination in eliminations)
        for unit in sorted(left, key=lambda unit: losses[unit])[:at_once]:
            error += losses[unit]
            scores[unit] = error
            left.remove(unit)
            for elimination in eliminations:
                elimination.remove(unit)
    return scores


def _elimination(group: Group, part: Slice, problem: LeastSquares) -> Elimination:
    view = linear_view(part.layer)
    shape = [1] * len(part.variable.shape)
    shape[part.axis] = -1
    units = np.broadcast_to(part.units.reshape(shape), tuple(part.variable.shape))
    return Elimination(problem, view.weights, view.arrangement.to_matrix(units)[:, :, 0], group.size)


def _weight_shares(group: Group) -> np.ndarray:
    """The share of the group's squared weights that is gone when a unit is, smallest first."""
    energy = np.zeros(group.size)
    for part in group.producers:
        values = np.square(keras.ops.convert_to_numpy(part.variable).astype("float64"))
        lines = np.moveaxis(values, part.axis, 0).reshape(len(part.units), -1).sum(1)
        own = part.units >= 0
        energy += np.bincount(part.units[own], lines[own], group.size)
    order = np.argsort(energy)
    shares = np.empty(group.size)
    shares[order] = np.cumsum(energy[order]) / max(energy.sum(), 1e-12)
    return shares
