"""A cut model gives what the original gives without the contributions of the channels that are gone."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.pruning.channels.random_graphs import (
    IMAGE_STEPS,
    SEQUENCE_STEPS,
    image_model,
    keep_some,
    sequence_model,
    with_zeroed_consumers,
)
from tests.zoo import GRAPH_ZOO, zoo_inputs
from tfsqueeze.pruning.channels.cut import cut
from tfsqueeze.pruning.channels.graph import find_groups

FEW = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def outputs(model, inputs):
    return [np.asarray(array) for array in keras.tree.flatten(model(inputs))]


def check_cut(model, seed=0):
    """Cuts at random and compares; returns the graph, the cut and the result."""
    graph = find_groups(model)
    keep = keep_some(graph, seed)
    pruned = cut(model, graph, keep)
    inputs = zoo_inputs(model)
    if not any(group.inexact for group in graph.groups.values()):
        expected = outputs(with_zeroed_consumers(model, graph, keep), inputs)
        for one, other in zip(outputs(pruned, inputs), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * max(1, np.abs(other).max()))
    kept = graph.kept(keep)
    assert graph.params(kept) == pruned.count_params()
    assert graph.macs(kept) == find_groups(pruned).macs()
    return graph, keep, pruned


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_every_kind_of_model(name):
    graph, _, pruned = check_cut(GRAPH_ZOO[name](), seed=3)
    assert pruned.count_params() < graph.params()


@pytest.mark.parametrize("step", IMAGE_STEPS)
def test_every_step_of_an_image_model(step):
    graph, _, _ = check_cut(image_model([step], 0))
    assert len(graph.pinned) == 1, graph.pinned


@pytest.mark.parametrize("step", SEQUENCE_STEPS)
def test_every_step_of_a_sequence_model(step):
    graph, _, _ = check_cut(sequence_model([step], 0))
    assert len(graph.pinned) == 2, graph.pinned


@FEW
@given(st.lists(st.sampled_from(sorted(IMAGE_STEPS)), min_size=2, max_size=6), st.integers(0, 999))
def test_random_image_models(steps, seed):
    check_cut(image_model(steps, seed), seed)


@FEW
@given(st.lists(st.sampled_from(sorted(SEQUENCE_STEPS)), min_size=2, max_size=4), st.integers(0, 999))
def test_random_sequence_models(steps, seed):
    check_cut(sequence_model(steps, seed), seed)
