"""What is better than what: a table of Keras's own rule, and of the values that must never win."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies import Monitor

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("mode", "min_delta", "value", "best", "better"),
    [
        ("min", 0.0, 0.5, None, True),
        ("min", 0.0, 0.0, None, True),  # a metric of zero is a value, not an absent one
        ("min", 0.0, 0.5, NAN, True),
        ("min", 0.0, 0.5, INF, True),  # as `initial_value_threshold=inf` would be
        ("min", 0.0, 0.4, 0.5, True),
        ("min", 0.0, 0.5, 0.5, False),
        ("min", 0.0, 0.6, 0.5, False),
        ("min", 0.25, 0.25, 0.5, False),  # by exactly min_delta is not more than min_delta
        ("min", 0.25, 0.125, 0.5, True),
        ("max", 0.0, 0.6, 0.5, True),
        ("max", 0.0, 0.5, 0.5, False),
        ("max", 0.25, 0.75, 0.5, False),
        ("max", 0.25, 0.875, 0.5, True),
        ("max", 0.0, -INF, None, False),
        ("max", 0.0, INF, 1e308, True),
        ("max", 0.0, INF, INF, False),
        ("min", 0.0, INF, None, False),
        ("min", 0.0, -INF, None, True),
        ("min", 0.0, -INF, -1e308, True),
        ("min", 0.0, -INF, -INF, False),
        ("min", 0.0, -1e308, -INF, False),
        ("min", 0.0, NAN, None, False),
        ("min", 0.0, NAN, 0.5, False),
        ("min", 0.0, NAN, NAN, False),
        ("min", 0.0, None, None, False),
        ("min", 0.0, None, 0.5, False),
    ],
)
def test_better(mode, min_delta, value, best, better):
    assert Monitor("m", mode, min_delta).is_better(value, best) is better


@pytest.mark.parametrize(
    ("mode", "value", "best", "better"),
    [
        ("min", 89.0, 100.0, True),
        ("min", 91.0, 100.0, False),
        # `best * (1 - 0.1)` would turn these around: the peers' mistake with negative metrics
        ("min", -111.0, -100.0, True),
        ("min", -109.0, -100.0, False),
        ("max", -91.0, -100.0, False),
        ("max", -89.0, -100.0, True),
        ("min", -1e-300, 0.0, True),
        ("max", 5.0, -INF, True),
        ("min", 5.0, INF, True),
        ("min", 5.0, -INF, False),
    ],
)
def test_relative_delta_is_of_the_size_of_the_best(mode, value, best, better):
    monitor = Monitor("m", mode, 0.1, "relative")
    assert monitor.is_better(value, best) is better


def test_a_float32_does_not_swallow_min_delta():
    value = np.float32(0.5)
    best = float(np.nextafter(value, np.float32(1.0)))  # 6e-8 above
    assert Monitor("m", "min", 1e-9).is_better(value, best) is True
    assert Monitor("m", "min", 1e-7).is_better(value, best) is False


@pytest.mark.parametrize(
    ("mode", "value", "target", "reached"),
    [
        ("min", 0.5, 0.5, True),
        ("min", 0.4, 0.5, True),
        ("min", 0.6, 0.5, False),
        ("max", 0.5, 0.5, True),
        ("max", 0.4, 0.5, False),
        ("min", -INF, 0.5, True),
        ("min", INF, 0.5, False),
        ("max", NAN, 0.5, False),
        ("max", None, 0.5, False),
    ],
)
def test_reaches_ignores_min_delta(mode, value, target, reached):
    assert Monitor("m", mode, min_delta=10.0).reaches(value, target) is reached


def test_sort_key_puts_the_best_first_and_the_unranked_last():
    values = [None, 2.0, NAN, -INF, INF, 0.0, -1.0]
    smallest_first = sorted(values, key=Monitor("m", "min").sort_key)
    largest_first = sorted(values, key=Monitor("m", "max").sort_key)
    assert smallest_first[:4] == [-INF, -1.0, 0.0, 2.0]
    assert largest_first[:4] == [INF, 2.0, 0.0, -1.0]
    assert all(v is None or math.isnan(v) or v == INF for v in smallest_first[4:])
    assert all(v is None or math.isnan(v) or v == -INF for v in largest_first[4:])


@pytest.mark.parametrize(
    ("arguments", "argument", "fix"),
    [
        ({"name": ""}, "monitor", 'Write "val_loss", for one.'),
        ({"name": None}, "monitor", 'Write "val_loss", for one.'),
        ({"mode": "auto"}, "mode", 'Write "min" for a loss or an error, "max" for an accuracy.'),
        ({"mode": None}, "mode", 'Write "min" for a loss'),
        ({"min_delta": True}, "min_delta", "Write 0.001, for one;"),
        ({"min_delta": -0.1}, "min_delta", "Write 0.001, for one;"),
        ({"min_delta": NAN}, "min_delta", "Write 0.001, for one;"),
        ({"min_delta": INF}, "min_delta", "Write 0.001, for one;"),
        ({"min_delta": "0.1"}, "min_delta", "Write 0.001, for one;"),
        ({"min_delta": 10**400}, "min_delta", "Write 0.001, for one;"),
        ({"min_delta_mode": "percent"}, "min_delta_mode", 'Write "relative" for a fraction'),
    ],
)
def test_bad_arguments(arguments, argument, fix):
    good = {"name": "val_loss", "mode": "min"}
    with pytest.raises(InvalidArgumentError) as caught:
        Monitor(**{**good, **arguments})
    assert caught.value.argument == argument
    assert fix in str(caught.value)


def test_numpy_scalars_are_numbers_and_stay_as_they_are():
    delta = np.float32(0.25)
    assert Monitor("m", "min", delta).min_delta is delta
