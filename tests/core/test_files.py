"""A file is either wholly written or untouched."""

import os

import pytest

from tfsqueeze.core.files import atomic_write


def test_replaces_only_on_success(tmp_path):
    target = tmp_path / "new" / "file.bin"
    with atomic_write(target) as temporary:
        temporary.write_bytes(b"one")
        assert not target.exists()
    assert target.read_bytes() == b"one"
    with pytest.raises(RuntimeError), atomic_write(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    with pytest.raises(KeyboardInterrupt), atomic_write(target) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"one"
    assert os.listdir(target.parent) == ["file.bin"]


def test_unwritable_targets(tmp_path):
    with pytest.raises(ValueError, match="Received a folder"), atomic_write(tmp_path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Cannot write"), atomic_write(tmp_path / "file" / "below.bin"):
        pass
