"""Schedules are values: printable, comparable, frozen, and plain data when asked."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from keras_callbacks_plus.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    PolynomialDecay,
    Schedule,
    Warmup,
    deserialize,
    join,
    serialize,
)

ALL = [
    Constant(0.1),
    LinearDecay(0.1, 10, 0.01),
    PolynomialDecay(0.1, 10, power=2.0, cycle=True),
    ExponentialDecay(0.1, 10, 0.9, staircase=True),
    CosineDecay(0.1, 10, alpha=0.1),
    Warmup(CosineDecay(0.1, 10), 5, 0.01, shape="exponential"),
    join([Warmup(Constant(0.1), 5), LinearDecay(0.1, 10)], [7]),
    CosineDecay(0.1, 10) * 0.5,
    CosineDecay(0.1, 10).clip(0.01, 0.05),
    CosineDecay(0.1, 10).clip(0.01),
]


@dataclasses.dataclass(frozen=True)
class Halving(Schedule):
    """A user's own schedule."""

    start: float

    def formula(self, step, ops):
        return self.start * ops.power(0.5, step)


@pytest.mark.parametrize("schedule", [*ALL, Halving(1.0)], ids=repr)
class TestEvery:
    def test_goes_through_json_and_comes_back_equal(self, schedule):
        text = json.dumps(serialize(schedule), allow_nan=False)
        back = deserialize(json.loads(text))
        assert back == schedule
        assert [back(step) for step in range(30)] == [schedule(step) for step in range(30)]

    def test_from_config_of_get_config_is_equal(self, schedule):
        assert type(schedule).from_config(schedule.get_config()) == schedule

    def test_pickles_and_copies_to_an_equal(self, schedule):
        assert pickle.loads(pickle.dumps(schedule)) == schedule
        assert copy.deepcopy(schedule) == schedule

    def test_hashes_equal_when_equal(self, schedule):
        assert hash(deserialize(serialize(schedule))) == hash(schedule)

    def test_is_frozen(self, schedule):
        name = dataclasses.fields(schedule)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(schedule, name, 0.0)

    def test_has_a_horizon_to_plot(self, schedule):
        assert schedule.horizon() >= 1


def test_every_pair_of_different_schedules_differs():
    assert len(set(ALL)) == len(ALL)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_printed_form_makes_an_equal_schedule(schedule):
    from keras_callbacks_plus import schedules

    assert eval(repr(schedule), vars(schedules)) == schedule


def test_a_users_own_schedule_takes_part_in_the_algebra():
    schedule = (Warmup(Halving(1.0), 2) * 2).clip(maximum=1.0)
    assert [schedule(step) for step in range(5)] == [0.0, 1.0, 1.0, 1.0, 0.5]


def test_a_users_own_schedule_is_recorded_under_its_module():
    assert serialize(Halving(1.0))["class_name"] == f"{__name__}.Halving"


def test_lists_given_to_join_do_not_alias():
    parts = [Constant(0.1), Constant(0.2)]
    joined = join(parts, [3])
    parts.append(Constant(0.3))
    assert joined == join([Constant(0.1), Constant(0.2)], [3])
