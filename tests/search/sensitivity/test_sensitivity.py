"""Sensitivity analysis: what is measured, what is put back, and the budget made of it."""

import itertools
import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.search.sensitivity.budget import distribute_zeros, extended, hull_segments
from tfsqueeze.search.sensitivity.result import Sensitivity
from tfsqueeze.search.sensitivity.sensitivity import sensitivity

quiet = {"progress": False}


def total_weight(model):
    """A score that falls by exactly the magnitude that was pruned away."""
    return float(sum(np.abs(variable.numpy()).sum() for variable in model.trainable_variables))


def two_layers():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(2, use_bias=False, name="a"),
            layers.Dense(2, use_bias=False, name="b"),
        ]
    )
    model.set_weights([np.array([[1, 2], [3, 4]], "float32"), np.array([[10, 20], [30, 40]], "float32")])
    return model


class Recorder:
    """Counts calls and keeps the weights it was called with; can be interrupted."""

    def __init__(self, stop_at=None):
        self.seen, self.stop_at = [], stop_at

    def __call__(self, model):
        if len(self.seen) == self.stop_at:
            raise KeyboardInterrupt
        self.seen.append([variable.numpy() for variable in model.weights])
        return total_weight(model)


def test_scores_by_hand():
    found = sensitivity(two_layers(), total_weight, sparsities=(0.75, 0.5), **quiet)
    assert found.baseline == 110
    assert found.scores == {"a": {0.5: 107, 0.75: 104}, "b": {0.5: 80, 0.75: 50}}
    assert found.losses("b") == {0.5: 30, 0.75: 60}
    assert found.weights == {"a": 4, "b": 4}
    assert found.sparsities == [0.5, 0.75]
    assert found.most_sensitive() == ["b", "a"]


@pytest.mark.parametrize("name", ["nested", "shared", "subclassed", "recurrent", "multi_output"])
def test_each_call_prunes_one_layer_and_all_else_is_as_before(name):
    model = ZOO[name]()
    before = [variable.numpy() for variable in model.weights]
    record = Recorder()
    found = sensitivity(model, record, sparsities=(0.5, 0.9), **quiet)
    paths = list(found.scores)
    assert len(record.seen) == 1 + 2 * len(paths)
    for original, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(original, variable.numpy())
    calls = [(None, 0.0), *itertools.product(paths, (0.5, 0.9))]
    for (path, sparsity), weights in zip(calls, record.seen, strict=True):
        changed = [(b, w) for b, w in zip(before, weights, strict=True) if not np.array_equal(b, w)]
        assert sum(b.size for b, _ in changed) == (found.weights[path] if path else 0)
        for original, pruned in changed:
            assert (pruned == 0).sum() == round(sparsity * pruned.size)
            np.testing.assert_array_equal(pruned[pruned != 0], original[pruned != 0])


def test_an_evaluation_that_trains_leaves_no_trace():
    model = ZOO["sequential"]()
    model.compile("sgd", "mse")
    x, record = zoo_inputs(model, 8), Recorder()

    def after_a_step(twin):
        score = record(twin)
        twin.fit(x, np.ones((8, 4)), verbose=0)
        return score

    sensitivity(model, after_a_step, sparsities=(0.5,), select="head", **quiet)
    unpruned, pruned = record.seen
    changed = [
        variable
        for variable, a, b in zip(model.weights, unpruned, pruned, strict=True)
        if not np.array_equal(a, b)
    ]
    assert changed == [model.get_layer("head").kernel]


def test_data_instead_of_a_function():
    model = ZOO["sequential"]()
    x = zoo_inputs(model, 24)
    y = np.asarray(model(x)).argmax(-1)
    found = sensitivity(model, (x, y), sparsities=(0.5, 0.95), **quiet)
    assert (found.metric, found.baseline) == ("accuracy", 1.0)
    pruned = tfs.prune(model, 0.95, select="conv2")
    expected = (np.asarray(pruned(x)).argmax(-1) == y).mean()
    assert found.scores["conv2"][0.95] == pytest.approx(expected)
    assert sensitivity(model, (x, y), sparsities=0.5, criterion="snip", select="head", **compiled(model))


def compiled(model):
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return quiet


def test_errors_count_negative():
    model = two_layers()
    x = np.eye(2, dtype="float32")
    targets = np.asarray(model(x))
    model.compile("sgd", "mse", metrics=["mae"])
    found = sensitivity(model, (x, targets), sparsities=(0.5,), **quiet)
    # Without 1 and 2 in its first row, layer a makes 0 of the row [70, 100].
    assert found.metric == "-mae" or found.metric == "-mean_absolute_error"
    assert found.baseline == 0.0
    assert found.scores["a"][0.5] == pytest.approx(-(70 + 100) / 4)


def test_metrics_without_a_direction_are_refused():
    model = two_layers()
    model.compile("sgd", "mse", metrics=[lambda y, p: keras.ops.mean(p)])
    with pytest.raises(ValueError, match=r"Whether a higher .* is better is not known"):
        sensitivity(model, (np.eye(2, dtype="float32"), np.eye(2)), **quiet)


def test_hull_by_hand():
    assert hull_segments([(0, 0.0), (0.5, 0.0), (1.0, 0.2)], 100) == [(0.0, 50.0), (0.004, 50.0)]
    # A gain counts as no loss; a dip after a loss is noise; a concave bump is cut off.
    assert hull_segments([(0, 0.0), (0.5, -1.0), (1.0, 1.0)], 2) == [(0.0, 1.0), (1.0, 1.0)]
    assert hull_segments([(0, 0.0), (0.5, 1.0), (1.0, 0.5)], 2) == [(0.5, 2.0)]


def test_extension_by_hand():
    assert extended([(0, 0.0), (0.5, 0.1)], worst=0.6, end=1.0) == [(0, 0.0), (0.5, 0.1), (1.0, 0.6)]
    assert extended([(0, 0.0), (0.5, 0.4)], worst=0.6, end=1.0) == [(0, 0.0), (0.5, 0.4), (1.0, 0.8)]
    assert extended([(0, 0.0), (0.5, 0.4)], worst=0.6, end=0.5) == [(0, 0.0), (0.5, 0.4)]


def test_budget_by_hand():
    found = Sensitivity(
        baseline=1.0,
        scores={"fragile": {0.5: 0.8, 0.9: 0.2}, "sturdy": {0.5: 1.0, 0.9: 0.9}},
        weights={"fragile": 100, "sturdy": 300},
    )
    # The first 150 weights of "sturdy" are free, the next 120 cost 0.1/120 each, "fragile" 0.2/50.
    assert found.budget(0.3) == {"fragile": 0.0, "sturdy": 0.4}
    assert found.budget(0.675) == {"fragile": 0.0, "sturdy": 0.9}
    assert found.budget(0.75) == {"fragile": 0.3, "sturdy": 0.9}
    assert found.budget(0.0) == {"fragile": 0.0, "sturdy": 0.0}
    # Down to a quarter of the density at 0.9, "sturdy" rises by 0.7 over 22.5 weights, "fragile" as before.
    assert found.budget(0.92) == {"fragile": 0.98, "sturdy": 0.9}
    assert found.budget(0.95) == {"fragile": 0.98, "sturdy": 0.94}
    with pytest.raises(
        ValueError, match=r"not exceed 0\.975 here.*measured is 0\.9. Received: sparsity=0\.98"
    ):
        found.budget(0.98)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        found.budget(1.5)
    halves = Sensitivity(1.0, {"a": {0.25: 0.9}, "b": {0.25: 1.0}}, {"a": 16, "b": 8}, max_sparsity=0.5)
    assert halves.budget(0.375) == {"a": 7 / 16, "b": 0.25}
    with pytest.raises(ValueError, match=r"not exceed 0\.5 here: the pattern allows at most 0\.5,"):
        halves.budget(0.6)


def test_equal_costs_share_the_zeros():
    flat = {0.5: 1.0, 0.9: 1.0}
    found = Sensitivity(1.0, {"a": flat, "b": flat}, {"a": 100, "b": 300})
    assert found.budget(0.6) == {"a": 0.6, "b": 0.6}


@given(
    st.lists(
        st.tuples(st.integers(2, 500), st.lists(st.floats(-0.1, 1), min_size=3, max_size=3)),
        min_size=1,
        max_size=6,
    ),
    st.floats(0, 0.95),
)
def test_the_budget_meets_the_total(drawn, sparsity):
    sizes = [size for size, _ in drawn]
    curves = [[(0.0, 0.0), *zip((0.5, 0.8, 0.95), losses, strict=True)] for _, losses in drawn]
    zeros = distribute_zeros(sizes, curves, sparsity)
    assert all(0 <= count < size for count, size in zip(zeros, sizes, strict=True))
    assert abs(sum(zeros) - sparsity * sum(sizes)) <= max(0.5, len(sizes))
    if min(sizes) >= 40:
        assert sum(zeros) == round(sparsity * sum(sizes))


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=2, max_size=3), st.integers(0, 12)
)
def test_convex_curves_get_the_best_budget(slopes, quarters):
    curves = [[(0.0, 0.0), *zip((0.25, 0.5, 0.75, 1.0), np.cumsum(np.sort(s)), strict=True)] for s in slopes]
    size, steps = 400, min(quarters, 3 * len(curves))
    zeros = distribute_zeros([size] * len(curves), curves, steps / (4 * len(curves)))

    def cost(counts):
        return sum(np.interp(n / size, *zip(*c, strict=True)) for n, c in zip(counts, curves, strict=True))

    choices = itertools.product(range(5), repeat=len(curves))
    best = min(cost([size * k / 4 for k in choice]) for choice in choices if sum(choice) == steps)
    assert cost(zeros) <= best + 0.02


def test_a_budget_is_a_scope():
    model = ZOO["nested"]()
    found = sensitivity(model, total_weight, sparsities=(0.5, 0.9), **quiet)
    budget = found.budget(0.7)
    assert set(budget) == {"backbone/inner_conv", "neck/neck_conv", "head"}
    rows = tfs.explain(tfs.prune(model, 0.7, scope=budget)).done
    zeros = sum(row["zeros"] for row in rows.values())
    assert zeros == round(0.7 * sum(row["weights"] for row in rows.values()))
    assert len({round(share, 3) for share in budget.values()}) > 1


def test_budgets_name_layers_of_awkward_names():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="fc.1")], name="inner")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="fc.1"), inner, layers.Dense(4, name="fc+1")]
    )
    found = sensitivity(model, total_weight, sparsities=(0.5,), **quiet)
    found = Sensitivity(1.0, {p: {0.9: 1.0 - i} for i, p in enumerate(found.scores)}, found.weights)
    budget = found.budget(0.5)
    rows = tfs.explain(tfs.prune(model, 0.5, scope=budget)).done
    assert [row["zeros"] for row in rows.values()] == [14, 10, 0]


def test_work_goes_on_where_it_was_interrupted(tmp_path):
    path = tmp_path / "scores.json"
    whole = sensitivity(two_layers(), Recorder(), sparsities=(0.5, 0.75), **quiet)
    with pytest.raises(KeyboardInterrupt):
        sensitivity(two_layers(), Recorder(stop_at=3), sparsities=(0.5, 0.75), storage=path, **quiet)
    rest = Recorder()
    resumed = sensitivity(two_layers(), rest, sparsities=(0.5, 0.75), storage=path, **quiet)
    assert len(rest.seen) == 2
    assert resumed.to_dict() == whole.to_dict()
    more = Recorder()
    sensitivity(two_layers(), more, sparsities=(0.25, 0.5, 0.75), storage=path, **quiet)
    assert len(more.seen) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_storage_of_other_work_is_refused(tmp_path):
    path = tmp_path / "scores.json"
    sensitivity(two_layers(), total_weight, sparsities=(0.5,), storage=path, **quiet)
    with pytest.raises(ValueError, match=r"other settings \(criterion: 'magnitude' there, 'random' now\)"):
        sensitivity(two_layers(), total_weight, criterion="random", storage=path, **quiet)
    other = two_layers()
    other.layers[0].kernel.assign([[1, 2], [3, 5]])
    with pytest.raises(ValueError, match=r"another model.*\(model: .*delete it to begin anew"):
        sensitivity(other, total_weight, storage=path, **quiet)
    path.write_text("{")
    with pytest.raises(ValueError, match="no storage of scores"):
        sensitivity(two_layers(), total_weight, storage=path, **quiet)


def test_presentation(tmp_path):
    found = sensitivity(ZOO["sequential"](), total_weight, sparsities=(0.5, 0.9), **quiet)
    text = str(found)
    assert all(
        word in text for word in ("conv1", "162", "0.5", "Most sensitive first", "total_weight", "bn1")
    )
    assert found.to_markdown().count("| conv2 |") == 1
    data = json.loads(found.to_json(tmp_path / "found.json"))
    assert data["layers"]["conv1"]["scores"]["0.5"] == found.scores["conv1"][0.5]
    found.plot(tmp_path / "found.png")
    assert (tmp_path / "found.png").stat().st_size > 1000
    many = Sensitivity(1.0, {f"layer{i}": {0.5: 1 - i / 20} for i in range(12)}, {})
    assert "6 others" in many.plot().axes[0].get_legend().get_title().get_text()


def test_progress_is_shown(capsys):
    sensitivity(two_layers(), total_weight, sparsities=(0.5,))
    assert "3/3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"sparsities": (0.5, 1.2)},
            ValueError,
            r"`sparsities` must be in \[0, 1\). Received: sparsities=1.2",
        ),
        ({"sparsities": ()}, ValueError, "must name fractions"),
        ({"evaluate": lambda model: [0.1, 0.9]}, TypeError, "must return one number.*return_dict=True"),
        ({"evaluate": lambda model: {"accuracy": 1}}, TypeError, "must return one number"),
        ({"evaluate": lambda model: None}, TypeError, "must return one number"),
        ({"evaluate": lambda model: float("nan")}, ValueError, "must return a finite number. Received: nan"),
        ({"evaluate": np.ones((4, 2))}, ValueError, "no targets"),
        ({"criterion": "snip"}, ValueError, "needs labelled examples"),
        ({"pattern": "1:2"}, ValueError, "leaves at most a sparsity of 0.5"),
        ({"select": "conv9"}, ValueError, "matches no layer"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        sensitivity(two_layers(), **{"evaluate": total_weight, **quiet, **arguments})


def test_wrong_models():
    with pytest.raises(TypeError, match=r"tfs\.load_model"):
        sensitivity("model.h5", total_weight)
    broken = two_layers()
    broken.layers[1].kernel.assign(np.full((2, 2), np.nan))
    record = Recorder()
    with pytest.raises(ValueError, match="'b/kernel' holds NaN"):
        sensitivity(broken, record, **quiet)
    assert not record.seen
