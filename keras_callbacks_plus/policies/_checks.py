"""Checks of arguments that the policies share; each raises with the line to write instead."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["check_choice", "check_integer", "check_number"]


def check_number(
    argument: str,
    value: object,
    *,
    fix: str,
    minimum: float | None = None,
    above: float | None = None,
) -> None:
    """Raises unless `value` is a finite number (a bool is none) in the range.

    Args:
        argument: Name of the argument, for the error.
        value: What the user gave; NumPy's scalars are numbers too.
        fix: What to write instead; a whole sentence.
        minimum: Smallest acceptable value, or `None`.
        above: Largest value that is too small, or `None`.

    Raises:
        InvalidArgumentError: If it is not.
    """
    expected = "a finite number"
    if minimum is not None:
        expected += f" of at least {minimum:g}"
    if above is not None:
        expected += f" above {above:g}"
    number = _as_float(value)
    accepted = (
        math.isfinite(number)
        and (minimum is None or number >= minimum)
        and (above is None or number > above)
    )
    if not accepted:
        raise InvalidArgumentError(argument, value, expected, fix)


def check_integer(argument: str, value: object, *, fix: str, minimum: int) -> None:
    """Raises unless `value` is an integer (a bool is none) of at least `minimum`.

    Args:
        argument: Name of the argument, for the error.
        value: What the user gave; NumPy's integers are integers too.
        fix: What to write instead; a whole sentence.
        minimum: Smallest acceptable value.

    Raises:
        InvalidArgumentError: If it is not.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or _as_float(value) < minimum:
        raise InvalidArgumentError(argument, value, f"an integer of at least {minimum}", fix)


def check_choice(argument: str, value: object, choices: Sequence[str], *, fix: str) -> None:
    """Raises unless `value` is one of the strings.

    Args:
        argument: Name of the argument, for the error.
        value: What the user gave.
        choices: What is accepted.
        fix: What to write instead; a whole sentence.

    Raises:
        InvalidArgumentError: If it is not.
    """
    if not isinstance(value, str) or value not in choices:
        names = [f'"{choice}"' for choice in choices]
        expected = " or ".join([", ".join(names[:-1]), names[-1]])
        raise InvalidArgumentError(argument, value, expected, fix)


def _as_float(value: object) -> float:
    """The number; NaN where it is none, infinity where it is too large for a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
