"""Which checkpoints live: what a retention policy is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["EVICTED", "Decision", "Record", "RetentionPolicy", "protecting"]

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


def protecting(decisions: Iterable[Decision], paths: Iterable[str], why: str) -> list[Decision]:
    """The same decisions, with the named checkpoints kept whatever the policy said.

    Args:
        decisions: What a policy decided.
        paths: The records' paths to keep, such as that of the checkpoint resumed from.
        why: String, the reason that stands before the policy's own.

    Raises:
        InvalidArgumentError: If `paths` is one string, whose letters would be taken for paths.

    Example:

    >>> from keras_callbacks_plus import policies
    >>> decided = [policies.Decision("a.keras", False, "evicted: 2nd latest")]
    >>> policies.protecting(decided, ["a.keras"], "resumed from")[0]
    Decision(path='a.keras', keep=True, reason='resumed from (else evicted: 2nd latest)')
    """
    if isinstance(paths, str):
        raise InvalidArgumentError(
            "paths", paths, "an iterable of paths", f"Write [{paths!r}] for one path."
        )
    protected = frozenset(paths)
    return [
        decision
        if decision.keep or decision.path not in protected
        else replace(decision, keep=True, reason=f"{why} (else {decision.reason})")
        for decision in decisions
    ]
