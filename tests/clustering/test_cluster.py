"""Clustering in one go: distinct values, zeros, errors, on every model; and the k-means behind it."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.clustering import kmeans
from tfsqueeze.clustering.centroids import INITIALIZATIONS
from tfsqueeze.clustering.kmeans import cluster_values
from tfsqueeze.clustering.targets import find_targets

rng = np.random.default_rng(0)


def squared_error(values, shared, mass=1.0):
    return float((mass * np.square(values - shared)).sum())


def test_two_heaps_by_hand():
    values = np.array([1, 2, 3, 10, 11, 12], "float32")
    np.testing.assert_array_equal(cluster_values(values, 2, "optimal", 0), [2, 2, 2, 11, 11, 11])
    mass = np.array([1, 1, 2, 1, 1, 1], "float32")
    shared = cluster_values(values, 2, "optimal", 0, mass)
    np.testing.assert_allclose(shared, [2.25, 2.25, 2.25, 11, 11, 11], rtol=1e-5)


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_every_start_ends_at_means_of_what_is_nearest(init):
    values = rng.standard_t(3, 3000).astype("float32")
    shared = cluster_values(values, 16, init, 0)
    centroids = np.unique(shared)
    assert centroids.size <= 16
    nearest = centroids[np.abs(values[:, None] - centroids).argmin(1)]
    np.testing.assert_array_equal(shared, nearest)
    for centroid in centroids:
        np.testing.assert_allclose(values[shared == centroid].mean(), centroid, rtol=1e-4, atol=1e-5)


def test_the_optimal_start_is_never_worse():
    values = rng.standard_t(3, 2000).astype("float32")
    errors = {init: squared_error(values, cluster_values(values, 8, init, 0)) for init in INITIALIZATIONS}
    assert errors["optimal"] <= min(errors.values()) * 1.001


@pytest.mark.parametrize("outlier", [1.0, 1e6])
def test_the_histogram_finds_what_the_numbers_themselves_give(outlier, monkeypatch):
    values = rng.normal(size=100_000).astype("float32")
    values[0] = outlier
    mass = rng.random(values.size).astype("float32")
    fine = cluster_values(values, 16, "linear" if outlier == 1 else "density", 0, mass)
    monkeypatch.setattr(kmeans, "BINS", 2**20)
    exact = cluster_values(values, 16, "linear" if outlier == 1 else "density", 0, mass)
    assert squared_error(values, fine, mass) <= squared_error(values, exact, mass) * 1.01
    assert np.unique(fine).size <= 16


@pytest.mark.parametrize("name", ZOO)
def test_every_model(name):
    model = ZOO[name]()
    before = [variable.numpy() for variable in model.weights]
    small = tfs.cluster(model, 6)
    rows = tfs.explain(small).done
    for target in find_targets(small)[0]:
        assert np.unique(target.variable.numpy()).size == min(6, rows[target.path]["weights"])
    clustered = {id(target.variable) for target in find_targets(small)[0]}
    for old, now, new in zip(before, model.weights, small.weights, strict=True):
        np.testing.assert_array_equal(old, now.numpy())
        if id(new) not in clustered:
            np.testing.assert_array_equal(old, new.numpy())


@pytest.mark.parametrize("per_channel", [False, True])
def test_zeros_stay_and_count_as_a_value(per_channel):
    pruned = tfs.prune(ZOO["residual"](), 0.7)
    small = tfs.cluster(pruned, 4, per_channel=per_channel)
    for old, new in zip(find_targets(pruned)[0], find_targets(small)[0], strict=True):
        kernel = new.variable.numpy()
        np.testing.assert_array_equal(old.variable.numpy() == 0, kernel == 0)
        rows = new.channels(kernel) if per_channel else [kernel]
        assert max(np.unique(row).size for row in rows) <= 4
    loose = tfs.cluster(pruned, 4, preserve_zeros=False)
    assert all(np.unique(target.variable.numpy()).size == 4 for target in find_targets(loose)[0])


def test_values_per_channel_have_less_error():
    model = ZOO["sequential"]()
    whole, split = (tfs.explain(tfs.cluster(model, 4, per_channel=p)).done for p in (False, True))
    assert all(split[path]["error"] < whole[path]["error"] for path in whole)


def test_few_values_are_left_as_they_are():
    small = tfs.cluster(ZOO["sequential"](), 8)
    again = tfs.cluster(small, 8)
    for old, new in zip(small.weights, again.weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_data_say_which_weights_matter():
    x = rng.normal(size=(200, 12)).astype("float32") * np.logspace(-2, 1, 12).astype("float32")
    model = keras.Sequential([keras.Input((12,)), layers.Dense(20)])

    def output_error(small):
        return float(np.square(small(x) - model(x)).mean())

    assert output_error(tfs.cluster(model, 4, data=x)) < 0.9 * output_error(tfs.cluster(model, 4))


@pytest.mark.slow
def test_data_for_every_model():
    for name in ("recurrent", "attention", "depthwise", "subclassed"):
        model = ZOO[name]()
        assert tfs.cluster(model, 4, data=zoo_inputs(model)).name == model.name


def test_embeddings_and_depthwise_kernels_when_selected():
    small = tfs.cluster(ZOO["recurrent"](), 4, select="embedding")
    assert np.unique(small.get_layer("embedding").embeddings.numpy()).size == 4
    assert "left alone" not in str(tfs.explain(small))
    skipped = tfs.explain(tfs.cluster(ZOO["recurrent"](), 4)).skipped
    assert "only when selected" in skipped["embedding"]


def test_errors():
    model = ZOO["sequential"]()
    for clusters in (1, 0, 5000, 2.5, "16", True):
        with pytest.raises(ValueError, match=r"`clusters` is the number of distinct values.*\[2, 4096\]"):
            tfs.cluster(model, clusters)
    with pytest.raises(ValueError, match="`init` must be one of 'kmeans\\+\\+'"):
        tfs.cluster(model, 4, init="kmeans")
    with pytest.raises(ValueError, match="matches no layer: 'conv9'"):
        tfs.cluster(model, 4, select="conv9")
    with pytest.raises(TypeError, match=r"tfs\.load_model"):
        tfs.cluster("model.keras", 4)
    kernel = model.get_layer("conv2").kernel
    kernel.assign(kernel.numpy() * np.nan)
    with pytest.raises(ValueError, match="'conv2/kernel' holds NaN or infinite weights"):
        tfs.cluster(model, 4)
