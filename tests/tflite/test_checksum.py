import numpy as np
import pytest

from tests.tflite.builders import float_file
from tfsqueeze.tflite import flatbuffer
from tfsqueeze.tflite.checksum import add_checksum, has_checksum, verify_checksum
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.runner import Runner


def test_checksum_round_trip():
    content = add_checksum(float_file())
    assert not has_checksum(float_file()) and verify_checksum(float_file()) is False
    assert has_checksum(content) and verify_checksum(content) is True
    assert read(content).has_checksum


def test_adding_twice_changes_nothing():
    content = add_checksum(float_file())
    assert add_checksum(content) == content


def test_any_changed_weight_is_noticed():
    content = bytearray(add_checksum(float_file()))
    weight = np.float32(0.25).tobytes()
    position = bytes(content).find(weight)
    content[position : position + 4] = np.float32(0.5).tobytes()
    with pytest.raises(ValueError, match="damaged after it was written"):
        read(bytes(content))


def test_the_interpreter_does_not_mind():
    inputs = {"x": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)}
    plain, signed = Runner(float_file()).run(inputs), Runner(add_checksum(float_file())).run(inputs)
    assert np.array_equal(plain["product"], signed["product"])


def test_repacking_aligns_constants_to_16_bytes():
    content = flatbuffer.pack(flatbuffer.unpack(float_file()))
    base = np.frombuffer(content, np.uint8).ctypes.data
    for buffer in flatbuffer.unpack(content).buffers:
        if isinstance(buffer.data, np.ndarray) and buffer.data.size:
            assert (buffer.data.ctypes.data - base) % 16 == 0
