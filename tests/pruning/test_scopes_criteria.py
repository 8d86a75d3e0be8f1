"""Distributing the sparsity, and what makes a weight important."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze.pruning.criteria import movement
from tfsqueeze.pruning.gradients import loss_gradients
from tfsqueeze.pruning.scopes import _erk
from tfsqueeze.pruning.targets import find_targets


def done(pruned):
    return tfs.explain(pruned).done


def total(rows):
    return sum(row["zeros"] for row in rows.values()) / sum(row["weights"] for row in rows.values())


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("scope", ["global", "lamp", "erk"])
def test_the_whole_model_meets_the_sparsity(name, scope):
    rows = done(tfs.prune(ZOO[name](), 0.7, scope=scope))
    weights = sum(row["weights"] for row in rows.values())
    assert total(rows) == pytest.approx(0.7, abs=len(rows) / weights)


def test_global_drops_the_lowest_of_all_layers():
    model = ZOO["residual"]()
    model.get_layer("stem").kernel.assign(model.get_layer("stem").kernel * 100)
    rows = done(tfs.prune(model, 0.5, scope="global"))
    assert rows["stem/kernel"]["zeros"] < 5 < rows["block_conv/kernel"]["zeros"]
    kept = find_targets(tfs.prune(model, 0.5, scope="global"))[0]
    values = np.concatenate([np.abs(target.variable.numpy()).ravel() for target in kept])
    dense = np.concatenate([np.abs(target.variable.numpy()).ravel() for target in find_targets(model)[0]])
    assert values[values > 0].min() > np.sort(dense)[dense.size // 2 - 1]


@given(
    st.lists(st.lists(st.integers(1, 64), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6),
    st.floats(0, 0.99),
)
def test_erk_keeps_the_budget_and_spares_small_kernels(shapes, sparsity):
    sparsities = np.array(_erk(shapes, sparsity))
    sizes = np.array([np.prod(shape) for shape in shapes], "float64")
    assert (sparsities >= -1e-9).all() and (sparsities < 1).all()
    assert (sparsities * sizes).sum() == pytest.approx(sparsity * sizes.sum(), rel=1e-6, abs=1e-6)
    ratio = np.array([sum(shape) for shape in shapes]) / sizes
    assert (np.diff(sparsities[np.argsort(-ratio)]) >= -1e-9).all()


def test_explicit_targets_per_layer():
    rows = done(tfs.prune(ZOO["sequential"](), 0.5, scope={"conv.*": 0.9, "head": 0.25}))
    assert rows["conv1/kernel"]["zeros"] == round(0.9 * 162)
    assert rows["head/kernel"]["zeros"] == 32
    assert done(tfs.prune(ZOO["sequential"](), 0.5, scope={"head": 0.25}))["conv1/kernel"]["zeros"] == 0
    with pytest.raises(ValueError, match=r"names no pruned layer: 'haed'.*Did you mean 'head'"):
        tfs.prune(ZOO["sequential"](), 0.5, scope={"haed": 0.5})
    with pytest.raises(ValueError, match=r"scope\['head'\].*must be in \[0, 1\)"):
        tfs.prune(ZOO["sequential"](), 0.5, scope={"head": 1.0})


def test_lamp_never_empties_a_layer():
    model = ZOO["residual"]()
    model.get_layer("block_conv").kernel.assign(model.get_layer("block_conv").kernel * 1e-3)
    rows = done(tfs.prune(model, 0.95, scope="lamp"))
    assert all(row["zeros"] < row["weights"] for row in rows.values())


def test_gradients_by_hand():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    x, y = np.array([[1.0, 2.0], [3.0, -1.0]], "float32"), np.array([[0.5], [0.0]], "float32")
    [gradient] = loss_gradients(model, find_targets(model)[0], (x, y))
    expected = 2 * x.T @ (x @ model.layers[0].kernel.numpy() - y) / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


@pytest.mark.parametrize("criterion", ["taylor", "snip", "fisher"])
def test_saliency_prunes_what_the_loss_does_not_feel(criterion):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False, name="d")])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    x[:, 2] = 0
    model.layers[0].kernel.assign([[0.1], [0.2], [9.0], [0.3]])
    pruned = tfs.prune(model, 0.25, criterion=criterion, data=(x, rng.normal(size=(64, 1))))
    assert pruned.layers[0].kernel.numpy()[2] == 0


@pytest.mark.parametrize("name", ZOO)
def test_gradient_criteria_work_on_every_model(name):
    model = ZOO[name]()
    model.compile("adam", {"kind": "mse", "score": "mae"} if name == "multi_output" else "mse")
    data = (zoo_inputs(model, 8), zoo_targets(model, 8))
    assert total(done(tfs.prune(model, 0.5, criterion="taylor", data=data))) == pytest.approx(0.5, abs=0.05)


def test_random_is_repeatable():
    first, second = (tfs.prune(ZOO["residual"](), 0.5, criterion="random") for _ in range(2))
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_data_labels_or_loss():
    model = ZOO["sequential"]()
    with pytest.raises(ValueError, match="compile model 'sequential'"):
        tfs.prune(model, 0.5, criterion="taylor", data=np.ones((4, 8, 8, 3)))
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="needs `data`"):
        tfs.prune(model, 0.5, criterion="taylor")
    with pytest.raises(ValueError, match="needs labels"):
        tfs.prune(model, 0.5, criterion="taylor", data=np.ones((4, 8, 8, 3)))


def test_root_mean_square_gradients_by_hand():
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    model.layers[0].kernel.assign([[2.0]])
    batches = [(np.array([[1.0]]), np.array([[0.0]])), (np.array([[2.0]]), np.array([[0.0]]))]
    [gradient] = loss_gradients(model, find_targets(model)[0], batches, root_mean_square=True)
    np.testing.assert_allclose(gradient, [[np.sqrt((4.0**2 + 16.0**2) / 2)]], rtol=1e-6)


def test_movement_scores_are_the_sum_of_weight_times_update():
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.normal(size=(1001, 5)) * 1e-3, axis=0) + rng.normal(size=5)
    middles, updates = (path[1:] + path[:-1]) / 2, np.diff(path, axis=0)
    np.testing.assert_allclose(movement(path[-1], path[0]), (middles * updates).sum(0), rtol=1e-9)
    assert movement(np.zeros(1), np.ones(1)) == -np.inf


def test_movement_needs_a_training():
    with pytest.raises(ValueError, match=r"use it with tfs\.PruningCallback"):
        tfs.prune(ZOO["sequential"](), 0.5, criterion="movement")
    with pytest.raises(ValueError, match=r"use it with tfs\.PruningCallback"):
        tfs.sensitivity(ZOO["sequential"](), lambda model: 1.0, sparsities=0.5, criterion="movement")
