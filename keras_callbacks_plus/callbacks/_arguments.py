"""Checks of arguments that several callbacks have in common, at construction."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np

from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["check_booleans", "check_choice", "check_number"]


def check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> Any:
    """The value, if it is one of the choices.

    Raises:
        InvalidArgumentError: If it is none of them.
    """
    if value in choices:
        return value
    names = " or ".join(f'"{choice}"' for choice in choices)
    raise InvalidArgumentError(argument, value, names, f'Write "{choices[0]}".')


def check_booleans(**arguments: Any) -> None:
    """Raises `InvalidArgumentError` for an argument that is neither `True` nor `False`."""
    for name, value in arguments.items():
        if not isinstance(value, bool | np.bool_):
            fix = f"Write {name}=True, without quotes."
            raise InvalidArgumentError(name, value, "True or False", fix)


def check_number(argument: str, value: Any, *, optional: bool = False) -> None:
    """Raises `InvalidArgumentError` for an argument that is not a number.

    Args:
        argument: Its name.
        value: What the user gave.
        optional: Whether `None` is fine.
    """
    if value is None and optional:
        return
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or math.isnan(value):
        expected = "a number or None" if optional else "a number"
        raise InvalidArgumentError(argument, value, expected, f"Write {argument}=0.001, for one.")
