import numpy as np
import pytest

from tests.tflite.builders import KERNEL, float_file, int8_file
from tfsqueeze.tflite.checksum import add_checksum
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.structure import Tensor


def test_reads_operators_signature_and_constants():
    file = read(float_file())
    assert "FULLY_CONNECTED" in [operator.name for operator in file.main.operators]
    assert list(file.signature.inputs) == ["x"]
    assert set(file.signature.outputs) == {"product", "sum"}
    assert file.main.tensors[file.signature.inputs["x"]].shape == (-1, 3)
    constants = [tensor.values() for tensor in file.main.tensors if tensor.is_constant]
    assert any(value.shape == (2, 3) and np.array_equal(value, KERNEL.T) for value in constants)


def test_int8_file_has_integer_ends_with_scales():
    file = read(int8_file())
    ends = [file.main.tensors[index] for index in (*file.main.inputs, *file.main.outputs)]
    assert {tensor.dtype for tensor in ends} == {"INT8"}
    assert all(tensor.is_quantized and tensor.scale.size == 1 for tensor in ends)


def test_reads_a_path(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(float_file())
    assert read(path).content == float_file()


def test_four_bit_values_are_unpacked_low_nibble_first():
    tensor = Tensor("w", (3,), "INT4", np.array([0x2F, 0x08], np.uint8))
    assert tensor.values().tolist() == [-1, 2, -8]
    assert tensor.nbytes == 2


def test_two_bit_values_are_unpacked():
    tensor = Tensor("w", (4,), "INT2", np.array([0b11100100], np.uint8))
    assert tensor.values().tolist() == [0, 1, -2, -1]


def test_missing_file_and_folder_say_so(tmp_path):
    with pytest.raises(ValueError, match=r"Cannot read.*Check the path"):
        read(tmp_path / "none.tflite")
    with pytest.raises(ValueError, match="Received a folder"):
        read(tmp_path)


def test_other_content_is_no_tflite_file():
    with pytest.raises(ValueError, match=r"not a .tflite file"):
        read(b"PK\x03\x04 this is a zip file")
    with pytest.raises(ValueError, match=r"not a .tflite file"):
        read(b"")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_truncated_file_is_refused(kept):
    content = add_checksum(float_file())
    with pytest.raises(ValueError, match=r"truncated|corrupt|not a .tflite|damaged"):
        read(content[: int(len(content) * kept)])


def test_flipped_bits_are_refused_or_harmless_and_never_crash():
    rng = np.random.default_rng(0)
    content, noticed = add_checksum(int8_file()), 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(8, len(content))] ^= 1 << rng.integers(8)
        try:
            read(bytes(damaged))
        except ValueError:
            noticed += 1
    assert noticed >= 285


def test_flipped_bits_without_checksum_never_crash_the_reader():
    rng = np.random.default_rng(1)
    content = int8_file()
    for _ in range(300):
        damaged = bytearray(content)
        for position in rng.integers(8, len(content), 3):
            damaged[position] = rng.integers(256)
        try:
            read(bytes(damaged))
        except ValueError as error:
            assert "tflite" in str(error)
