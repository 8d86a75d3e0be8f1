"""Ranks of all layers together: the total is met, nothing more would fit, and little better exists."""

import itertools
import math

import numpy as np
import pytest

from tfsqueeze.architecture.allocation import allocate, cheapest_within
from tfsqueeze.architecture.form import Choice


def ladder(rng, whole=100):
    """The layer as it is, then ranks whose cost grows evenly and whose energies fall."""
    per_rank, energies = int(rng.integers(7, 15)), np.sort(rng.exponential(size=10))[::-1]
    lost = 1 - np.cumsum(energies) / energies.sum()
    ranks = [Choice(None, (r,), r * per_rank, r, float(lost[r - 1])) for r in range(9, 0, -1)]
    return [Choice(None, (), whole, 10, 0.0), *(choice for choice in ranks if choice.macs < whole)]


def kept(choices):
    return sum(math.log(max(1 - choice.lost, 1e-12)) for choice in choices)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.9, 0.6, 0.35])
def test_meets_the_goal_nearly_as_well_as_trying_all(seed, fraction):
    rng = np.random.default_rng(seed)
    ladders = {name: ladder(rng) for name in "abc"}
    goal = int(300 * fraction)
    chosen = allocate(ladders, goal, "macs")
    total = sum(choice.macs for choice in chosen.values())
    assert total <= goal
    for name, choice in chosen.items():
        dearer = [other.macs for other in ladders[name] if other.macs > choice.macs]
        assert not dearer or total - choice.macs + min(dearer) > goal
    possible = (c for c in itertools.product(*ladders.values()) if sum(one.macs for one in c) <= goal)
    assert kept(chosen.values()) >= max(map(kept, possible)) - 0.35


def test_a_goal_that_is_met_changes_nothing_and_one_out_of_reach_gives_none():
    ladders = {"a": ladder(np.random.default_rng(0))}
    assert allocate(ladders, 100, "macs") == {"a": ladders["a"][0]}
    assert allocate(ladders, ladders["a"][-1].macs - 1, "macs") is None
    assert allocate({}, 0, "macs") == {}


def test_energy_takes_the_cheapest_that_keeps_enough():
    choices = [Choice(None, (), 10, 10, 0.0), Choice(None, (2,), 6, 6, 0.05), Choice(None, (1,), 3, 3, 0.3)]
    assert cheapest_within(choices, 1.0, "macs").ranks == ()
    assert cheapest_within(choices, 0.95, "macs").ranks == (2,)
    assert cheapest_within(choices, 0.5, "macs").ranks == (1,)
