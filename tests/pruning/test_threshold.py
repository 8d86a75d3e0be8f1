"""The fast selection of the lowest scores gives what sorting all of them gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfsqueeze.pruning import threshold
from tfsqueeze.pruning.lamp import lamp_counts, lamp_scores
from tfsqueeze.pruning.patterns import NofM
from tfsqueeze.pruning.threshold import cell_starts, cells_of, drop_lowest

shapes = hnp.array_shapes(max_dims=3, max_side=6)
# Few different values make many ties; the others cover all magnitudes, both zeros and infinity.
few = st.integers(-3, 3).map(float)
any_float = st.floats(allow_nan=False, width=32)
whole = st.integers(0, 5).map(float)


def lists_of(elements, dtype):
    return st.lists(hnp.arrays(dtype, shapes, elements=elements), min_size=1, max_size=4)


score_lists = st.one_of(
    lists_of(few, "float32"), lists_of(any_float, "float32"), lists_of(any_float, "float64")
)


def dropped_by_sorting(arrays, count):
    """The obvious definition: a stable sort of all entries."""
    joined = np.concatenate([array.ravel() for array in arrays])
    kept = np.ones(joined.size, bool)
    kept[np.argsort(joined, kind="stable")[:count]] = False
    pieces = np.split(kept, np.cumsum([array.size for array in arrays])[:-1])
    return [piece.reshape(array.shape) for piece, array in zip(pieces, arrays, strict=True)]


def counts_by_sorting(units, count):
    scores = [lamp_scores(unit) for unit in units]
    return [int((~kept).sum()) for kept in dropped_by_sorting(scores, count)]


def count_of(arrays, fraction):
    return round(fraction * sum(array.size for array in arrays))


def test_mask_by_hand():
    [mask] = drop_lowest([np.array([[3.0, 1.0], [2.0, 4.0]])], 2)
    np.testing.assert_array_equal(mask, [[True, False], [False, True]])
    first, second = drop_lowest([np.array([3.0, 1.0, 2.0]), np.array([1.0, 4.0])], 1)
    assert first.tolist() == [True, False, True] and second.all()


@given(score_lists, st.floats(0, 1))
def test_few_numbers_as_by_sorting(arrays, fraction):
    count = count_of(arrays, fraction)
    for mask, expected in zip(drop_lowest(arrays, count), dropped_by_sorting(arrays, count), strict=True):
        np.testing.assert_array_equal(mask, expected)


@settings(max_examples=25)
@given(score_lists, st.floats(0, 1), st.integers(0, 99))
def test_many_numbers_as_by_sorting(arrays, fraction, seed):
    rng = np.random.default_rng(seed)
    tiled = [rng.permutation(np.resize(array, threshold.CELLS)) for array in arrays]
    count = count_of(tiled, fraction)
    for mask, expected in zip(drop_lowest(tiled, count), dropped_by_sorting(tiled, count), strict=True):
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("fraction", [0.0, 1e-5, 0.5, 0.9, 0.99999, 1.0])
def test_many_different_numbers_as_by_sorting(fraction):
    rng = np.random.default_rng(0)
    arrays = [np.abs(rng.normal(size=size)).astype("float32") for size in (100_000, 7, 30_000)]
    arrays[0][rng.random(100_000) < 0.6] = 0
    count = count_of(arrays, fraction)
    for mask, expected in zip(drop_lowest(arrays, count), dropped_by_sorting(arrays, count), strict=True):
        np.testing.assert_array_equal(mask, expected)


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=2), st.sampled_from(["float32", "float64"]))
def test_cells_order_as_numbers_do(numbers, dtype):
    ordered = np.sort(np.array(numbers, dtype) + 0.0)
    assert (np.diff(cells_of(ordered).astype(int)) >= 0).all()
    positive = np.unique(cells_of(ordered[ordered > 0]))
    assert (cells_of(cell_starts(positive, dtype)) == positive).all()


def test_lamp_by_hand():
    scores = lamp_scores(np.array([[3.0, 1.0], [2.0, 0.0]]))
    np.testing.assert_allclose(scores, [0.0, 1 / 14, 4 / 13, 1.0])
    np.testing.assert_allclose(lamp_scores(np.array([np.inf, 2.0, 1.0])), [1 / 5, 1.0, np.inf])
    np.testing.assert_allclose(lamp_scores(np.array([1.0, 2.0]), beyond=9.0), [1 / 14, 4 / 13])


# Whole numbers have exact sums of squares, so that ties between layers are ties in either order.
@given(lists_of(st.one_of(whole, st.just(np.inf)), "float32"), st.floats(0, 1))
def test_lamp_counts_as_by_sorting(units, fraction):
    count = count_of(units, fraction)
    assert lamp_counts(units, count) == counts_by_sorting(units, count)


def test_lamp_takes_scores_of_users_below_zero_as_zero():
    assert lamp_counts([np.array([-5.0, 2.0, -0.0, 1.0]), np.array([0.5, 4.0])], 3) == [2, 1]


@pytest.mark.parametrize("fraction", [1e-5, 0.3, 0.5, 0.9, 0.99, 0.9999, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lamp_counts_of_many_numbers_as_by_sorting(fraction, dtype):
    rng = np.random.default_rng(1)
    units = [
        np.abs(rng.normal(size=size) * scale).astype(dtype)
        for size, scale in [(90_000, 0.01), (40, 3.0), (20_000, 1e-20), (5_000, 1.0)]
    ]
    units[0][rng.random(90_000) < 0.5] = 0
    units[3][::4] = np.inf
    count = count_of(units, fraction)
    assert lamp_counts(units, count) == counts_by_sorting(units, count)


@given(hnp.arrays("float32", st.tuples(st.just(12), st.integers(1, 4)), elements=whole), st.data())
def test_n_of_m_protects_what_a_stable_sort_puts_last(scores, data):
    group = data.draw(st.sampled_from([2, 3, 4, 6, 12]))
    kept = data.draw(st.integers(1, group - 1))
    order = np.argsort(scores.reshape(-1, group, scores.shape[1]), axis=1, kind="stable")
    expected = scores.reshape(-1, group, scores.shape[1]).copy()
    np.put_along_axis(expected, order[:, group - kept :], np.inf, axis=1)
    np.testing.assert_array_equal(NofM(kept, group).pool(scores), expected.reshape(scores.shape))
