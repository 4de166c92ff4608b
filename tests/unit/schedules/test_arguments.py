"""What the schedules refuse, and that the message says what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules import (
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    PolynomialDecay,
    Warmup,
    deserialize,
    join,
)

CONSTANT = Constant(1.0)

REFUSED = [
    (lambda: Constant(-0.1), "learning_rate", "a number at least 0"),
    (lambda: Constant(math.nan), "learning_rate", "Check the computation"),
    (lambda: Constant(math.inf), "learning_rate", "Check the computation"),
    (lambda: Constant("0.1"), "learning_rate", "Give a plain number"),
    (lambda: Constant(True), "learning_rate", "Give a plain number"),
    (lambda: LinearDecay(-1.0, 10), "initial_learning_rate", "at least 0"),
    (lambda: LinearDecay(1.0, 0), "decay_steps", "Set `decay_steps` to 1 or more"),
    (lambda: LinearDecay(1.0, -5), "decay_steps", "Set `decay_steps` to 1 or more"),
    (lambda: LinearDecay(1.0, 10.5), "decay_steps", "use `//` instead of `/`"),
    (lambda: LinearDecay(1.0, math.nan), "decay_steps", "Round it yourself"),
    (lambda: LinearDecay(1.0, None), "decay_steps", r"epochs \* steps_per_epoch"),
    (lambda: LinearDecay(1.0, 10, -0.1), "end_learning_rate", "at least 0"),
    (lambda: PolynomialDecay(1.0, 10, power=0.0), "power", "above 0"),
    (lambda: PolynomialDecay(1.0, 10, cycle=1), "cycle", "cycle=True"),
    (lambda: ExponentialDecay(1.0, 10, 0.0), "decay_rate", "above 0"),
    (lambda: ExponentialDecay(1.0, 10, 0.5, staircase="yes"), "staircase", "staircase=True"),
    (lambda: CosineDecay(1.0, 10, alpha=1.5), "alpha", "divide: alpha=end / initial"),
    (lambda: CosineDecay(1.0, 10, alpha=-0.5), "alpha", "at least 0"),
    (lambda: Warmup(0.1, 10), "schedule", r"write `Constant\(0.001\)`"),
    (lambda: Warmup(CONSTANT, -1), "warmup_steps", "0 or more"),
    (lambda: Warmup(CONSTANT, 10, shape="sine"), "shape", "Leave it out for a linear"),
    (lambda: Warmup(CONSTANT, 10, shape="exponential"), "warmup_from", "such as 1e-6"),
    (
        lambda: Warmup(Constant(0.0), 10, 0.1, shape="exponential"),
        "schedule",
        'Use shape="linear"',
    ),
    (lambda: join([], []), "boundaries", "the step at which each schedule"),
    (lambda: join([CONSTANT, CONSTANT], []), "boundaries", "the step at which each schedule"),
    (lambda: join([CONSTANT] * 3, [5, 5]), "boundaries", r"write \[10, 30\]"),
    (lambda: join([CONSTANT, CONSTANT], [0]), r"boundaries\[0\]", "1 or more"),
    (lambda: join([CONSTANT, 0.1], [5]), r"schedules\[1\]", r"write `Constant\(0.001\)`"),
    (lambda: CONSTANT * -1, "factor", "at least 0"),
    (lambda: CONSTANT.clip(-1.0), "minimum", "at least 0"),
    (lambda: CONSTANT.clip(1.0, 0.5), "maximum", "at least 1"),
    (lambda: CONSTANT(-1), "step", "first step of a run is step 0"),
    (lambda: CONSTANT(math.nan), "step", "first step of a run is step 0"),
    (lambda: CONSTANT(math.inf), "step", "first step of a run is step 0"),
    (lambda: CONSTANT("1"), "step", "as_keras_schedule"),
    (lambda: CONSTANT(np.arange(3)), "step", "for step in steps"),
    (lambda: CONSTANT(), "step", "as_keras_schedule"),
    (lambda: CONSTANT.plot(0), "steps", "1 or more"),
    (lambda: deserialize({"class_name": "Nope", "config": {}}), "config", "import the module"),
    (lambda: deserialize({"learning_rate": 0.1}), "config", "schedules.serialize"),
]


@pytest.mark.parametrize(("make", "argument", "fix"), REFUSED)
def test_refused_with_a_fix(make, argument, fix):
    with pytest.raises(InvalidArgumentError, match=fix) as caught:
        make()
    assert caught.match(f"^`{argument}` must be")
    assert isinstance(caught.value, ValueError)


def test_a_factor_that_is_no_number_is_a_type_error():
    with pytest.raises(TypeError):
        CONSTANT * "2"


@pytest.mark.parametrize("steps", [np.int64(10), np.int32(10), 10.0, np.float32(10)])
def test_whole_numbers_of_any_type_are_stored_as_int(steps):
    schedule = LinearDecay(np.float32(0.5), steps)
    assert schedule == LinearDecay(0.5, 10)
    assert type(schedule.decay_steps) is int
    assert type(schedule.initial_learning_rate) is float


@pytest.mark.parametrize("step", [3, 3.0, np.int64(3), np.float32(3)])
def test_a_step_of_any_number_type(step):
    assert LinearDecay(1.0, 4)(step) == 0.25
