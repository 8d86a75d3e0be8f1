"""Images are resized as TensorFlow does with anti-aliasing, in any graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfsqueeze.core.images import fit_images, resize_images

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 12, 15, 3)).astype("float32")


@pytest.mark.parametrize("size", [(12, 15), (6, 5), (7, 11), (20, 31), (5, 40), (1, 1)])
def test_resizing_is_that_of_tensorflow(size):
    expected = tf.image.resize(IMAGES, size, antialias=True)
    np.testing.assert_allclose(resize_images(IMAGES, size), expected, atol=1e-3)


@pytest.mark.parametrize("shape", [IMAGES.shape, (None, None, None, 3)])
def test_resizing_works_in_graphs_of_known_and_unknown_size(shape):
    graph = tf.function(
        lambda x: resize_images(x, (6, 5)), input_signature=[tf.TensorSpec(shape, tf.float32)]
    )
    np.testing.assert_allclose(graph(IMAGES), resize_images(IMAGES, (6, 5)), atol=1e-3)


def test_xla_compiles_it():
    compiled = tf.function(lambda x: resize_images(x, (6, 5)), jit_compile=True)
    np.testing.assert_allclose(compiled(IMAGES), resize_images(IMAGES, (6, 5)), atol=1e-3)


def test_whole_numbers_become_floats():
    assert keras.backend.standardize_dtype(resize_images(IMAGES.astype("uint8"), (4, 4)).dtype) == "float32"


def test_only_images_of_another_size_are_resized():
    model = keras.Model([a := keras.Input((6, 5, 3)), b := keras.Input((4,))], [a, b])
    image, vector = fit_images(model, [IMAGES, np.ones((2, 4))])
    assert image.shape == (2, 6, 5, 3)
    assert vector.shape == (2, 4)
    assert fit_images(model, [image, vector])[0] is image
    assert fit_images(keras.Model(a, a), IMAGES[:, 0]).shape == (2, 15, 3)
