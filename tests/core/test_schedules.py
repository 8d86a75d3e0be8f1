"""Schedules: values by hand, updates, round trips, and tfmot's own objects."""

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfsqueeze import schedules
from tfsqueeze.core.schedules import as_schedule
from tfsqueeze.models.legacy import import_tfmot

GROWING = (schedules.Polynomial, schedules.Cosine, schedules.Exponential)
ALL = (
    schedules.Constant(0.4, 3, 9, 2),
    schedules.Polynomial(0.1, 0.9, 2, 12, power=2, frequency=5),
    schedules.Cosine(0.0, 0.5, 0, 10),
    schedules.Exponential(0.0, 0.75, 0, 10),
    schedules.Steps({0: 0.5, 7: 0.8}),
)


def test_values_by_hand():
    assert schedules.Polynomial(0.0, 0.8, 0, 10)(5) == pytest.approx(0.7)
    assert schedules.Polynomial(0.0, 0.8, 0, 10, power=1)(5) == pytest.approx(0.4)
    assert schedules.Cosine(0.0, 0.8, 0, 10)(5) == pytest.approx(0.4)
    assert schedules.Exponential(0.0, 0.75, 0, 10)(5) == pytest.approx(0.5)
    assert [schedules.Steps({2: 0.5, 7: 0.8})(step) for step in (0, 2, 6, 7, 99)] == [0, 0.5, 0.5, 0.8, 0.8]


@given(
    st.sampled_from(GROWING),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.integers(0, 500),
    st.integers(1, 500),
    st.integers(1, 60),
)
def test_growing_schedules_are_monotone_between_their_ends(cls, initial, final, begin, length, frequency):
    schedule = cls(initial, final, begin, begin + length, frequency=frequency)
    values = [schedule(step) for step in range(begin, begin + length + 1)]
    assert values[0] == pytest.approx(initial) and values[-1] == pytest.approx(final)
    assert schedule(begin + length + 50) == pytest.approx(final)
    low, high = sorted((initial, final))
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    assert values == pytest.approx(sorted(values, reverse=initial > final), abs=1e-12)


@given(st.integers(0, 50), st.integers(0, 100), st.integers(1, 20), st.integers(1, 9))
def test_updates_are_found_whatever_the_steps_per_call(begin, length, frequency, stride):
    schedule = schedules.Constant(0.5, begin, begin + length, frequency)
    due = {s for s in range(begin, begin + length) if (s - begin) % frequency == 0} | {begin + length}
    last, found = -1, []
    for step in range(0, begin + length + 2 * stride, stride):
        if schedule.is_due(last, step):
            last = schedule.last_due(step)
            found.append(last)
    assert set(found) <= due
    assert found[-1] == begin + length
    assert (stride > 1) or set(found) == due


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_serialization_round_trip(schedule):
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(twin) is type(schedule)
    assert [twin(step) for step in range(20)] == [schedule(step) for step in range(20)]
    assert [twin.last_due(step) for step in range(20)] == [schedule.last_due(step) for step in range(20)]


def test_a_number_is_a_constant():
    assert as_schedule(0.5)(10**6) == 0.5
    assert as_schedule(ALL[0]) is ALL[0]


def test_tfmot_schedules_keep_their_values():
    sparsity = import_tfmot().sparsity.keras
    theirs = as_schedule(sparsity.PolynomialDecay(0.1, 0.9, 2, 12, power=3, frequency=5))
    ours = schedules.Polynomial(0.1, 0.9, 2, 12, power=3, frequency=5)
    assert [theirs(step) for step in range(2, 20)] == pytest.approx([ours(step) for step in range(2, 20)])
    assert [theirs.last_due(step) for step in range(20)] == [ours.last_due(step) for step in range(20)]
    assert as_schedule(sparsity.ConstantSparsity(0.5, 3))(7) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: schedules.Constant(1.2),
            r"`target_sparsity` must be in \[0, 1\). Received: target_sparsity=1.2",
        ),
        (lambda: schedules.Polynomial(0, 1.0, 0, 10), r"`final_sparsity` must be in \[0, 1\)"),
        (lambda: schedules.Polynomial(0, 0.5, 10, 10), "`end_step` > `begin_step`"),
        (lambda: schedules.Constant(0.5, 10, 5), "must not come before"),
        (lambda: schedules.Constant(0.5, frequency=0), "`frequency` must be a whole number >= 1"),
        (lambda: schedules.Polynomial(0, 0.5, 0, 10, power=0), "`power` must be > 0"),
        (lambda: schedules.Steps({}), "at least one step"),
        (lambda: as_schedule(-0.1), r"must be in \[0, 1\)"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_kind():
    with pytest.raises(TypeError, match="tfmot PruningSchedule"):
        as_schedule("fast")
