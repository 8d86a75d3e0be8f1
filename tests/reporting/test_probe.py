"""Files that would take the process down do so in a child."""

import pytest

from tfsqueeze.reporting import probe
from tfsqueeze.tflite.checksum import add_checksum
from tfsqueeze.tflite.file import read


def test_a_sound_file_is_given_back(files):
    file = read(files["int8"])
    assert probe.check_runs(file) is file


def test_a_verified_file_is_not_run_again(contents, monkeypatch):
    monkeypatch.setattr(probe.subprocess, "run", lambda *args, **kwargs: pytest.fail("was run"))
    probe.check_runs(read(add_checksum(contents["int8"])))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.abort()", r"crashes the interpreter \(signal 6\)"),
        ("raise RuntimeError('unresolved custom op')", "does not run: RuntimeError: unresolved custom op"),
    ],
)
def test_crashes_and_failures_become_errors(program, message, files, monkeypatch):
    monkeypatch.setattr(probe, "_FIRST_RUN", program)
    with pytest.raises(ValueError, match=message):
        probe.check_runs(read(files["int8"]))


def test_a_run_without_end_becomes_an_error(files, monkeypatch):
    monkeypatch.setattr(probe, "_FIRST_RUN", "import time; time.sleep(60)")
    monkeypatch.setattr(probe, "SECONDS", 1)
    with pytest.raises(ValueError, match="did not end within 1 seconds"):
        probe.check_runs(read(files["int8"]))


def test_a_refused_file_has_no_latency_but_a_note(files, monkeypatch):
    from tfsqueeze.reporting import report

    monkeypatch.setattr(probe, "_FIRST_RUN", "import os; os.abort()")
    result = report(files["int8"])
    assert result.latency is None and result.parameters > 0
    assert "Latency is unknown" in result.notes[0]
