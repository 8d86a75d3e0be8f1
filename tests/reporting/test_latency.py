"""Timing: counts, alternation and statistics."""

import time

import pytest

from tfsqueeze.reporting.latency import WARM_UP_CALLS, Timed, measure


def test_entries_are_timed_in_alternation():
    order = []
    entries = {name: Timed(lambda name=name: order.append(name), 1, "none", 1) for name in "AB"}
    measure(entries, runs=10)
    timed = order[2 * WARM_UP_CALLS :]
    assert timed == list("AABB" * 5)


@pytest.mark.parametrize("runs", [1, 7, 50])
def test_runs_are_exactly_as_many_as_asked(runs):
    assert measure({"a": Timed(lambda: None, 2, "XNNPACK", 4)}, runs)["a"].runs == runs


def test_statistics_of_known_durations():
    latency = measure({"a": Timed(lambda: time.sleep(0.004), 2, "XNNPACK", 8)}, runs=5)["a"]
    assert 4 <= latency.min_ms <= latency.median_ms <= latency.p90_ms
    assert (latency.threads, latency.delegate, latency.batch_size) == (2, "XNNPACK", 8)


def test_slow_entries_get_fewer_runs(monkeypatch):
    monkeypatch.setattr("tfsqueeze.reporting.latency.SECONDS_PER_ENTRY", 0.04)
    assert measure({"slow": Timed(lambda: time.sleep(0.004), 1, "none", 1)}, runs=1000)["slow"].runs <= 10


def test_nothing_to_measure():
    assert measure({}) == {}
