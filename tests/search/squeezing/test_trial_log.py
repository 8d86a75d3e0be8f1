"""Trials as TensorBoard reads them."""

import pytest

from tfsqueeze.search.squeezing.trial_log import TrialLog


def test_each_trial_is_a_run_with_its_setting_and_scalars(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = TrialLog(tmp_path)
    for step, drop in {0: 0.5, 3: 0.25}.items():
        log.write(
            "trained-7", {"channels": 0.5, "separable": True, "quantization": "int8"}, step, {"drop": drop}
        )
    assert [one.name for one in tmp_path.iterdir()] == ["trained-7"]
    events = accumulator.EventAccumulator(str(tmp_path / "trained-7")).Reload()
    assert [event.step for event in events.Tensors("drop")] == [0, 3]
    assert "_hparams_/session_start_info" in events.summary_metadata


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TrialLog(None).write("trained-7", {}, 0, {"drop": 0.5})
    assert list(tmp_path.iterdir()) == []
