"""How the two stages of a search share the time, and how far a candidate is trained."""

from types import SimpleNamespace

import pytest

from tfsqueeze.search.squeezing import stages
from tfsqueeze.search.squeezing import techniques as known
from tfsqueeze.search.squeezing.attempts import ATTEMPTS
from tfsqueeze.search.squeezing.front import CANDIDATE, Point
from tfsqueeze.search.squeezing.paired_test import Verdict
from tfsqueeze.search.squeezing.repertoire import Repertoire
from tfsqueeze.search.squeezing.stages import WITHIN, Search
from tfsqueeze.search.squeezing.trial_log import TrialLog

MAX_DROP = 0.02
SETTING = {"channels": 0.5, "quantization": "int8"}
FLOAT = "the float model"


def make_search(drops=None):
    """A search whose files are known by how long they were trained, with the drops they have."""

    def verdict(subject):
        drop = drops[subject]
        return Verdict(1 - drop, drop, drop, drop <= MAX_DROP, 100)

    workshop = SimpleNamespace(
        repertoire=Repertoire((known.CHANNELS,), known.FORMATS, True, {}),
        make=lambda setting, number, epochs: SimpleNamespace(path=tuple(epochs)),
        float_model=lambda setting, number, epochs: (FLOAT, epochs.plain),
    )
    judge = SimpleNamespace(verdict=verdict)
    search = Search(workshop, judge, None, None, (0, 3, 9), MAX_DROP, {}, None, False, TrialLog(None))
    search._cost = lambda path: (0.25, SimpleNamespace(facts=SimpleNamespace(file_bytes=10)))
    return search


def attempt(drops, setting=SETTING):
    """How long a candidate was trained, one attempt after the other, and whether it got good enough."""
    notes = {}
    trial = SimpleNamespace(parameters={CANDIDATE: 5}, note=notes.__setitem__)
    make_search(drops)._attempt(trial, setting)
    return [(row["epochs"], row["aware_epochs"]) for row in notes[ATTEMPTS]], notes[WITHIN]


def test_what_only_rounding_spoils_is_trained_with_integers():
    drops = {(0, 0): 0.3, (FLOAT, 0): 0.2, (3, 0): 0.1, (FLOAT, 3): 0.01, (3, 6): 0.01}
    assert attempt(drops) == ([(0, 0), (3, 0), (3, 6)], True)


def test_what_training_in_float_lacks_is_trained_in_float():
    drops = {(0, 0): 0.3, (FLOAT, 0): 0.2, (3, 0): 0.1, (FLOAT, 3): 0.09, (9, 0): 0.05, (FLOAT, 9): 0.04}
    assert attempt(drops) == ([(0, 0), (3, 0), (9, 0)], False)


def test_formats_that_are_not_calibrated_are_not_finished():
    drops = {(0, 0): 0.3, (3, 0): 0.1, (9, 0): 0.05}
    assert attempt(drops, {**SETTING, "quantization": "float16"}) == ([(0, 0), (3, 0), (9, 0)], False)


def test_training_ends_where_there_is_no_hope():
    assert attempt({(0, 0): 0.3, (FLOAT, 0): 0.2, (3, 0): 0.29}) == ([(0, 0), (3, 0)], False)


def staged(monkeypatch, quick_drop):
    """The seconds that both stages are given, with `None` for no limit, and the fronts that are trained."""
    search = make_search()
    clock = iter([0.0, 0.0, 100.0, 100.0])
    monkeypatch.setattr(stages.time, "monotonic", lambda: next(clock))
    seconds, fronts = [], []

    def propose(sampler, trials, given):
        seconds.append(given)
        return [Point(0, 0.5, 0.0), Point(1, 0.4, -quick_drop)], {0: SETTING, 1: SETTING}

    def train(front, settings, trials, given):
        seconds.append(given)
        fronts.append([point.number for point in front])
        return []

    search.propose, search.train = propose, train
    search.search("tpe", 30, 8, 30.0)
    return seconds, fronts


def test_a_candidate_that_takes_all_the_time_still_leads_to_a_model(monkeypatch):
    seconds, _ = staged(monkeypatch, quick_drop=0.0)
    assert seconds == [pytest.approx(4.0), 0.0, 0.0, 0.0, None]


def test_what_seemed_good_enough_from_the_beginning_is_tried_if_all_else_fails(monkeypatch):
    _, fronts = staged(monkeypatch, quick_drop=0.0)
    assert fronts == [[0, 1], [0]]
