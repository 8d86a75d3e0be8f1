"""Statistics of batch normalisation are those of the data, whatever the batches."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.core.batch_statistics import reestimate_batch_statistics
from tfsqueeze.core.rewrite import rewrite


def normalizations(model):
    return [
        part
        for part in model._flatten_layers(include_self=False)
        if isinstance(part, layers.BatchNormalization)
    ]


def by_training(model, inputs):
    """Statistics that one training step without memory leaves: exact when all examples are one batch."""
    twin = rewrite(model)
    for layer in normalizations(twin):
        layer.momentum = 0.0
    twin(inputs, training=True)
    return [value for layer in normalizations(twin) for value in (layer.moving_mean, layer.moving_variance)]


@pytest.mark.parametrize("name", ["residual", "depthwise", "subclassed"])
@pytest.mark.parametrize("batch_size", [5, 64])
def test_equals_a_single_training_batch_of_everything(name, batch_size):
    model = ZOO[name]()
    inputs = zoo_inputs(model, 33)
    expected = by_training(model, inputs)
    others = [variable.numpy() for variable in model.trainable_variables]
    measured = reestimate_batch_statistics(model, inputs, batch_size=batch_size)
    found = [v for layer in normalizations(model) for v in (layer.moving_mean, layer.moving_variance)]
    assert len(measured) == len(normalizations(model))
    for value, target in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, target, rtol=1e-4, atol=1e-5)
    for variable, before in zip(model.trainable_variables, others, strict=True):
        np.testing.assert_array_equal(variable, before)


def test_shared_and_nested_layers_count_every_call():
    inner = keras.Sequential([keras.Input((3,)), layers.BatchNormalization(name="shared")], name="inner")
    left, right = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([left, right], layers.Add()([inner(left), inner(right)]))
    rng = np.random.default_rng(0)
    a, b = rng.normal(2, 3, (40, 3)).astype("float32"), rng.normal(-1, 1, (40, 3)).astype("float32")
    assert reestimate_batch_statistics(model, [a, b], batch_size=16) == ["inner/shared"]
    layer = inner.get_layer("shared")
    together = np.concatenate([a, b])
    np.testing.assert_allclose(layer.moving_mean, together.mean(0), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, together.var(0), rtol=1e-4)


def test_axis_mask_and_renorm_are_respected():
    steps = keras.Input((6, 2))
    masked = layers.BatchNormalization()(layers.Masking()(steps))
    model = keras.Model(steps, layers.BatchNormalization(axis=1, renorm=True, scale=False)(masked))
    first, second = normalizations(model)
    x = np.random.default_rng(0).normal(1, 2, (20, 6, 2)).astype("float32")
    x[:, 4:] = 0
    reestimate_batch_statistics(model, x)
    np.testing.assert_allclose(first.moving_mean, x[:, :4].mean((0, 1)), rtol=1e-4)
    assert second.moving_mean.shape == (6,)
    np.testing.assert_allclose(second.renorm_stddev**2, second.moving_variance + second.epsilon, rtol=1e-4)


def test_frozen_layers_half_precision_and_limit():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(dtype="mixed_bfloat16")])
    model.trainable = False
    x = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    reestimate_batch_statistics(model, x, limit=16)
    np.testing.assert_allclose(model.layers[0].moving_mean, x[:16].mean(0), rtol=1e-2)


def test_models_without_normalisation_and_unfit_data():
    assert reestimate_batch_statistics(ZOO["concat"](), zoo_inputs(ZOO["concat"](), 4)) == []
    with pytest.raises(ValueError, match="must have shape"):
        reestimate_batch_statistics(ZOO["residual"](), np.zeros((4, 3, 3, 1), "float32"))
    with pytest.raises(ValueError, match="empty"):
        reestimate_batch_statistics(ZOO["residual"](), [])
