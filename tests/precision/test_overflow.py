"""Values beyond half precision."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs

X = np.ones((8, 4), "float32")

pytestmark = pytest.mark.filterwarnings("ignore:float16 is many times slower")


def loud():
    """Its middle makes values near 400,000, which the normalisation after it brings back."""
    x = image = keras.Input((4,))
    x = layers.Dense(4, name="quiet")(x)
    x = layers.Dense(4, kernel_initializer=keras.initializers.Constant(1e5), use_bias=False, name="loud")(
        layers.Activation("sigmoid", name="bounded")(x)
    )
    x = layers.LayerNormalization(name="normal")(x)
    model = keras.Model(image, layers.Dense(2, name="head")(x))
    model.compile("sgd", "mse")
    return model


def test_finds_who_makes_and_who_receives_too_much():
    found = tfs.find_overflows(loud(), X)
    assert set(found) == {"loud", "normal"}
    assert "makes values up to" in found["loud"] and "receives values up to" in found["normal"]


def test_bfloat16_has_the_range_of_float32():
    assert tfs.find_overflows(loud(), X, "bfloat16") == {}


def test_conversion_keeps_them_in_float32():
    model = loud()
    with pytest.warns(UserWarning, match="overflow in float16 and stay in float32. loud: makes"):
        half = tfs.with_precision(model, "float16", data=X)
    assert half.get_layer("loud").compute_dtype == "float32"
    assert half.get_layer("quiet").compute_dtype == "float16"
    np.testing.assert_allclose(half(X), model(X), atol=0.02)


def test_callback_warns_once_and_not_of_layers_kept_in_float32():
    model = loud()
    callback = tfs.callbacks.OverflowCallback(X)
    with pytest.warns(UserWarning, match=r"layer 'loud' overflows in float16.*skip='loud'") as caught:
        model.fit(X, X[:, :2], epochs=2, verbose=0, callbacks=[callback])
    assert len([w for w in caught if "'loud'" in str(w.message)]) == 1
    half = tfs.with_precision(model, "float16", select=tfs.Select(skip=["loud", "normal"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half.fit(X, X[:, :2], verbose=0, callbacks=[tfs.callbacks.OverflowCallback(X)])


def test_callback_warns_when_the_loss_scale_has_collapsed():
    model = loud()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(), initial_scale=0.5), "mse")
    with pytest.warns(UserWarning, match="loss scale has fallen to"):
        model.fit(X, X[:, :2], verbose=0, callbacks=[tfs.callbacks.OverflowCallback(X, "bfloat16")])
