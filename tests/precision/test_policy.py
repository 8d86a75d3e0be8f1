"""Choosing a precision for the device."""

import keras
import pytest

import tfsqueeze as tfs
from tfsqueeze.core import devices
from tfsqueeze.precision import hardware


@pytest.fixture(autouse=True)
def restore_policy():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def native(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx2", "avx512_bf16"})


def test_auto_takes_bfloat16_where_the_cpu_has_it(native):
    assert tfs.set_mixed_precision("auto").name == "mixed_bfloat16"
    assert keras.layers.Dense(2).compute_dtype == "bfloat16"
    assert keras.layers.Dense(2).variable_dtype == "float32"


def test_auto_stays_in_float32_where_it_does_not(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx2"})
    assert tfs.set_mixed_precision().name == "float32"


def test_a_cpu_that_does_not_tell_is_measured(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: None)
    monkeypatch.setattr(hardware, "bfloat16_speedup", lambda: 1.9)
    assert hardware.fastest_precision() == "bfloat16"
    monkeypatch.setattr(hardware, "bfloat16_speedup", lambda: 0.3)
    assert hardware.fastest_precision() == "float32"


def test_float16_is_never_used_on_a_cpu(native):
    with pytest.warns(UserWarning, match="float16 is not used on a CPU"):
        assert tfs.set_mixed_precision("float16").name == "mixed_bfloat16"


def test_bfloat16_without_instructions_is_obeyed_with_a_warning(monkeypatch):
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: {"avx2"})
    with pytest.warns(UserWarning, match="no bfloat16 instructions"):
        assert tfs.set_mixed_precision("bfloat16").name == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32"), (None, "float16")],
)
def test_gpus_get_what_their_cores_are_made_for(monkeypatch, capability, precision):
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    monkeypatch.setattr(hardware, "_gpu_capability", lambda: capability)
    assert hardware.fastest_precision() == precision
    assert tfs.set_mixed_precision("float16").name == "mixed_float16"


def test_float32_ends_it(native):
    tfs.set_mixed_precision("mixed_bfloat16")
    assert tfs.set_mixed_precision("float32").name == "float32"


def test_unknown_precision():
    with pytest.raises(ValueError, match=r"`precision` must be one of 'auto'.*Received: precision='float8'"):
        tfs.set_mixed_precision("float8")


def test_the_speedup_is_measured():
    assert 0 < hardware.bfloat16_speedup() < 1000
