"""How much training: an amount with its unit, read from what users type; and how far a run is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies._checks import check_choice, check_integer, check_number

__all__ = ["Duration", "Progress", "Unit", "check_amount", "parse_duration", "read_amount"]

Unit = Literal["epochs", "batches", "seconds"]

_COUNTED: dict[str, Unit] = {
    **dict.fromkeys(("epoch", "epochs"), "epochs"),
    **dict.fromkeys(("batch", "batches", "step", "steps"), "batches"),
}
_SECONDS: dict[str, int] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
# at most 15 digits, so that every number is exact as a float
_PART = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([a-z]+)\s*")
_BARE = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def check_amount(argument: str, amount: object, unit: object) -> None:
    """Raises unless the amount is positive, and whole where the unit is counted.

    Args:
        argument: Name of the amount's argument, for the error.
        amount: The number.
        unit: Its unit.

    Raises:
        InvalidArgumentError: If either is not acceptable.
    """
    check_choice("unit", unit, get_args(Unit), fix='Write "epochs", for one.')
    if unit == "seconds":
        check_number(argument, amount, above=0.0, fix="Write 600 for ten minutes.")
    else:
        check_integer(argument, amount, minimum=1, fix=f"Write 5 for five {unit}.")


def read_amount(text: str) -> tuple[int | float, Unit] | None:
    """`"2 epochs"` -> `(2, "epochs")`, `"3h50min"` -> `(13800.0, "seconds")`.

    Args:
        text: What the user typed.

    Returns:
        The amount and its unit; `None` where it is not one, or not positive.
    """
    text = text.strip().lower()
    parts: list[tuple[str, str]] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append((match[1], match[2]))
        position = match.end()
    if not parts or position != len(text):
        return None
    if len(parts) == 1 and parts[0][1] in _COUNTED:
        number, word = parts[0]
        return (int(number), _COUNTED[word]) if number.isdigit() and int(number) > 0 else None
    if not all(word in _SECONDS for _, word in parts):
        return None
    sizes = [_SECONDS[word] for _, word in parts]
    if sizes != sorted(set(sizes), reverse=True):  # "50min3h" and "1h1h" are slips of the keyboard
        return None
    seconds = sum(float(number) * _SECONDS[word] for number, word in parts)
    return (seconds, "seconds") if seconds > 0 else None


def parse_duration(text: str, *, argument: str = "max_time") -> float:
    """Seconds of a text such as `"30 s"`, `"10 min"`, `"1.5 h"`, `"3h50min"` or `"2 days"`.

    Args:
        text: The duration, with its unit.
        argument: Name of the argument, for the error.

    Raises:
        InvalidArgumentError: If it is not one, or not positive; the message has what to type.

    Example:

    >>> from keras_callbacks_plus import policies
    >>> policies.parse_duration("3h50min")
    13800.0
    """
    amount = read_amount(text) if isinstance(text, str) else None
    if amount is None or amount[1] != "seconds":
        fix = 'Write "30 s", "10 min", "1.5 h" or "3h50min".'
        number = str(text).strip()
        if not isinstance(text, bool) and _BARE.fullmatch(number) and float(number) > 0:
            fix = f'Add the unit: "{number} s", "{number} min" or "{number} h".'
        raise InvalidArgumentError(
            argument, text, "a positive length of time with its unit, as a string", fix
        )
    return amount[0]


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Nothing in this package's decisions reads a clock: whoever asks for one passes the time in.

    Args:
        epochs: Integer, epochs that are done, those before a resume included.
        batches: Integer, batches that are done, over all epochs.
        seconds: Float, seconds on any clock that never goes back, such as `time.monotonic()`;
            only differences are used.
    """

    epochs: int = 0
    batches: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Duration:
    """An amount of training: so many epochs, batches or seconds.

    Args:
        amount: Positive number; an integer for epochs and batches.
        unit: `"epochs"`, `"batches"` or `"seconds"`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.

    Example:

    >>> from keras_callbacks_plus.policies import Duration, Progress
    >>> Duration.parse("2000 batches")
    Duration(amount=2000, unit='batches')
    >>> Duration.parse("30 min").is_over(Progress(seconds=100.0), Progress(seconds=1900.0))
    True
    """

    amount: int | float
    unit: Unit

    def __post_init__(self) -> None:
        check_amount("amount", self.amount, self.unit)

    @classmethod
    def parse(cls, text: object, *, argument: str = "patience") -> Duration:
        """Reads `"2 epochs"`, `"500 batches"`, `"10 min"`, `"3h50min"`.

        Args:
            text: What the user typed.
            argument: Name of the argument, for the error.

        Raises:
            InvalidArgumentError: If it is none of them.
        """
        amount = read_amount(text) if isinstance(text, str) else None
        if amount is None:
            raise InvalidArgumentError(
                argument,
                text,
                "a positive amount with its unit, as a string",
                'Write "5 epochs", "2000 batches", "30 min" or "3h50min".',
            )
        return cls(*amount)

    def is_over(self, since: Progress, now: Progress) -> bool:
        """Whether at least this much of the run lies between two moments.

        Args:
            since: The earlier one.
            now: The later one.
        """
        passed: float = getattr(now, self.unit) - getattr(since, self.unit)
        return passed >= self.amount
