"""Patterns: every mask keeps its promise, whatever the shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfsqueeze as tfs
from tests.zoo import ZOO
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.pruning.masks import MaskRule
from tfsqueeze.pruning.patterns import Blocks, NofM, as_matrix, as_pattern, from_matrix
from tfsqueeze.pruning.targets import find_targets

matrices = hnp.arrays(
    "float32", st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.floats(0, 100, width=32)
)


def masks_of(model, pattern, sparsity, **kwargs):
    pruned = tfs.prune(model, sparsity, pattern=pattern, **kwargs)
    targets, _ = find_targets(pruned, None, MaskRule(pattern=pattern).misfit)
    return {t.path: as_matrix(t.variable.numpy() != 0, t.kernel) for t in targets}


@pytest.mark.parametrize("name", ZOO)
def test_matrices_and_back(name):
    for layer in ZOO[name]()._flatten_layers():
        for kernel, variable in kernels(layer):
            array = np.arange(np.prod(variable.shape)).reshape(variable.shape)
            matrix = as_matrix(array, kernel)
            outputs = np.prod([variable.shape[axis] for axis in kernel.outputs])
            assert matrix.shape[1] == outputs
            np.testing.assert_array_equal(from_matrix(matrix, kernel, variable.shape), array)


def test_n_of_m_by_hand():
    scores = np.array([[1.0], [4.0], [2.0], [3.0]])
    np.testing.assert_array_equal(NofM(2, 4).pool(scores), [[1.0], [np.inf], [2.0], [np.inf]])


@pytest.mark.parametrize("name", ["sequential", "residual", "depthwise", "attention", "recurrent"])
@pytest.mark.parametrize(("pattern", "kept", "group"), [("2:4", 2, 4), ("1:2", 1, 2), ("1:4", 1, 4)])
def test_n_of_m_holds_along_the_inputs(name, pattern, kept, group):
    masks = masks_of(ZOO[name](), pattern, 1 - kept / group)
    for mask in masks.values():
        assert (mask.reshape(-1, group, mask.shape[1]).sum(1) == kept).all()


def test_n_of_m_grows_gradually_and_keeps_the_best():
    model = ZOO["residual"]()
    for sparsity in (0.2, 0.4, 0.5):
        masks = masks_of(model, "2:4", sparsity)
        zeros = sum((~mask).sum() for mask in masks.values())
        assert zeros == sum(round(sparsity * mask.size) for mask in masks.values())
        assert all((mask.reshape(-1, 4, mask.shape[1]).sum(1) >= 2).all() for mask in masks.values())


def test_kernels_that_do_not_divide_stay_dense_and_are_reported():
    explanation = tfs.explain(tfs.prune(ZOO["depthwise"](), 0.5, pattern="2:4"))
    assert explanation.skipped["stem/kernel"] == "its 27 inputs per output do not divide into groups of 4"
    assert "head/kernel" in explanation.done
    with pytest.raises(ValueError, match=r"fits the pattern.*27 inputs"):
        tfs.prune(ZOO["depthwise"](), 0.5, pattern="2:4", select="stem")


@given(matrices, st.integers(1, 5), st.integers(1, 5), st.sampled_from(["average", "max"]))
def test_blocks_live_and_die_together(scores, rows, columns, pooling):
    pattern = Blocks(rows, columns, pooling)
    pooled = pattern.pool(scores)
    assert pooled.shape == (-(-scores.shape[0] // rows), -(-scores.shape[1] // columns))
    mask = pattern.spread(pooled > np.median(pooled), scores.shape)
    assert mask.shape == scores.shape
    for i in range(0, scores.shape[0], rows):
        for j in range(0, scores.shape[1], columns):
            block = scores[i : i + rows, j : j + columns]
            assert len(np.unique(mask[i : i + rows, j : j + columns])) == 1
            expected = block.max() if pooling == "max" else block.mean(dtype="float64")
            assert pooled[i // rows, j // columns] == pytest.approx(expected, rel=1e-6)


def test_rows_and_columns():
    columns = masks_of(ZOO["residual"](), "columns", 0.5)
    assert all((mask.all(0) | ~mask.any(0)).all() for mask in columns.values())
    rows = masks_of(ZOO["residual"](), "rows", 0.5)
    assert all((mask.all(1) | ~mask.any(1)).all() for mask in rows.values())
    assert all((~mask).mean() == pytest.approx(0.5, abs=0.2) for mask in (*rows.values(), *columns.values()))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("4:2", "1 <= n < m. Received: '4:2'"),
        ("0:4", "1 <= n < m"),
        ((0, 2), r"whole numbers >= 1. Received: \(0, 2\)"),
        ((1.5, 2), "whole numbers"),
        ("zebra", r"`pattern` must be one of 'unstructured', 'rows', 'columns', 'n:m'.*'zebra'"),
        (4, "`pattern` must be one of"),
    ],
)
def test_impossible_patterns(pattern, message):
    with pytest.raises(ValueError, match=message):
        as_pattern(pattern)


def test_a_sparsity_out_of_the_patterns_reach():
    with pytest.raises(ValueError, match=r"leaves at most a sparsity of 0\.5\. Received: sparsity=0\.8"):
        tfs.prune(ZOO["residual"](), 0.8, pattern="2:4")
    with pytest.raises(ValueError, match="`pooling` must be 'average' or 'max'"):
        Blocks(2, 2, "median")
