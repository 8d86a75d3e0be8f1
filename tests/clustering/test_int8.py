"""Shared values survive integers: a channel has no more distinct integers than values."""

import numpy as np
import pytest

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs, zoo_targets
from tfsqueeze.tflite.file import read


def assert_few_integers(path, sizes, clusters):
    """Weight tensors are found by their number of entries."""
    tensors = [tensor for tensor in read(path).main.tensors if tensor.content is not None]
    kernels = [t for t in tensors if t.dtype == "INT8" and np.prod(t.shape) in sizes]
    assert len(kernels) == len(sizes)
    for tensor in kernels:
        for channel in np.moveaxis(tensor.values(), tensor.quantized_dimension, 0):
            assert np.unique(channel).size <= clusters, tensor.name


@pytest.mark.slow
@pytest.mark.parametrize("trained", [False, True], ids=["post-training", "quantization-aware"])
def test_a_channel_keeps_its_few_values(trained, tmp_path):
    model = ZOO["residual"]()
    model.compile("adam", "mse")
    small = tfs.cluster(model, 4)
    x, y = zoo_inputs(small, 32), zoo_targets(small, 32)
    if trained:
        small = tfs.quantize_aware(small, data=x)
        small.fit(x, y, verbose=0, callbacks=[tfs.ClusteringCallback()])
    data = None if trained else x
    result = tfs.export_tflite(small, tmp_path / "int8.tflite", quantize="int8", representative_data=data)
    assert_few_integers(result.path, {8 * 3 * 3 * 4, 8 * 3 * 3 * 8, 8 * 3}, 4)
