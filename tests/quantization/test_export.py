"""The exported file computes what the model computed in training, without calibration data."""

import keras
import numpy as np
import pytest

import tfsqueeze as tfs
from tests.quantization.test_aware import data_of
from tests.zoo import GRAPH_ZOO, ZOO
from tfsqueeze.core.data import collect, input_specs, pack_inputs
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.runner import Runner

SLOW = ("recurrent", "nested", "shared")
FLOAT_INSIDE = ("temporal", "recurrent", "attention")


def steps_apart(qat, path, data):
    """How many steps of the output's grid the file is from the model, and both outputs, by output."""
    runner = Runner(path)
    inputs = collect(data, input_specs(qat)).inputs
    received = runner.run(inputs)
    expected = [np.asarray(y) for y in keras.tree.flatten(qat(pack_inputs(qat, inputs), training=False))]
    main = runner.file.main
    for port, array in zip(runner.outputs, expected, strict=True):
        (last,) = [operator for operator in main.operators if port.index in operator.outputs]
        step = main.tensors[last.inputs[0]].scale[0]
        yield np.round(np.abs(received[port.name] - array) / step), received[port.name], array


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in GRAPH_ZOO],
)
def test_the_file_agrees_with_the_model(name, tmp_path):
    model = ZOO[name]()
    data = data_of(model, 256)
    qat = tfs.quantize_aware(model, data=data)
    result = tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
    assert not result.float_ops or name in FLOAT_INSIDE
    for steps, received, expected in steps_apart(qat, result.path, data):
        assert (steps <= 1).mean() > 0.94
        assert (received.argmax(-1) == expected.argmax(-1)).mean() >= 0.995


def test_integer_inputs_and_outputs_are_honoured(tmp_path):
    model = ZOO["residual"]()
    qat = tfs.quantize_aware(model, data=data_of(model))
    tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8", io_dtype="int8")
    types = {tensor.dtype for tensor in read(tmp_path / "qat.tflite").main.tensors}
    assert types <= {"INT8", "INT32"}


def test_other_variants_are_made_of_the_plain_model(tmp_path):
    model = ZOO["sequential"]()
    qat = tfs.quantize_aware(model, data=data_of(model))
    results = tfs.export_variants(qat, tmp_path, [None, "int8"])
    assert results["int8"].bytes < results["float32"].bytes
    assert not {t.dtype for t in read(results["float32"].path).main.tensors} & {"INT8"}
    with pytest.raises(ValueError, match="needs `representative_data`"):
        tfs.export_tflite(qat, tmp_path / "x.tflite", quantize="int16x8")


def test_untrained_and_broken_ranges_are_told(tmp_path):
    model = ZOO["shared"]()
    qat = tfs.quantize_aware(model)
    with pytest.warns(UserWarning, match="never trained"):
        tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
    quantizer = qat.get_layer("head")
    quantizer.maximum.assign([np.nan])
    with pytest.raises(ValueError, match=r"'head'.*NaN"):
        tfs.export_tflite(qat, tmp_path / "qat.tflite", quantize="int8")
