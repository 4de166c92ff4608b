"""When to act: every n epochs, batches or seconds; one implementation for every callback."""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies._duration import Progress, Unit, check_amount, read_amount

__all__ = ["Trigger"]

_EXPECTED = (
    '"epoch", a positive integer (batches), or a string such as "2 epochs", "500 batches" '
    'or "10 min"'
)
_NEARLY = re.compile(
    r"(?:(?:every|each) )?([1-9][0-9]{0,14})(\.[0-9]{1,9})?\s*(epochs?|batch(?:es)?|steps?)"
)


@dataclass(frozen=True)
class Trigger:
    """Every so many epochs, batches or seconds.

    Epochs and batches fire when a multiple of `every` is reached or crossed, counted from the
    start of the training, so that it does not matter how many batches one execution takes, nor
    where a run was resumed. Seconds fire when that many have passed since the last time.

    The trigger remembers nothing. The caller keeps one `Progress`, which is where the run stood
    when it last acted (or when `fit` began), and replaces it when it acts.

    Args:
        every: Positive number; an integer for epochs and batches.
        unit: `"epochs"`, `"batches"` or `"seconds"`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.

    Example:

    >>> from keras_callbacks_plus.policies import Progress, Trigger
    >>> trigger = Trigger.parse("500 batches")
    >>> last, saved_at = Progress(), []
    >>> for batches in range(0, 2000, 48):  # steps_per_execution=48
    ...     now = Progress(batches=batches)
    ...     if trigger.due(before=last, now=now):
    ...         saved_at.append(batches)
    ...         last = now
    >>> saved_at
    [528, 1008, 1536]
    """

    every: int | float
    unit: Unit

    def __post_init__(self) -> None:
        check_amount("every", self.every, self.unit)

    @classmethod
    def parse(cls, spec: object, *, argument: str = "save_freq") -> Trigger:
        """Reads what users type.

        Args:
            spec: `"epoch"`, `"batch"`, an integer (batches), a string with a unit such as
                `"2 epochs"`, `"500 batches"`, `"10 min"` or `"3h50min"`, or a `Trigger`.
            argument: Name of the argument, for the error.

        Raises:
            InvalidArgumentError: If it is none of them; the message has the line to paste.
        """
        if isinstance(spec, Trigger):
            return spec
        if isinstance(spec, numbers.Integral) and not isinstance(spec, bool) and int(spec) > 0:
            return cls(int(spec), "batches")
        if isinstance(spec, str):
            word = spec.strip().lower()
            amount = read_amount(f"1 {word}" if word in ("epoch", "batch") else word)
            if amount is not None:
                return cls(*amount)
        raise InvalidArgumentError(argument, spec, _EXPECTED, _fix(argument, spec))

    def due(self, *, before: Progress, now: Progress) -> bool:
        """Whether to act now.

        Args:
            before: Where the run stood when the caller last acted, or when `fit` began. For
                epochs and batches, where it stood when this was last asked does as well.
            now: Where it stands.
        """
        if self.unit == "seconds":
            return now.seconds - before.seconds >= self.every
        past: int = getattr(before, self.unit)
        done: int = getattr(now, self.unit)
        return done // self.every > past // self.every


def _fix(argument: str, spec: object) -> str:
    """The line to write instead of `spec`; a whole sentence."""
    text = spec.strip() if isinstance(spec, str) else ""
    if re.fullmatch("[0-9]{1,15}", text) and int(text) > 0:
        n = int(text)
        return f'Write {argument}={n} or {argument}="{n} batches", or {argument}="{n} epochs".'
    if isinstance(spec, float) and 1 <= spec < 1e15:
        n = int(spec)
        return (
            f"Batches and epochs are whole numbers: "
            f'write {argument}={n} (batches), or {argument}="{n} epochs".'
        )
    if found := _NEARLY.fullmatch(text.lower()):
        whole, fraction, word = found.groups()
        unit = "epochs" if word.startswith("epoch") else "batches"
        begin = "Batches and epochs are whole numbers: write" if fraction else "Write"
        return f'{begin} {argument}="{int(whole) + bool(fraction)} {unit}".'
    if re.fullmatch(r"[0-9.]+\s*(m|ms)", text):
        return f'Write {argument}="10 min" for minutes, {argument}="30 s" for seconds.'
    return f'Write {argument}="epoch" to act at the end of every epoch.'
