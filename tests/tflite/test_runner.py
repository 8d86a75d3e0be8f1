import numpy as np
import pytest

from tests.tflite.builders import KERNEL, float_file, int8_file
from tfsqueeze.tflite.runner import Port, Runner

X = np.random.default_rng(0).uniform(-1, 1, (7, 3)).astype(np.float32)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_outputs_by_name_for_free_and_fixed_batches(batch):
    runner = Runner(float_file(batch))
    outputs = runner.run({"x": X}, batch_size=3)
    assert runner.batch_size == batch
    np.testing.assert_allclose(outputs["product"], X @ KERNEL, atol=1e-6)
    np.testing.assert_allclose(outputs["sum"], X + 1, atol=1e-6)


def test_integer_files_take_and_give_real_numbers():
    runner = Runner(int8_file())
    assert [port.dtype for port in runner.inputs + runner.outputs] == ["int8"] * 3
    outputs = runner.run({"x": X})
    assert outputs["product"].dtype == np.float32
    np.testing.assert_allclose(outputs["product"], X @ KERNEL, atol=0.08)


def test_quantize_rounds_and_clips():
    port = Port("x", 0, (-1,), "int8", scale=0.5, zero_point=10)
    assert port.quantize(np.array([0.0, 0.3, 1000.0, -1000.0])).tolist() == [10, 11, 127, -128]
    assert port.dequantize(np.array([10, 12], np.int8)).tolist() == [0.0, 1.0]


def test_wrong_inputs_say_what_is_expected():
    runner = Runner(float_file())
    with pytest.raises(ValueError, match=r"Missing: \['x'\]. Received: \['y'\]"):
        runner.run({"y": X})
    with pytest.raises(ValueError, match=r"must have shape \(n, 3\).*Received: \(7, 2\)"):
        runner.run({"x": X[:, :2]})


def test_an_empty_batch_is_an_error_and_not_an_abort():
    with pytest.raises(ValueError, match="n >= 1"):
        Runner(float_file()).run({"x": X[:0]})


def test_keep_tensors_shows_intermediate_values():
    runner = Runner(float_file(), keep_tensors=True)
    runner.run({"x": X})
    product = runner.file.signature.outputs["product"]
    np.testing.assert_allclose(runner.interpreter.get_tensor(product), X @ KERNEL, atol=1e-6)
