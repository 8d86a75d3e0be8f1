"""The front of candidates, and the way along it to the cheapest that is good enough."""

import pytest

from tfsqueeze.search.squeezing.attempts import Epochs, is_hopeless, next_epochs
from tfsqueeze.search.squeezing.front import Point, front_of, next_on_front
from tfsqueeze.search.squeezing.objectives import Objective


def points(*pairs):
    return [Point(number, cost, score) for number, (cost, score) in enumerate(pairs)]


def test_the_front_is_what_no_other_beats_dearest_first():
    front = front_of(points((0.5, 0.9), (0.2, 0.5), (0.3, 0.4), (0.5, 0.8), (0.1, 0.1), (0.2, 0.5)))
    assert [point.number for point in front] == [0, 1, 4]


@pytest.mark.parametrize("last_good", range(-1, 9))
def test_bisection_finds_the_cheapest_good_one_in_few_trials(last_good):
    front = points(*((1 - place / 10, 1 - place / 10) for place in range(9)))
    verdicts = {}
    while (number := next_on_front(front, verdicts)) is not None:
        verdicts[number] = number <= last_good
        if last_good >= 0 and verdicts.get(last_good) and verdicts.get(last_good + 1, True) is False:
            break
    assert len(verdicts) <= (4 if 0 <= last_good < 8 else 9)
    assert last_good < 0 or verdicts[last_good]


def test_after_the_bisection_cheaper_ones_follow_in_turn():
    front = points(*((1 - place / 10, 1 - place / 10) for place in range(6)))
    assert next_on_front(front, {}) == 3
    assert next_on_front(front, {3: None}) == 1
    assert next_on_front(front, {2: True, 3: False}) == 4
    assert next_on_front(front, {2: True, 3: False, 4: True}) == 5
    assert next_on_front(front, {5: True}) is None


def test_training_on_is_hopeless_if_the_last_part_gained_less_than_is_missing():
    assert not is_hopeless([0.5], 0.02)
    assert not is_hopeless([0.5, 0.1], 0.02)
    assert is_hopeless([0.5, 0.4], 0.02)
    assert is_hopeless([0.5, 0.6], 0.02)


def test_an_objective_is_one_or_several_with_weights():
    assert Objective("size").weights == {"size": 1.0}
    assert Objective({"size": 3, "latency": 1}).weights == {"size": 0.75, "latency": 0.25}
    assert Objective({"latency": 1}).needs_latency
    assert not Objective("macs").needs_latency
    with pytest.raises(ValueError, match="Did you mean 'size'"):
        Objective("sise")
    with pytest.raises(ValueError, match="> 0"):
        Objective({"size": 0})
    with pytest.raises(ValueError, match="must name"):
        Objective({})


def test_training_goes_on_with_integers_once_it_is_good_enough_in_float():
    rungs = (0, 3, 9)

    def path(lost_from):
        done, seen = Epochs(), []
        while (done := next_epochs(done, rungs, done.plain >= lost_from)) is not None:
            seen.append(tuple(done))
        return seen

    assert path(lost_from=99) == [(3, 0), (9, 0)]
    assert path(lost_from=0) == [(0, 3), (0, 9)]
    assert path(lost_from=3) == [(3, 0), (3, 6)]
    assert path(lost_from=9) == [(3, 0), (9, 0), (9, 3)]
    assert next_epochs(Epochs(1), (0, 1), True) == (1, 1)
