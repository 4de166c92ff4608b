"""Retention by rank or by rule: the best, the latest, every n-th, all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies._checks import check_choice, check_integer
from keras_callbacks_plus.policies._duration import Unit, check_amount
from keras_callbacks_plus.policies._monitor import Monitor, check_monitor
from keras_callbacks_plus.policies._retention import EVICTED, Decision, Record
from keras_callbacks_plus.policies._retention_compose import Composable

__all__ = ["BestN", "EveryN", "KeepAll", "LatestN"]


@dataclass(frozen=True)
class KeepAll(Composable):
    """Keeps every checkpoint."""

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        return [Decision(r.path, True, "every one is kept") for r in records]


@dataclass(frozen=True)
class LatestN(Composable):
    """Keeps the `n` checkpoints saved last.

    Args:
        n: Positive integer.

    Raises:
        InvalidArgumentError: If it is not.
    """

    n: int

    def __post_init__(self) -> None:
        check_integer("n", self.n, minimum=1, fix="Write LatestN(3), for one.")

    @property
    def most(self) -> float:
        """See `Composable`."""
        return self.n

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        newest_first = sorted(range(len(records)), key=lambda i: -records[i].sequence)
        place = {i: rank for rank, i in enumerate(newest_first, start=1)}
        return [
            Decision(r.path, True, f"{_placed(place[i], 'latest')} of {self.n}")
            if place[i] <= self.n
            else Decision(r.path, False, f"{EVICTED}{_placed(place[i], 'latest')}")
            for i, r in enumerate(records)
        ]


@dataclass(frozen=True)
class BestN(Composable):
    """Keeps the `n` best checkpoints by a metric.

    The order is that of the values alone; `min_delta` plays no part in it. A checkpoint whose
    metric is missing, NaN, or infinite on the wrong side is not ranked: this policy does not keep
    it, and only another one beside it (`BestN(3) | LatestN(1)`) can.

    Args:
        n: Positive integer.
        monitor: `Monitor`, the comparison; `None` takes that of the callback. Defaults to `None`.
        tie: Which of two equal ones ranks higher, the `"first"` or the `"last"` saved.
            Defaults to `"first"`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.

    Example:

    >>> from types import SimpleNamespace as Record
    >>> from keras_callbacks_plus import policies
    >>> records = [Record(path=f"{i}.keras", sequence=i, metrics={"loss": loss})
    ...            for i, loss in enumerate([0.5, 0.25, float("nan")])]
    >>> for decision in policies.BestN(1, policies.Monitor("loss", "min")).decide(records):
    ...     print(decision.path, decision.reason)
    0.keras evicted: 2nd best by loss (0.5)
    1.keras best of 1 by loss (0.25)
    2.keras evicted: not ranked, loss is nan
    """

    n: int
    monitor: Monitor | None = None
    tie: Literal["first", "last"] = "first"

    def __post_init__(self) -> None:
        check_integer("n", self.n, minimum=1, fix="Write BestN(3), for one.")
        check_monitor(self.monitor)
        check_choice("tie", self.tie, ("first", "last"), fix='Write "first", as Keras has it.')

    @property
    def most(self) -> float:
        """See `Composable`."""
        return self.n

    def bind(self, monitor: Monitor) -> BestN:
        """The same policy with the callback's comparison where it has none of its own.

        Args:
            monitor: The callback's comparison.
        """
        return self if self.monitor is not None else replace(self, monitor=monitor)

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        if self.monitor is None:
            raise InvalidArgumentError(
                "BestN.monitor",
                None,
                "a Monitor, as there is no callback to take it from",
                f'Write BestN({self.n}, Monitor("val_loss", "min")).',
            )
        name, is_ranked, sort_key = self.monitor.name, self.monitor.is_ranked, self.monitor.sort_key
        sign = 1 if self.tie == "first" else -1
        values = [r.metrics.get(name) for r in records]
        best_first = sorted(
            (i for i, value in enumerate(values) if is_ranked(value)),
            key=lambda i: (sort_key(values[i]), sign * records[i].sequence),
        )
        place = {i: rank for rank, i in enumerate(best_first, start=1)}
        decisions = []
        for i, r in enumerate(records):
            if i not in place:
                what = "missing" if values[i] is None else values[i]
                reason = f"{EVICTED}not ranked, {name} is {what}"
            elif place[i] <= self.n:
                reason = f"{_placed(place[i], 'best')} of {self.n} by {name} ({values[i]:.6g})"
            else:
                reason = f"{EVICTED}{_placed(place[i], 'best')} by {name} ({values[i]:.6g})"
            decisions.append(Decision(r.path, place.get(i, self.n + 1) <= self.n, reason))
        return decisions


@dataclass(frozen=True)
class EveryN(Composable):
    """Keeps for ever one checkpoint of every `n` epochs, batches or seconds.

    By epochs or batches it is the first one saved at or after each multiple of `n`, counted from
    the start of the training, so that it does not matter whether one was saved exactly there. A
    training that begins again (an epoch or a step that is not after the one before it) counts
    anew: what it saves is kept beside what the one before it has left. By
    seconds it is the first one of all, and then each that is at least `n` seconds younger than the
    one kept before it (or that a clock set back makes older).

    Args:
        n: Positive number; an integer for epochs and batches.
        unit: `"epochs"`, `"batches"` (the optimizer's step) or `"seconds"`.
            Defaults to `"epochs"`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.
    """

    n: int | float
    unit: Unit = "epochs"

    def __post_init__(self) -> None:
        check_amount("n", self.n, self.unit)

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        oldest_first = sorted(range(len(records)), key=lambda i: records[i].sequence)
        choose = self._spaced if self.unit == "seconds" else self._at_multiples
        kept = choose(records, oldest_first)
        every = f"every {self.n} {self.unit}"
        return [
            Decision(r.path, True, f"one of {every}")
            if i in kept
            else Decision(r.path, False, f"{EVICTED}not one of {every}")
            for i, r in enumerate(records)
        ]

    def _at_multiples(self, records: Sequence[Record], oldest_first: Sequence[int]) -> set[int]:
        kept: set[int] = set()
        last: tuple[float, float] | None = None  # where the run was when one was kept
        multiple = 0
        for i in oldest_first:
            done, moment = self._done(records[i])
            if done is None or done < self.n:
                continue
            begins_again = last is None or moment <= last
            if begins_again or done // self.n > multiple:
                kept.add(i)
                last, multiple = moment, int(done // self.n)
        return kept

    def _done(self, record: Record) -> tuple[int | None, tuple[float, float]]:
        """Epochs or batches that are done, and the moment, which grows as long as a run goes on."""
        if self.unit == "batches":
            return record.step, (record.step or 0, 0)
        if record.epoch is None:
            return None, (0, 0)
        if record.batch is None:
            return record.epoch + 1, (record.epoch, math.inf)
        return record.epoch, (record.epoch, record.batch)  # mid-epoch, that one is not done

    def _spaced(self, records: Sequence[Record], oldest_first: Sequence[int]) -> set[int]:
        kept: set[int] = set()
        last: float | None = None
        for i in oldest_first:
            if last is None or not 0 <= records[i].time - last < self.n:
                kept.add(i)
                last = records[i].time
        return kept


def _placed(rank: int, word: str) -> str:
    """`"best"`, `"2nd best"`, `"3rd best"`, `"11th best"`."""
    if rank == 1:
        return word
    teen = 10 <= rank % 100 <= 20
    suffix = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{suffix} {word}"
