"""factorize with data: nearer to the outputs, exact where nothing is lost, and always something held out."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.architecture.nets import assert_close, convolutional, correlated_images, flat
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.architecture.refit import split
from tfsqueeze.core.data import Examples, input_specs, random_examples


def test_data_lowers_the_error_of_the_outputs():
    model, x = convolutional(), correlated_images(128)
    test = correlated_images(seed=1)
    for target in ({"rank": {"conv2": 4, "pointwise": 6, "dense": 6}}, {"macs": 0.5}):
        blind, aware = (tfs.factorize(model, **target, data=data) for data in (None, x))
        errors = [float(np.square(small(test) - model(test)).mean()) for small in (blind, aware)]
        assert errors[1] < errors[0]
        for row in tfs.explain(aware).done.values():
            assert row["output_error_refitted"] <= row["output_error"]


@pytest.mark.parametrize("count", range(4, 20))
def test_some_examples_are_held_out_however_few(count):
    fitted, held_out = split(Examples({"x": np.zeros((count, 1))}), 128)
    assert fitted and held_out
    assert sum(map(len, fitted)) + sum(map(len, held_out)) == count


def test_full_rank_with_data_leaves_all_as_it_is():
    model = convolutional()
    names = ["conv1", "conv2", "pointwise", "dense", "head"]
    full = tfs.factorize(model, rank=dict.fromkeys(names, 1.0), data=correlated_images())
    assert set(tfs.explain(full).done) == set(names)
    np.testing.assert_array_equal(full.get_layer("bn2").moving_mean, model.get_layer("bn2").moving_mean)
    assert_close(full(correlated_images()), model(correlated_images()))


def test_errors_count_after_the_batch_normalization():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, use_bias=False, name="a"), layers.BatchNormalization(name="bn")]
    )
    bn = model.get_layer("bn")
    bn.moving_variance.assign(np.geomspace(1e-2, 1e4, 8))
    small = tfs.factorize(model, rank={"a": 3})
    scaled = np.asarray(model.get_layer("a").kernel) / np.sqrt(bn.moving_variance + bn.epsilon)
    lost = np.square(np.linalg.svd(scaled, compute_uv=False)[3:]).sum()
    x = np.eye(6, dtype="float32")
    np.testing.assert_allclose(np.square(small(x) - model(x)).sum(), lost, rtol=1e-3)


def test_batch_normalization_moves_as_far_as_what_it_receives():
    model, x = convolutional(), correlated_images()
    small = tfs.factorize(model, rank={"conv2": 4}, data=x)
    unchanged, changed = (small.get_layer(name).moving_mean for name in ("bn1", "bn2"))
    np.testing.assert_array_equal(unchanged, model.get_layer("bn1").moving_mean)
    outputs = [
        np.mean(keras.Model(m.input, m.get_layer("pointwise").output)(x), (0, 1, 2)) for m in (small, model)
    ]
    moved = np.asarray(changed) - np.asarray(model.get_layer("bn2").moving_mean)
    np.testing.assert_allclose(moved, outputs[0] - outputs[1], atol=1e-5)


def test_embeddings_are_narrowed_for_parameters_alone_by_how_often_they_are_used():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(50, 16, mask_zero=True, name="words")(tokens)
    model = keras.Model(tokens, layers.Dense(2, name="head")(layers.GlobalAveragePooling1D()(x)))
    seen = np.random.default_rng(0).integers(1, 6, (40, 6))
    blind, aware = (tfs.factorize(model, params=0.5, data=data) for data in (None, seen))
    assert blind.count_params() <= 0.5 * model.count_params()
    errors = [float(np.abs(small(seen) - model(seen)).mean()) for small in (blind, aware)]
    assert errors[1] < errors[0] / 2
    with pytest.raises(ValueError, match=r"cannot be reached"):
        tfs.factorize(model, macs=0.5)


@pytest.mark.parametrize(
    "name",
    [
        "multi_output",
        "attention",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("temporal", "decoder")),
    ],
)
def test_data_in_every_kind_of_model(name):
    model = ZOO[name]()
    examples: Examples = random_examples(input_specs(model), 24)
    small = tfs.factorize(model, energy=0.7, data=examples)
    assert np.isfinite(flat(small(zoo_inputs(model)))).all()
