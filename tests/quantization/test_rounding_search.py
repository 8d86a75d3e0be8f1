"""Range searches and adaptive rounding against hand-made arrays."""

import itertools

import numpy as np
import pytest

from tfsqueeze.quantization.adaptive_rounding import best_steps, round_adaptively
from tfsqueeze.quantization.range_search import SEARCHES, Histogram


def histogram_of(values):
    histogram = Histogram()
    for part in np.array_split(values, 3):
        histogram.add(part)
    return histogram


def test_histogram_widens_and_loses_nothing():
    histogram = histogram_of(np.concatenate([np.linspace(0, 1, 500), np.linspace(-3, 9, 700), [np.nan]]))
    assert histogram.counts.sum() == pytest.approx(1200)
    assert (histogram.low, histogram.high) == (-3, 9)


def test_min_max_keeps_all_and_percentile_cuts_tails():
    histogram = histogram_of(np.linspace(-1, 1, 100_001))
    assert SEARCHES["min_max"](histogram, 8, 99) == (-1, 1)
    low, high = SEARCHES["percentile"](histogram, 8, 90)
    assert low == pytest.approx(-0.9, abs=2e-3) and high == pytest.approx(0.9, abs=2e-3)


@pytest.mark.parametrize(("method", "most"), [("mse", 39), ("entropy", 25)])
def test_searches_cut_off_a_lonely_outlier_and_keep_a_uniform_range(method, most):
    rng = np.random.default_rng(0)
    outlier = np.concatenate([np.abs(rng.normal(size=100_000)), [40.0]])
    low, high = SEARCHES[method](histogram_of(outlier), 8, 99.99)
    assert low == 0 and 2 < high < most
    low, high = SEARCHES[method](histogram_of(rng.uniform(0, 1, 100_000)), 8, 99.99)
    assert high > 0.95


def correlated(rng, inputs, rows=200):
    values = rng.normal(size=(rows, inputs)) @ rng.normal(size=(inputs, inputs))
    return values.T @ values / rows


def cost(change, moments):
    return np.einsum("gko,gkl,glo->o", change, moments[None], change)


def test_adaptive_rounding_is_near_the_best_of_all_and_beats_the_nearest():
    rng = np.random.default_rng(1)
    weights, moments = rng.normal(size=(1, 6, 20)), correlated(rng, 6)
    steps = np.abs(weights).max(1, keepdims=True) / 3
    found = round_adaptively(weights, moments[None], steps, 3, np.zeros(weights.shape, bool))
    nearest = np.clip(np.round(weights / steps), -3, 3)
    base = np.floor(weights / steps)
    best = np.full(20, np.inf)
    for choice in itertools.product((0, 1), repeat=6):
        candidate = np.clip(base + np.array(choice)[None, :, None], -3, 3)
        best = np.minimum(best, cost(candidate * steps - weights, moments))
    ours = cost(found * steps - weights, moments)
    assert ours.sum() < 0.6 * cost(nearest * steps - weights, moments).sum()
    assert ours.sum() < 1.3 * best.sum()


def test_fixed_weights_are_rounded_to_the_nearest_and_uncorrelated_inputs_change_nothing():
    rng = np.random.default_rng(2)
    weights, moments = rng.normal(size=(3, 5, 4)), np.broadcast_to(np.eye(5), (3, 5, 5))
    steps = best_steps(weights, moments, 7)
    nearest = np.clip(np.round(weights / steps), -7, 7)
    free = round_adaptively(weights, moments, steps, 7, np.zeros(weights.shape, bool))
    np.testing.assert_array_equal(free, nearest)
    skewed = np.stack([correlated(rng, 5) for _ in range(3)])
    fixed = rng.random(weights.shape) < 0.5
    found = round_adaptively(weights, skewed, steps, 7, fixed)
    np.testing.assert_array_equal(found[fixed], nearest[fixed])


def test_best_steps_are_no_worse_than_the_full_range():
    rng = np.random.default_rng(3)
    weights, moments = rng.standard_t(3, size=(2, 50, 4)), np.broadcast_to(np.eye(50), (2, 50, 50))
    steps, full = best_steps(weights, moments, 7), np.abs(weights).max(1, keepdims=True) / 7

    def error(step):
        return np.square(np.clip(np.round(weights / step), -7, 7) * step - weights).sum(1)

    assert (error(steps) <= error(full) + 1e-9).all() and (steps < full).any()
    assert best_steps(weights, moments, 7, per_channel=False).shape == (1, 1, 1)
