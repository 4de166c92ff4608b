"""Retention by a limit: a window of time, a budget of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from keras_callbacks_plus.policies._checks import check_choice, check_number
from keras_callbacks_plus.policies._monitor import Monitor, check_monitor
from keras_callbacks_plus.policies._retention import EVICTED, Decision, Record
from keras_callbacks_plus.policies._retention_compose import Composable

__all__ = ["MaxBytes", "Within"]


@dataclass(frozen=True)
class Within(Composable):
    """Keeps what was saved in the last so many seconds before the newest checkpoint.

    The window ends at the newest checkpoint, not now: a run that is taken up a week later still
    has its own last hour.

    Args:
        seconds: Positive number; `policies.parse_duration("2 h")` reads one.

    Raises:
        InvalidArgumentError: If it is not.
    """

    seconds: float

    def __post_init__(self) -> None:
        fix = 'Write 3600, or policies.parse_duration("1 h").'
        check_number("seconds", self.seconds, above=0.0, fix=fix)

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        if not records:
            return []
        newest = max(records, key=lambda r: r.sequence).time
        decisions = []
        for r in records:
            age = newest - r.time
            keep = age <= self.seconds
            reason = f"{age:.6g} s before the newest, of {self.seconds:.6g} s"
            decisions.append(Decision(r.path, keep, reason if keep else EVICTED + reason))
        return decisions


@dataclass(frozen=True)
class MaxBytes(Composable):
    """Keeps as much as fits into a budget of bytes; meant for the right side of `&`.

    `BestN(5) & MaxBytes(10**10)` evicts from what `BestN(5)` keeps until 10 GB are left: first
    what is not ranked (its metric missing or NaN), then the worst, and of equal ones the oldest.
    Without a metric, or with `evict_first="oldest"`, the oldest goes first. One checkpoint is
    kept even if it is too large alone: a budget never leaves none.

    A new file is committed before an old one goes, so that for a moment there is one more.

    Args:
        bytes: Positive number.
        evict_first: `"worst"` or `"oldest"`. Defaults to `"worst"`.
        monitor: `Monitor`, the comparison; `None` takes that of the callback. Defaults to `None`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.
    """

    bytes: int | float
    evict_first: Literal["worst", "oldest"] = "worst"
    monitor: Monitor | None = None

    def __post_init__(self) -> None:
        check_number("bytes", self.bytes, above=0.0, fix="Write 10 * 10**9 for 10 GB.")
        check_choice(
            "evict_first", self.evict_first, ("worst", "oldest"), fix='Write "worst", for one.'
        )
        check_monitor(self.monitor)

    def bind(self, monitor: Monitor) -> MaxBytes:
        """See `BestN.bind`. Where the oldest goes first there is nothing to compare."""
        if self.monitor is not None or self.evict_first == "oldest":
            return self
        return replace(self, monitor=monitor)

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        monitor = self.monitor if self.evict_first == "worst" else None
        last_to_go_first = sorted(range(len(records)), key=lambda i: -records[i].sequence)
        if monitor is not None:  # the sort is stable: of equal ones the newer stays longer
            name, sort_key = monitor.name, monitor.sort_key
            last_to_go_first.sort(key=lambda i: sort_key(records[i].metrics.get(name)))
        order = "oldest" if monitor is None else f"worst by {monitor.name}"
        budget = f"the budget of {self.bytes:,.0f} bytes"
        total, reasons = 0, [""] * len(records)
        for rank, i in enumerate(last_to_go_first):
            total += records[i].size
            if total <= self.bytes:
                reasons[i] = f"within {budget}"
            elif rank == 0:
                reasons[i] = f"over {budget}, but the only one left"
            else:
                reasons[i] = f"{EVICTED}over {budget}, the {order} go first"
        return [
            Decision(r.path, not reason.startswith(EVICTED), reason)
            for r, reason in zip(records, reasons, strict=True)
        ]
