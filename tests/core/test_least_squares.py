"""Least squares from sums gives what least squares on the rows gives."""

import numpy as np
import pytest

from tfsqueeze.core.least_squares import LeastSquares, best_fit


def problem_of(rows, targets, parts=3):
    problem = LeastSquares(rows.shape[1], rows.shape[2], targets.shape[2])
    for some, wanted in zip(np.array_split(rows, parts), np.array_split(targets, parts), strict=True):
        problem.add(some, wanted)
    return problem


def drawn(count=50, groups=2, inputs=3, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(1, 1, (count, groups, inputs)).astype("float32")
    return rows, rng.normal(size=(count, groups, outputs)).astype("float32")


def test_by_hand():
    rows = np.array([[[0.0]], [[1.0]], [[2.0]]], "float32")
    targets = np.array([[[1.0]], [[3.0]], [[5.0]]], "float32")
    weights, bias = problem_of(rows, targets).solve(np.zeros((1, 1, 1)), np.zeros((1, 1)), ridge=0)
    np.testing.assert_allclose(weights, [[[2.0]]], rtol=1e-5)
    np.testing.assert_allclose(bias, [[1.0]], rtol=1e-5)
    weights, bias = problem_of(rows, targets).solve(np.zeros((1, 1, 1)), None, ridge=0)
    np.testing.assert_allclose(weights, [[[13 / 5]]], rtol=1e-5)
    assert bias is None


def test_equals_least_squares_on_the_rows():
    rows, targets = drawn()
    problem = problem_of(rows, targets)
    weights, bias = problem.solve(np.zeros((2, 3, 2)), np.zeros((2, 2)), ridge=0)
    for group in range(2):
        full = np.concatenate([rows[:, group], np.ones((50, 1))], 1)
        expected = np.linalg.lstsq(full, targets[:, group], rcond=None)[0]
        np.testing.assert_allclose(np.vstack([weights[group], bias[group]]), expected, atol=1e-5)
    residual = np.einsum("rgk,gko->rgo", rows, weights) + bias - targets
    np.testing.assert_allclose(problem.error(weights, bias), np.square(residual).mean(0), rtol=1e-4)
    expected = np.square(residual).mean(0).sum() / targets.var(0).sum()
    assert problem.relative_error(weights, bias) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 1e-3, 1.0, 100.0])
def test_a_fit_is_never_worse_than_its_start_and_a_penalty_keeps_it_near(ridge):
    rows, targets = drawn(seed=1)
    start, offset = np.ones((2, 3, 2)), np.full((2, 2), 0.5)
    problem = problem_of(rows, targets)
    weights, bias = problem.solve(start, offset, ridge=ridge)
    assert (problem.error(weights, bias) <= problem.error(start, offset) + 1e-9).all()
    if ridge == 100.0:
        np.testing.assert_allclose(weights, start, atol=0.05)


def test_inputs_that_are_always_zero_or_repeat_are_no_trouble():
    rows, targets = drawn()
    rows[:, :, 2] = rows[:, :, 1]
    rows[:, 1] = 0
    weights, bias = problem_of(rows, targets).solve(np.zeros((2, 3, 2)), np.zeros((2, 2)))
    assert np.isfinite(weights).all()
    np.testing.assert_allclose(bias[1], targets[:, 1].mean(0), atol=1e-4)


def test_too_few_rows_change_nothing_that_others_do_not_confirm():
    rows, targets = drawn(count=4, groups=1, inputs=3)
    fit, held_out = problem_of(rows, targets), problem_of(*drawn(count=400, groups=1, seed=5))
    best = held_out.solve(np.zeros((1, 3, 2)), np.zeros((1, 2)), ridge=0)
    assert best_fit(fit, held_out, *best) is None
    found = best_fit(held_out, held_out, np.ones((1, 3, 2)), np.zeros((1, 2)))
    assert held_out.relative_error(*found) < held_out.relative_error(np.ones((1, 3, 2)), np.zeros((1, 2)))
