"""Laws that hold for every schedule."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_callbacks_plus.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    PolynomialDecay,
    Warmup,
    deserialize,
    join,
    serialize,
)

rates = st.floats(1e-6, 10.0)
lengths = st.integers(1, 10_000)
steps = st.integers(0, 50_000)
fractions = st.floats(0.0, 1.0)

decays = st.one_of(
    st.builds(Constant, rates),
    st.builds(LinearDecay, rates, lengths, rates),
    st.builds(PolynomialDecay, rates, lengths, rates, st.floats(0.1, 5.0), st.booleans()),
    st.builds(ExponentialDecay, rates, lengths, st.floats(0.01, 1.0), st.booleans()),
    st.builds(CosineDecay, rates, lengths, fractions),
)
shapes = st.sampled_from(["linear", "cosine", "exponential", "constant"])
schedules = st.recursive(
    decays,
    lambda inner: st.one_of(
        st.builds(Warmup, inner.filter(lambda s: s(0) > 0), lengths, rates, shapes),
        st.builds(lambda a, b, boundary: join([a, b], [boundary]), inner, inner, lengths),
        st.builds(lambda s, factor: s * factor, inner, st.floats(0.0, 10.0)),
        st.builds(lambda s, low, gap: s.clip(low, low + gap), inner, rates, rates),
    ),
    max_leaves=4,
)


@given(schedules, steps)
def test_rate_is_a_finite_float_of_at_least_zero(schedule, step):
    rate = schedule(step)
    assert type(rate) is float
    assert math.isfinite(rate)
    assert rate >= 0


@given(schedules)
def test_plain_data_and_back(schedule):
    assert deserialize(serialize(schedule)) == schedule


@given(decays.filter(lambda s: s(0) > 0), lengths, rates, shapes)
def test_after_the_warmup_the_inner_schedule_is_at_its_step_zero(inner, length, start, shape):
    schedule = Warmup(inner, length, start, shape)
    assert schedule(length) == inner(0)


@given(decays, lengths, rates, shapes, steps)
def test_after_the_warmup_the_inner_schedule_runs_as_ever(inner, length, start, shape, step):
    assert Warmup(inner, length, start, shape)(length + step) == inner(step)


@given(decays, st.integers(1, 10_000), rates, shapes)
def test_the_warmup_begins_where_it_is_told(inner, length, start, shape):
    assert Warmup(inner, length, start, shape)(0) == pytest.approx(start, rel=1e-12)


@given(decays, lengths, rates, shapes, fractions)
def test_the_warmup_stays_between_its_ends(inner, length, start, shape, where):
    rate = Warmup(inner, length, start, shape)(where * length)
    low, high = sorted([start, inner(0)])
    assert low * (1 - 1e-12) <= rate <= high * (1 + 1e-12)


@given(schedules, schedules, lengths, steps)
def test_join_is_the_one_before_and_the_other_from_the_boundary(first, second, boundary, step):
    joined = join([first, second], [boundary])
    if step < boundary:
        assert joined(step) == first(step)
    else:
        assert joined(step) == second(step - boundary)
    assert joined(boundary - 1) == first(boundary - 1)
    assert joined(boundary) == second(0)


@given(rates, rates, lengths, lengths)
def test_join_is_continuous_where_the_parts_meet(high, low, length, more):
    joined = join([LinearDecay(high, length, low), LinearDecay(low, more)], [length])
    slope = max(abs(high - low) / length, low / more)
    gap = abs(joined(length) - joined(length - 1))
    assert gap <= slope * (1 + 1e-9)
    assert joined(length) == low


@given(schedules, rates, rates, steps)
def test_clip_bounds_and_changes_nothing_within(schedule, low, gap, step):
    clipped, rate = schedule.clip(low, low + gap)(step), schedule(step)
    assert low <= clipped <= low + gap
    assert clipped == rate or not low <= rate <= low + gap


@given(schedules, st.floats(0.0, 10.0), steps)
def test_a_factor_multiplies(schedule, factor, step):
    assert (schedule * factor)(step) == schedule(step) * factor
    assert factor * schedule == schedule * factor


@given(rates, lengths, rates, st.floats(0.1, 5.0), fractions)
def test_a_decay_stays_between_its_ends_and_reaches_them(start, length, end, power, where):
    for schedule in (
        LinearDecay(start, length, end),
        PolynomialDecay(start, length, end, power),
        PolynomialDecay(start, length, end, power, cycle=True),
    ):
        low, high = sorted([start, end])
        assert low * (1 - 1e-12) <= schedule(where * length) <= high * (1 + 1e-12)
        assert schedule(0) == start
        assert schedule(length) == end


@given(rates, lengths, fractions, steps)
def test_cosine_falls_from_the_initial_rate_to_its_fraction_and_holds(start, length, alpha, step):
    schedule = CosineDecay(start, length, alpha)
    assert schedule(0) == start
    assert schedule(length + step) == start * alpha
    assert schedule(step + 1) <= schedule(step) * (1 + 1e-12)
