"""Each TensorFlow call in a Keras 2 graph gives the same in Keras 3, and saves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.legacy_zoo import layers, tf_keras
from tfsqueeze.models.legacy_layers import TensorFlowOperation, hard_sigmoid_v2
from tfsqueeze.models.load import load_model

_CALLS = {
    "arithmetic": lambda x: [x + 1, 2 - x, x * x, x / 3.0, -x, abs(x), x**2, x // 2.0, x % 2.0],
    "constants": lambda x: [x * np.arange(6.0), np.ones((4, 1)) + x, tf.maximum(x, 0.5), tf.minimum(0.0, x)],
    "compare": lambda x: [tf.cast(x > 0, "float32"), tf.where(x >= 0.5, x, tf.zeros_like(x))],
    "elementwise": lambda x: [
        tf.exp(x),
        tf.math.log(abs(x) + 1),
        tf.sqrt(abs(x)),
        tf.sin(x),
        tf.sigmoid(x),
        tf.tanh(x),
        tf.sign(x),
    ],
    "activations": lambda x: [
        tf.nn.relu(x),
        tf.nn.relu6(x),
        tf.nn.elu(x),
        tf.nn.selu(x),
        tf.nn.swish(x),
        tf.nn.gelu(x),
        tf.nn.leaky_relu(x),
        tf.nn.leaky_relu(x, alpha=0.3),
        tf.nn.softmax(x),
        tf.nn.softmax(x, axis=1),
        tf.nn.softplus(x),
        tf.nn.silu(x, beta=1.5),
    ],
    "reductions": lambda x: [
        tf.reduce_mean(x, 1),
        tf.reduce_sum(x, [1, 2]),
        tf.reduce_max(x, -1, keepdims=True),
        tf.reduce_min(x, 1),
        tf.reduce_mean(x),
        tf.math.reduce_variance(x, 1),
        tf.reduce_prod(x, axis=[1]),
    ],
    "shapes": lambda x: [
        tf.reshape(x, [-1, 24]),
        tf.transpose(x, [0, 2, 1]),
        tf.expand_dims(x, -1),
        tf.squeeze(x[:, :1], 1),
        tf.tile(x, [1, 2, 1]),
        tf.pad(x, [[0, 0], [1, 2], [0, 0]]),
        tf.pad(x, [[0, 0], [1, 1], [0, 0]], "REFLECT"),
    ],
    "slices": lambda x: [
        x[:, 0],
        x[..., 1:3],
        x[:, None, ::2],
        x[:, -1, :],
        x[:, ::-1],
        x[:, : tf.shape(x)[1] - 1],
    ],
    "joins": lambda x: [
        tf.concat([x, x], 1),
        tf.stack([x, x], 1),
        *tf.split(x, [1, 3], axis=1),
        *tf.unstack(x, axis=1),
    ],
    "products": lambda x: [
        tf.matmul(x, x, transpose_b=True),
        x @ np.ones((6, 2), "float32"),
        tf.einsum("bij,bkj->bik", x, x),
        tf.tensordot(x, np.ones((6, 2), "float32"), 1),
    ],
    "indices": lambda x: [
        tf.gather(x, [0, 2], axis=1),
        tf.one_hot(tf.argmax(x, -1), 6),
        tf.cumsum(x, axis=1),
    ],
    "images": lambda x: [
        tf.image.resize(x[..., None], (8, 8)),
        tf.nn.l2_normalize(x, -1),
        tf.clip_by_value(x, -0.5, 0.5),
        tf.nn.space_to_depth(x[..., None], 2),
        tf.nn.max_pool1d(x, 2, 2, "VALID"),
    ],
    "computed_shapes": lambda x: [
        tf.reshape(x, [tf.shape(x)[0], tf.shape(x)[1] * tf.shape(x)[2]]),
        tf.reshape(x, tf.stack([tf.shape(x)[0], 24])),
        tf.broadcast_to(x[:, :1], tf.shape(x)),
    ],
}


@pytest.mark.parametrize("name", _CALLS)
def test_calls_equal_and_save(name, tmp_path):
    x = layers.Input((4, 6))
    old = tf_keras.Model(x, _CALLS[name](x))
    new = load_model(old)
    new.save(tmp_path / "port.keras")
    again = keras.models.load_model(tmp_path / "port.keras")
    inputs = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
    for expected, received, reloaded in zip(old(inputs), new(inputs), again(inputs), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(reloaded, received)


def test_an_operation_beside_a_layer_of_its_name():
    x = layers.Input((4,))
    old = tf_keras.Model(x, layers.Multiply(name="multiply")([x, tf.math.multiply(x, 2.0)]))
    names = [operation.name for operation in load_model(old).operations]
    assert len(set(names)) == len(names) and "multiply" in names


@pytest.mark.parametrize(
    "symbol", ["io.write_file", "py_function", "raw_ops.WriteFile", "nowhere", "math.nothing"]
)
def test_only_functions_on_tensors_are_accepted(symbol):
    with pytest.raises(ValueError, match="not among those that compute tensors"):
        TensorFlowOperation(symbol, {})


def test_hard_sigmoid_of_keras_2():
    x = np.array([-3.0, -1.0, 0.0, 1.0, 3.0], "float32")
    np.testing.assert_allclose(hard_sigmoid_v2(x), [0.0, 0.3, 0.5, 0.7, 1.0], atol=1e-6)
