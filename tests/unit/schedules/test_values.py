"""Values worked out by hand: each row is a schedule, a step and the rate it must have."""

from __future__ import annotations

import math

import pytest

from keras_callbacks_plus.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    PolynomialDecay,
    Warmup,
    join,
)

ROWS = [
    (Constant(0.25), 0, 0.25),
    (Constant(0.25), 10**9, 0.25),
    (LinearDecay(1.0, 4), 0, 1.0),
    (LinearDecay(1.0, 4), 1, 0.75),
    (LinearDecay(1.0, 4), 1.5, 0.625),
    (LinearDecay(1.0, 4), 4, 0.0),
    (LinearDecay(1.0, 4), 5, 0.0),
    (LinearDecay(1.0, 4, end_learning_rate=0.5), 2, 0.75),
    (LinearDecay(0.5, 4, end_learning_rate=1.0), 2, 0.75),  # upwards is allowed
    (PolynomialDecay(1.0, 4, 0.0, power=2.0), 1, 0.5625),
    (PolynomialDecay(1.0, 4, 0.0, power=0.5), 3, 0.5),
    (PolynomialDecay(1.0, 4), 9, 0.0001),  # Keras's default end
    (PolynomialDecay(1.0, 4, 0.0, cycle=True), 0, 1.0),
    (PolynomialDecay(1.0, 4, 0.0, cycle=True), 4, 0.0),
    (PolynomialDecay(1.0, 4, 0.0, cycle=True), 5, 0.375),
    (PolynomialDecay(1.0, 4, 0.0, cycle=True), 8, 0.0),
    (ExponentialDecay(1.0, 2, 0.25), 1, 0.5),
    (ExponentialDecay(1.0, 2, 0.25), 2, 0.25),
    (ExponentialDecay(1.0, 2, 0.25, staircase=True), 1, 1.0),
    (ExponentialDecay(1.0, 2, 0.25, staircase=True), 5, 0.0625),
    (ExponentialDecay(1.0, 1, 2.0), 5000, math.inf),  # grows, as a tensor would
    (CosineDecay(1.0, 4), 0, 1.0),
    (CosineDecay(1.0, 4), 1, (1 + math.sqrt(0.5)) / 2),
    (CosineDecay(1.0, 4), 2, 0.5),
    (CosineDecay(1.0, 4), 4, 0.0),
    (CosineDecay(1.0, 4), 99, 0.0),
    (CosineDecay(2.0, 4, alpha=0.5), 2, 1.5),
    (CosineDecay(2.0, 4, alpha=0.5), 4, 1.0),
    (Warmup(Constant(1.0), 4), 0, 0.0),
    (Warmup(Constant(1.0), 4), 1, 0.25),
    (Warmup(Constant(1.0), 4), 4, 1.0),
    (Warmup(Constant(1.0), 4, warmup_from=0.5), 2, 0.75),
    (Warmup(Constant(1.0), 4, shape="cosine"), 1, (1 - math.sqrt(0.5)) / 2),
    (Warmup(Constant(1.0), 4, shape="cosine"), 2, 0.5),
    (Warmup(Constant(1.0), 4, warmup_from=0.0625, shape="exponential"), 2, 0.25),
    (Warmup(Constant(1.0), 4, warmup_from=0.125, shape="constant"), 3, 0.125),
    (Warmup(Constant(1.0), 4, warmup_from=0.125, shape="constant"), 4, 1.0),
    (Warmup(LinearDecay(1.0, 4), 4), 5, 0.75),  # the decay begins when the warmup ends
    (Warmup(LinearDecay(1.0, 4), 0), 1, 0.75),
    (join([Constant(1.0), LinearDecay(1.0, 4)], [10]), 9, 1.0),
    (join([Constant(1.0), LinearDecay(1.0, 4)], [10]), 11, 0.75),
    (join([Constant(1.0), Constant(2.0), Constant(3.0)], [2, 4]), 3, 2.0),
    (join([Constant(1.0), Constant(2.0), Constant(3.0)], [2, 4]), 4, 3.0),
    (join([LinearDecay(1.0, 4)], []), 1, 0.75),
    (LinearDecay(1.0, 4) * 2, 1, 1.5),
    (2 * LinearDecay(1.0, 4), 1, 1.5),
    (LinearDecay(1.0, 4).clip(0.25, 0.5), 0, 0.5),
    (LinearDecay(1.0, 4).clip(0.25, 0.5), 4, 0.25),
    (LinearDecay(1.0, 4).clip(maximum=0.5), 4, 0.0),
]


@pytest.mark.parametrize(("schedule", "step", "expected"), ROWS)
def test_value_at_step(schedule, step, expected):
    received = schedule(step)
    assert type(received) is float
    assert received == pytest.approx(expected, rel=1e-15, abs=1e-15)
