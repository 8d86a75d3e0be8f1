"""Samplers: each finds a good region, resumes where it was, and does not repeat itself."""

import importlib.util
import math

import pytest
from optuna.storages import InMemoryStorage

from tfsqueeze.search.studies.coordinates import evenly, from_place, setting_key, to_place
from tfsqueeze.search.studies.policy_gradient import CategoricalPolicy, GaussianPolicy
from tfsqueeze.search.studies.samplers import OF_ONE_OBJECTIVE, SAMPLERS, make_sampler
from tfsqueeze.search.studies.space import Choice, Range, Space
from tfsqueeze.search.studies.study import Study

MIXED = Space(
    {
        "x": Range(0.0, 1.0),
        "rate": Range(1e-5, 1.0, log=True),
        "kind": ["a", "b", "c"],
        "n": Range(1, 9, step=2),
    }
)
FINITE = Space({"bits": [4, 8], "width": Range(8, 32, step=8), "kind": ["a", "b"]})
WITHOUT_TORCH = [name for name in SAMPLERS if name != "gp"]


def quality(parameters) -> float:
    """Best, 0, at x 0.7, rate 0.001, kind b, n 5; about -0.3 for a random setting."""
    return (
        -((parameters["x"] - 0.7) ** 2)
        - (math.log10(parameters["rate"]) + 3) ** 2 / 25
        - 0.1 * (parameters["kind"] != "b")
        - abs(parameters["n"] - 5) / 50
    )


def run(sampler, trials=50, seed=0, space=MIXED, score=quality, **options) -> Study:
    study = Study("test", space, sampler=sampler, seed=seed, **options)
    study.run(lambda trial: score(trial.parameters), trials=trials, progress=False)
    return study


# The best of 50 random settings reaches -0.048 half of the time.
@pytest.mark.parametrize(
    ("sampler", "least"), [("tpe", -0.02), ("coarse_to_fine", -0.01), ("policy_gradient", -0.03)]
)
def test_learning_samplers_beat_chance(sampler, least):
    scores = sorted(run(sampler, seed=seed).best.score for seed in range(3))
    assert scores[1] > least


def test_evolution_improves_from_generation_to_generation():
    study = run("nsga2", trials=100)
    scores = [trial.score for trial in study.trials]
    assert sum(scores[-20:]) / 20 > sum(scores[:20]) / 20 + 0.1


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_gaussian_process_beats_chance():
    assert run("gp", trials=30).best.score > -0.02


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_gaussian_process_says_what_it_needs():
    with pytest.raises(ValueError, match=r"'gp' needs PyTorch.*pip install torch.*'tpe'"):
        make_sampler("gp", MIXED)


@pytest.mark.parametrize("sampler", WITHOUT_TORCH)
def test_a_resumed_study_goes_on_as_if_it_had_not_stopped(sampler):
    whole = [trial.parameters for trial in run(sampler, trials=26).trials]
    storage = InMemoryStorage()
    run(sampler, trials=11, storage=storage)
    resumed = run(sampler, trials=26, storage=storage)
    assert [trial.parameters for trial in resumed.trials] == whole
    assert whole != [trial.parameters for trial in run(sampler, trials=26, seed=1).trials]


@pytest.mark.parametrize("sampler", WITHOUT_TORCH)
def test_every_setting_of_a_finite_space_is_tried_once(sampler):
    study = run(sampler, trials=100, space=FINITE, score=lambda parameters: parameters["bits"])
    settings = [setting_key(FINITE.distributions, trial.labels) for trial in study.trials]
    assert len(settings) == len(set(settings)) == FINITE.size == 16


def test_a_grid_takes_five_values_of_a_range_without_steps():
    space = Space({"rate": Range(1e-4, 1.0, log=True), "kind": ["a", "b"]})
    rates = {trial.parameters["rate"] for trial in run("grid", 99, space=space, score=len).trials}
    assert sorted(rates) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    huge = Space({f"x{index}": Range(0.0, 1.0) for index in range(8)})
    with pytest.raises(ValueError, match="lists at most 20,000 settings"):
        make_sampler("grid", huge)


def test_coarse_to_fine_halves_its_grid_around_the_best():
    space = Space({"x": Range(0.0, 1.0)})
    study = run("coarse_to_fine", 9, space=space, score=lambda parameters: -abs(parameters["x"] - 0.5))
    places = [trial.parameters["x"] for trial in study.trials]
    assert sorted(places[:3]) == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    assert sorted(places[3:5]) == pytest.approx([1 / 2 - 1 / 6, 1 / 2 + 1 / 6])
    assert sorted(places[5:7]) == pytest.approx([1 / 2 - 1 / 12, 1 / 2 + 1 / 12])


@pytest.mark.parametrize("sampler", [name for name in WITHOUT_TORCH if name not in OF_ONE_OBJECTIVE])
def test_samplers_of_several_objectives_find_a_front(sampler):
    study = Study("two", MIXED, sampler=sampler, directions=("maximize", "minimize"))
    study.run(lambda trial: (quality(trial.parameters), trial.parameters["n"]), trials=40, progress=False)
    assert len(study.trials) == 40
    # Of each number of the second score, the front has the best by the first.
    costs = {trial.scores[1]: trial.scores[0] for trial in study.front}
    assert min(costs) == min(trial.scores[1] for trial in study.trials)
    ordered = [costs[cost] for cost in sorted(costs)]
    assert ordered == sorted(ordered)


def test_the_policy_moves_towards_what_did_well():
    gaussian = GaussianPolicy(MIXED.distributions["x"])
    gaussian.learn(0.8, reward=1.0)
    assert gaussian.mean == pytest.approx(0.5 + 0.3 * 0.3)
    gaussian.learn(1.0, reward=-1.0)
    assert gaussian.mean < 0.59
    categorical = CategoricalPolicy(MIXED.distributions["kind"])
    categorical.learn("b", reward=1.0)
    assert categorical.shares.argmax() == 1 and categorical.shares.sum() == pytest.approx(1)


def test_unknown_and_unfit_samplers():
    with pytest.raises(ValueError, match=r"`sampler` must be one of 'grid'.*Did you mean 'policy_gradient'"):
        make_sampler("policy_gradients", MIXED)
    message = (
        r"'policy_gradient' follows.*Received: 2 objectives. Take sampler='nsga2', or another.*: 'grid', "
    )
    with pytest.raises(ValueError, match=message):
        make_sampler("policy_gradient", MIXED, objectives=2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("parameter", "low", "middle", "high"),
    [
        (Range(0.0, 4.0), 0.0, 2.0, 4.0),
        (Range(1e-4, 1.0, log=True), 1e-4, 1e-2, 1.0),
        (Range(1, 9, step=2), 1, 5, 9),
        (Range(1, 64, log=True), 1, 8, 64),
        (Range(0.0, 0.5, step=0.25), 0.0, 0.25, 0.5),
    ],
)
def test_places_and_values(parameter, low, middle, high):
    distribution = parameter.distribution
    for place, value in [(0, low), (0.5, middle), (1, high)]:
        assert from_place(distribution, place) == pytest.approx(value)
        assert to_place(distribution, value) == pytest.approx(place)
        assert distribution._contains(distribution.to_internal_repr(from_place(distribution, place)))
    assert isinstance(from_place(distribution, 0.3), type(low))


def test_few_values_are_all_in_a_grid():
    assert evenly(Range(1, 4, log=True).distribution, 5) == [1, 2, 3, 4]
    assert evenly(Range(0.1, 0.7, step=0.1).distribution, 9) == pytest.approx([0.1 * i for i in range(1, 8)])
    assert evenly(Choice(["a", "b"]).distribution, 1) == ["a", "b"]


def test_spaces_are_read_back_from_plain_data():
    space = Space({"rate": Range(1e-5, 1.0, log=True), "shape": [[8, 8], [16]], "kind": ["a", None, True]})
    again = Space(space.to_dict())
    assert again.to_text() == space.to_text() and space.size == math.inf
    assert again.decode({"rate": 0.1, "shape": "[8, 8]", "kind": None})["shape"] == [8, 8]
    named = Choice({"half": object(), "whole": 1})
    assert named.to_dict() == {"options": ["half", "whole"]} and named.decode("whole") == 1


@pytest.mark.parametrize(
    ("space", "kind", "text"),
    [
        ({}, ValueError, "at least one parameter"),
        ([1, 2], TypeError, "must be a dict"),
        ({"x": (1, 2)}, TypeError, "parameter 'x': expected tfs.Range.*A tuple could mean"),
        ({"x": []}, ValueError, "parameter 'x': Choice: expected at least one option"),
        ({"x": [8, 8]}, ValueError, "Received twice: 8"),
        ({"x": [object()]}, TypeError, "parameter 'x': Choice: options in a list must be plain"),
        ({"": [1]}, TypeError, "names of parameters must be text"),
        ({"x": {"low": 3, "high": 1}}, ValueError, "`low` must not exceed `high`"),
    ],
)
def test_spaces_that_are_none(space, kind, text):
    with pytest.raises(kind, match=text):
        Space(space)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (("a", 1), TypeError, "`low` must be a number. Received: low='a'"),
        ((0, math.inf), ValueError, "`high` must be finite"),
        ((0, 1, True), ValueError, "with log=True `low` must be > 0"),
        ((1, 4, True, 1), ValueError, "`step` must be > 0, and None with log=True"),
        ((0, 1, False, 0), ValueError, "`step` must be > 0"),
    ],
)
def test_ranges_that_are_none(arguments, kind, text):
    with pytest.raises(kind, match=text):
        Range(*arguments)
