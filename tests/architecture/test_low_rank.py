"""Products of two thin matrices: the error is that of the discarded singular values."""

import numpy as np
import pytest

from tfsqueeze.architecture.low_rank import LowRank, balanced, lost_energy


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_error_is_that_of_the_discarded_singular_values(rng, shape):
    matrix = rng.normal(size=shape)
    values = np.linalg.svd(matrix, compute_uv=False)
    product = LowRank(matrix)
    np.testing.assert_allclose(product.energies, values**2)
    for rank in range(1, min(shape) + 1):
        first, last = product.factors(rank)
        assert (first.shape, last.shape) == ((shape[0], rank), (rank, shape[1]))
        np.testing.assert_allclose(
            np.square(matrix - first @ last).sum(), (values[rank:] ** 2).sum(), atol=1e-12
        )


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_with_a_moment_the_outputs_count(rng, shape):
    rows = rng.normal(size=(200, shape[0])) * np.geomspace(1, 100, shape[0])
    matrix = rng.normal(size=shape)
    weighted = LowRank(matrix, rows.T @ rows)
    values = np.linalg.svd(rows @ matrix, compute_uv=False)
    np.testing.assert_allclose(weighted.energies, values[: min(shape)] ** 2, rtol=1e-6)
    for rank in (1, 2, 3):
        first, last = weighted.factors(rank)
        error = np.square(rows @ matrix - rows @ first @ last).sum()
        np.testing.assert_allclose(error, (values[rank:] ** 2).sum(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7)])
def test_full_rank_is_exact_though_inputs_lack_directions(rng, shape):
    matrix = rng.normal(size=shape)
    row = rng.normal(size=(1, shape[0]))
    first, last = LowRank(matrix, row.T @ row).factors(min(shape))
    np.testing.assert_allclose(first @ last, matrix, atol=1e-9)


def test_balanced_factors_have_equal_norms_and_the_same_product(rng):
    first, last = rng.normal(size=(5, 3)) * 100, rng.normal(size=(3, 6))
    first[:, 1] = 0
    before, after = balanced(first, last)
    np.testing.assert_allclose(before @ after, first @ last)
    np.testing.assert_allclose(
        np.linalg.norm(before[:, [0, 2]], axis=0), np.linalg.norm(after[[0, 2]], axis=1)
    )


def test_lost_energy_ends_at_nothing():
    np.testing.assert_allclose(lost_energy(np.array([6.0, 3.0, 1.0])), [0.4, 0.1, 0.0])
    np.testing.assert_allclose(lost_energy(np.zeros(2)), [1.0, 0.0])
