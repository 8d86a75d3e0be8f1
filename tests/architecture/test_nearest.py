"""The model whose outputs are closest, every output counting alike."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.nearest import nearest
from tfsqueeze.core.data import Examples


def scaled(first, second):
    image = keras.Input((3,), name="x")
    outputs = [layers.Rescaling(scale)(image) for scale in (first, second)]
    return keras.Model(image, outputs)


def test_each_output_counts_relative_to_its_size():
    model = scaled(1.0, 1000.0)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    batches = list(Examples({"x": x}).batches(3))
    assert nearest(model, [scaled(1.5, 1000.0), scaled(1.0, 1010.0), scaled(1.0, 2000.0)], batches) == 1
    assert nearest(model, [scaled(np.inf, 1000.0), scaled(2.0, 1000.0)], batches) == 1
