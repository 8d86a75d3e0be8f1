"""16-bit activations with ranges in the model: the file needs no data and computes what the model does."""

import numpy as np
import pytest

import tfsqueeze as tfs
from tests.quantization.test_aware import data_of
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.tflite.file import read


@pytest.mark.parametrize("name", ["depthwise", pytest.param("residual", marks=pytest.mark.slow)])
def test_sixteen_bit_activations_export_without_data(name, tmp_path):
    model = ZOO[name]()
    quantized = tfs.calibrate(model, data_of(model, 64), "int16x8")
    result = tfs.export_tflite(quantized, tmp_path / "wide.tflite", quantize="int16x8")
    assert not result.float_ops
    assert min(parity.snr_db for parity in result.parity.values()) > 50
    types = {tensor.dtype for tensor in read(result.path).main.tensors}
    assert "INT64" in types and "INT16" in types
    with pytest.raises(tfs.UnsupportedModelError, match='quantize="int16x8"'):
        tfs.export_tflite(quantized, tmp_path / "x.tflite", quantize="int8")
    expected = np.asarray(model(zoo_inputs(model, 32)))
    given = np.asarray(quantized(zoo_inputs(model, 32)))
    assert np.square(given - expected).mean() < 1e-3 * np.square(expected).mean()
