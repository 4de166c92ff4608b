"""Checks of arguments that several callbacks have in common, at construction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["check_booleans", "check_choice", "check_number", "refuse_removed", "refuse_twins"]

_REMOVED = {
    "period": 'write `save_freq="{0} epochs"` (or leave `period` out for every epoch)',
    "options": "leave it out: it was TensorFlow's, and files are written by a thread of our own",
    "load_weights_on_restart": "use `BackupAndRestore`, which resumes the whole training",
}


def refuse_removed(arguments: Mapping[str, Any]) -> None:
    """Raises for arguments of older Keras versions, with what to write instead.

    Args:
        arguments: Keyword arguments that are not known.

    Raises:
        InvalidArgumentError: For one that was removed from Keras.
        TypeError: For any other, as Python does.
    """
    for name, value in arguments.items():
        if name not in _REMOVED:
            raise TypeError(f"ModelCheckpoint() got an unexpected keyword argument {name!r}")
        fix = _REMOVED[name].format(value)
        raise InvalidArgumentError(
            name, value, "an argument of Keras 3", f"{fix[0].upper()}{fix[1:]}."
        )


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
        if not isinstance(value, bool):
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
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or math.isnan(value):
        expected = "a number or None" if optional else "a number"
        raise InvalidArgumentError(argument, value, expected, f"Write {argument}=0.001, for one.")


def refuse_twins(callback: Any, name: str, callbacks: Sequence[Any]) -> None:
    """Raises `InvalidArgumentError` for two callbacks that keep the same files.

    Args:
        callback: The callback that is being started.
        name: The attribute that says which files it keeps.
        callbacks: All callbacks of the `fit`.
    """
    own = getattr(callback, name)
    for other in callbacks:
        if other is not callback and getattr(other, name, None) == own:
            raise InvalidArgumentError(
                "filepath",
                callback.filepath,
                f"another one for each {type(callback).__name__} of a `fit`",
                "Give each files of its own, or use one callback with "
                "`keep=policies.BestN(1) | policies.LatestN(1)`.",
            )
