"""Schedules that fall from an initial rate, with Keras's names and meanings."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules._base import Schedule
from keras_callbacks_plus.schedules._checks import check_number, check_steps
from keras_callbacks_plus.schedules._ops import Operations

__all__ = ["Constant", "CosineDecay", "ExponentialDecay", "LinearDecay", "PolynomialDecay"]


def _between(start: Any, end: Any, fraction: Any) -> Any:
    """From `start` (fraction 1) to `end` (fraction 0), exact at both."""
    return start * fraction + end * (1.0 - fraction)


def _and_a_tenth(steps: int) -> int:
    return steps + max(1, steps // 10)


def _check_flag(argument: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidArgumentError(
            argument, value, "True or False", f"Write `{argument}=True` or leave it out."
        )


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The same rate at every step; a part for `Warmup` and `join`.

    Args:
        learning_rate: Float, at least 0.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> kcp.schedules.Constant(0.1)(7)
    0.1
    """

    learning_rate: float

    def __post_init__(self) -> None:
        self._store(learning_rate=check_number("learning_rate", self.learning_rate))

    def formula(self, step: Any, ops: Operations) -> Any:  # noqa: ARG002 - needs no operation
        """The rate at a step."""
        return self.learning_rate + 0.0 * step  # of the step's type, so a tensor for a tensor

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return 100


@dataclasses.dataclass(frozen=True)
class LinearDecay(Schedule):
    """A straight line from one rate to another, then held.

    `end + (initial - end) * (1 - min(step, decay_steps) / decay_steps)`: `PolynomialDecay` of
    power 1, under the name people look for.

    Args:
        initial_learning_rate: Float, at least 0. The rate at step 0.
        decay_steps: Integer, at least 1. The step from which the end rate holds.
        end_learning_rate: Float, at least 0. Defaults to 0.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> schedule = kcp.schedules.LinearDecay(1.0, decay_steps=4)
    >>> [schedule(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    initial_learning_rate: float
    decay_steps: int
    end_learning_rate: float = 0.0

    def __post_init__(self) -> None:
        self._store(
            initial_learning_rate=check_number("initial_learning_rate", self.initial_learning_rate),
            decay_steps=check_steps("decay_steps", self.decay_steps),
            end_learning_rate=check_number("end_learning_rate", self.end_learning_rate),
        )

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        left = 1.0 - ops.minimum(step, float(self.decay_steps)) / self.decay_steps
        return _between(self.initial_learning_rate, self.end_learning_rate, left)

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return _and_a_tenth(self.decay_steps)


@dataclasses.dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """A polynomial from one rate to another, then held: Keras's `PolynomialDecay`.

    `end + (initial - end) * (1 - min(step, decay_steps) / decay_steps) ** power`. With
    `cycle=True`, `decay_steps` is instead stretched to its first multiple that is not below
    `step`, so that the rate rises again when the end is reached.

    Args:
        initial_learning_rate: Float, at least 0. The rate at step 0.
        decay_steps: Integer, at least 1.
        end_learning_rate: Float, at least 0. Defaults to 0.0001.
        power: Float, above 0. Defaults to 1.
        cycle: Boolean. Defaults to `False`.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> schedule = kcp.schedules.PolynomialDecay(1.0, 4, end_learning_rate=0.0, power=2.0)
    >>> [schedule(step) for step in range(5)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    initial_learning_rate: float
    decay_steps: int
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False

    def __post_init__(self) -> None:
        self._store(
            initial_learning_rate=check_number("initial_learning_rate", self.initial_learning_rate),
            decay_steps=check_steps("decay_steps", self.decay_steps),
            end_learning_rate=check_number("end_learning_rate", self.end_learning_rate),
            power=check_number("power", self.power, above=0.0),
        )
        _check_flag("cycle", self.cycle)

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        if self.cycle:
            cycles = ops.maximum(ops.ceil(step / self.decay_steps), 1.0)
            done = step / (self.decay_steps * cycles)
        else:
            done = ops.minimum(step, float(self.decay_steps)) / self.decay_steps
        left = ops.power(ops.maximum(1.0 - done, 0.0), self.power)
        return _between(self.initial_learning_rate, self.end_learning_rate, left)

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return 4 * self.decay_steps if self.cycle else _and_a_tenth(self.decay_steps)


@dataclasses.dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """A rate that falls by the same factor every `decay_steps`: Keras's `ExponentialDecay`.

    `initial * decay_rate ** (step / decay_steps)`, without end. With `staircase=True` the
    exponent is rounded down, and the rate falls in stairs.

    Args:
        initial_learning_rate: Float, at least 0. The rate at step 0.
        decay_steps: Integer, at least 1.
        decay_rate: Float, above 0.
        staircase: Boolean. Defaults to `False`.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> schedule = kcp.schedules.ExponentialDecay(1.0, 2, 0.25)
    >>> [schedule(step) for step in range(5)]
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """

    initial_learning_rate: float
    decay_steps: int
    decay_rate: float
    staircase: bool = False

    def __post_init__(self) -> None:
        self._store(
            initial_learning_rate=check_number("initial_learning_rate", self.initial_learning_rate),
            decay_steps=check_steps("decay_steps", self.decay_steps),
            decay_rate=check_number("decay_rate", self.decay_rate, above=0.0),
        )
        _check_flag("staircase", self.staircase)

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        exponent = step / self.decay_steps
        if self.staircase:
            exponent = ops.floor(exponent)
        return self.initial_learning_rate * ops.power(self.decay_rate, exponent)

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return 5 * self.decay_steps


@dataclasses.dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine from the initial rate down to a fraction of it, then held.

    `initial * (alpha + (1 - alpha) * (1 + cos(pi * min(step, decay_steps) / decay_steps)) / 2)`,
    from Loshchilov and Hutter, [SGDR](https://arxiv.org/abs/1608.03983) (2016), without restarts.
    Keras's `CosineDecay` without its warmup arguments: for a warmup, wrap it in `Warmup`, which
    means the same (`decay_steps` begins where the warmup ends).

    Args:
        initial_learning_rate: Float, at least 0. The rate at step 0.
        decay_steps: Integer, at least 1. The step from which the end rate holds.
        alpha: Float between 0 and 1, the end rate as a fraction of the initial one. Defaults to 0.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> schedule = kcp.schedules.CosineDecay(0.1, decay_steps=100, alpha=0.1)
    >>> schedule(0), round(schedule(50), 6), schedule(100) == schedule(1000)
    (0.1, 0.055, True)
    """

    initial_learning_rate: float
    decay_steps: int
    alpha: float = 0.0

    def __post_init__(self) -> None:
        self._store(
            initial_learning_rate=check_number("initial_learning_rate", self.initial_learning_rate),
            decay_steps=check_steps("decay_steps", self.decay_steps),
            alpha=check_number("alpha", self.alpha),
        )
        if self.alpha > 1:
            raise InvalidArgumentError(
                "alpha",
                self.alpha,
                "a fraction of the initial rate, between 0 and 1",
                "For an end rate given as such, divide: alpha=end / initial.",
            )

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        done = ops.minimum(step, float(self.decay_steps)) / self.decay_steps
        left = 0.5 * (1.0 + ops.cos(math.pi * done))
        return self.initial_learning_rate * _between(1.0, self.alpha, left)

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return _and_a_tenth(self.decay_steps)
