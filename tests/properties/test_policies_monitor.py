"""`Monitor` as an order: it agrees with itself, and with Keras's formula on finite values."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from keras_callbacks_plus.policies import Monitor

# derandomize: the same cases in every run; no deadline: a shared machine may pause
FIXED = settings(derandomize=True, deadline=None, max_examples=200)

values = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0, 1.0, -1.0]))
deltas = st.floats(0.0, 1e3)
monitors = st.builds(
    Monitor,
    st.just("m"),
    st.sampled_from(["min", "max"]),
    deltas,
    st.sampled_from(["absolute", "relative"]),
)


def is_finite(value):
    return value is not None and math.isfinite(value)


@FIXED
@given(monitors, values, values)
def test_never_both_better(monitor, a, b):
    assert not (monitor.is_better(a, b) and monitor.is_better(b, a))
    assert not monitor.is_better(a, a)


@FIXED
@given(monitors, st.lists(values, max_size=12))
def test_the_first_in_order_is_never_beaten_and_only_ranked_values_beat_nothing(monitor, many):
    order = sorted(many, key=monitor.sort_key)
    assert not any(monitor.is_better(value, order[0]) for value in many)
    flags = [monitor.is_ranked(value) for value in order]
    assert flags == sorted(flags, reverse=True)
    assert flags == [monitor.is_better(value, None) for value in order]


@FIXED
@given(
    st.sampled_from(["min", "max"]),
    deltas,
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_keras_formula_on_finite_values(mode, min_delta, value, best):
    # keras/src/callbacks/monitor_callback.py: op(value - min_delta, best), min_delta *= -1 for less
    signed = -min_delta if mode == "min" else min_delta
    shifted = value - signed
    expected = shifted < best if mode == "min" else shifted > best
    assert Monitor("m", mode, min_delta).is_better(value, best) == expected


@FIXED
@given(monitors, values, values)
def test_max_is_min_of_the_negative(monitor, a, b):
    mirror = Monitor(
        "m", "max" if monitor.mode == "min" else "min", monitor.min_delta, monitor.min_delta_mode
    )
    mirrored = [None if v is None else -v for v in (a, b)]
    assert monitor.is_better(a, b) == mirror.is_better(*mirrored)


@FIXED
@given(monitors, values)
def test_infinity_on_the_right_side_beats_every_other_value(monitor, value):
    perfect = -math.inf if monitor.mode == "min" else math.inf
    assert monitor.is_better(perfect, value) == (value != perfect)
