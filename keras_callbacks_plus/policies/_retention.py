"""Which checkpoints live: what a retention policy is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["EVICTED", "Decision", "Record", "RetentionPolicy", "ask"]

EVICTED = "evicted: "  # how the reason of an eviction begins, in a ledger that is read line by line


class Record(Protocol):
    """What a policy may know of a checkpoint."""

    @property
    def path(self) -> str:
        """Name of the file."""

    @property
    def epoch(self) -> int | None:
        """The epoch it was saved in, counted from 0."""

    @property
    def batch(self) -> int | None:
        """The batch of the epoch it was saved after; `None` at the end of an epoch."""

    @property
    def step(self) -> int | None:
        """The optimizer's step: batches that are done, over all epochs."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """All metrics that were logged."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def time(self) -> float:
        """When it was saved, in seconds since 1970."""

    @property
    def sequence(self) -> int:
        """Its place in the order of saving."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one checkpoint.

    Args:
        path: String, the record's.
        keep: Boolean.
        reason: String, why: a line for the ledger.
    """

    path: str
    keep: bool
    reason: str


@runtime_checkable
class RetentionPolicy(Protocol):
    """Anything with this one method can be passed as `keep=`.

    A policy is a function of the records alone: it reads no clock and no file, and remembers
    nothing. So asking one without acting on the answer is a dry run.

    Example:

    >>> from dataclasses import dataclass
    >>> from keras_callbacks_plus import policies
    >>> class KeepSmall:
    ...     def decide(self, records):
    ...         return [policies.Decision(r.path, r.size < 9, f"{r.size} bytes") for r in records]
    >>> isinstance(KeepSmall(), policies.RetentionPolicy)
    True
    >>> keep = policies.LatestN(1) | KeepSmall()
    """

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """Returns one decision for each record, in the same order.

        Args:
            records: All checkpoints of the series.
        """


def ask(policy: RetentionPolicy, records: Sequence[Record]) -> list[Decision]:
    """Asks a policy, and refuses an answer that cannot be matched to the records.

    Args:
        policy: The policy.
        records: All checkpoints of the series.

    Raises:
        InvalidArgumentError: If it did not return one decision for each record, in order.
    """
    decisions = list(policy.decide(records))
    asked, answered = [r.path for r in records], [d.path for d in decisions]
    if asked != answered:
        raise InvalidArgumentError(
            f"{type(policy).__name__}.decide",
            answered,
            f"a function that returns one Decision for each record, in order: {asked!r}",
            "Return [Decision(r.path, keep, reason) for r in records].",
        )
    return decisions
