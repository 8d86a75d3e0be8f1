"""New random weights: other values where they are trained, everything else as it was."""

import random

import keras
import numpy as np
import pytest
from keras import layers

from tests.zoo import ZOO
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.new_weights import with_new_weights
from tfsqueeze.core.select import walk


@pytest.mark.parametrize("name", ["residual", "nested", "depthwise", "subclassed", "recurrent", "attention"])
def test_trained_kernels_are_drawn_anew_and_repeatably(name):
    model = ZOO[name]()
    before, state = [variable.numpy() for variable in model.weights], random.getstate()
    twin, same = with_new_weights(model, 1), with_new_weights(model, 1)
    assert random.getstate() == state
    drawn = {id(variable) for named in walk(twin) for _, variable in kernels(named.layer)}
    for original, old, new, again in zip(before, model.weights, twin.weights, same.weights, strict=True):
        np.testing.assert_array_equal(old, original)
        np.testing.assert_array_equal(new, again)
        if id(new) in drawn:
            assert (new.numpy() != old.numpy()).all()
        if not old.trainable:
            np.testing.assert_array_equal(new, old)


def test_other_seeds_give_other_weights_even_where_the_initializer_names_one():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, kernel_initializer=keras.initializers.HeNormal(seed=3))]
    )
    draws = [model.layers[0].kernel, *(with_new_weights(model, s).layers[0].kernel for s in (1, 2))]
    values = [kernel.numpy() for kernel in draws]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (values[one] != values[other]).all()


def test_frozen_layers_and_adapted_statistics_stay():
    scale = layers.Normalization(name="scale")
    scale.adapt(np.random.default_rng(0).normal(3, 2, (50, 5)))
    model = keras.Sequential([keras.Input((5,)), scale, layers.Dense(4, name="frozen"), layers.Dense(3)])
    model.get_layer("frozen").trainable = False
    twin = with_new_weights(model, 5)
    np.testing.assert_array_equal(twin.get_layer("frozen").kernel, model.get_layer("frozen").kernel)
    np.testing.assert_array_equal(twin.get_layer("scale").mean, scale.mean)
    assert not np.array_equal(twin.layers[-1].kernel, model.layers[-1].kernel)
