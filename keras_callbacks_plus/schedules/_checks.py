"""Argument checks of the schedules: each returns the value as a plain Python number."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["check_number", "check_steps"]


def is_number(value: Any) -> bool:
    """Whether a value is a real number; a NumPy scalar is one, `True` is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_number(
    argument: str, value: Any, *, above: float | None = None, at_least: float | None = 0.0
) -> float:
    """A finite number in a range.

    Args:
        argument: Name of the argument.
        value: What was given.
        above: Exclusive lower bound. Defaults to `None` (no such bound).
        at_least: Inclusive lower bound, ignored with `above`. Defaults to 0.

    Returns:
        The number, as a `float`.
    """
    bound = f"at least {at_least:g}" if above is None else f"above {above:g}"
    if not is_number(value):
        fix = "Give a plain number, such as 0.001."
    elif not math.isfinite(value):
        fix = "Check the computation that this number comes from."
    elif (above is not None and value <= above) or (
        above is None and at_least is not None and value < at_least
    ):
        fix = f"Set `{argument}` to a number {bound}."
    else:
        return float(value)
    raise InvalidArgumentError(argument, value, f"a finite number {bound}", fix)


def check_steps(argument: str, value: Any, *, at_least: int = 1) -> int:
    """A whole number of steps; `1e4` is one.

    Args:
        argument: Name of the argument.
        value: What was given.
        at_least: Inclusive lower bound. Defaults to 1.

    Returns:
        The number, as an `int`.
    """
    if not is_number(value):
        fix = "Give a number of optimizer steps, such as epochs * steps_per_epoch."
    elif not math.isfinite(value) or value != int(value):
        fix = f"Round it yourself: int({value!r} + 0.5), say, or use `//` instead of `/`."
    elif value < at_least:
        fix = f"Set `{argument}` to {at_least} or more."
    else:
        return int(value)
    raise InvalidArgumentError(argument, value, f"a whole number of at least {at_least}", fix)
