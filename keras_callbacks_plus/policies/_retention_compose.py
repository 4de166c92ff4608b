"""Two retention policies as one: `a | b` keeps what either keeps, `a & b` what both keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.policies._monitor import Monitor
from keras_callbacks_plus.policies._retention import EVICTED, Decision, Record, RetentionPolicy, ask

__all__ = ["AllOf", "AnyOf", "Composable", "most_kept", "monitors_of", "needs_monitor"]

Self = TypeVar("Self", bound="Composable")  # `typing.Self` is of Python 3.11


class Composable:
    """Gives a policy `|` and `&`, and a `bind` for those that need no metric.

    Attributes:
        most: How many checkpoints it keeps at most.
    """

    @property
    def most(self) -> float:
        """See the class; infinite unless a policy says so."""
        return math.inf

    def bind(self: Self, monitor: Monitor) -> Self:  # noqa: ARG002 - for those that override it
        """The same policy with the callback's comparison where it has none of its own.

        Args:
            monitor: The callback's comparison.
        """
        return self

    def __or__(self, other: RetentionPolicy) -> AnyOf:
        return AnyOf((*_members(AnyOf, self), *_members(AnyOf, other)))

    def __ror__(self, other: RetentionPolicy) -> AnyOf:
        return AnyOf((*_members(AnyOf, other), *_members(AnyOf, self)))

    def __and__(self, other: RetentionPolicy) -> AllOf:
        return AllOf((*_members(AllOf, self), *_members(AllOf, other)))

    def __rand__(self, other: RetentionPolicy) -> AllOf:
        return AllOf((*_members(AllOf, other), *_members(AllOf, self)))


@dataclass(frozen=True)
class AnyOf(Composable):
    """Keeps what any member keeps; written `a | b`.

    Each member decides as if it were alone, so that no record goes because one member says so.

    Args:
        members: Tuple of policies.

    Raises:
        InvalidArgumentError: If one of them is not a policy.

    Example:

    >>> from keras_callbacks_plus import policies
    >>> policies.BestN(3) | policies.LatestN(1)
    AnyOf(members=(BestN(n=3, monitor=None, tie='first'), LatestN(n=1)))
    """

    members: tuple[RetentionPolicy, ...]

    def __post_init__(self) -> None:
        _check_members(self.members)

    @property
    def most(self) -> float:
        """See `Composable`."""
        return sum(map(most_kept, self.members))

    def bind(self, monitor: Monitor) -> AnyOf:
        """See `BestN.bind`."""
        return AnyOf(_bound(self.members, monitor))

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        answers = [ask(member, records) for member in self.members]
        decisions = []
        for i, record in enumerate(records):
            verdicts = [answer[i] for answer in answers]
            kept = [verdict.reason for verdict in verdicts if verdict.keep]
            if kept:
                decisions.append(Decision(record.path, True, "; ".join(kept)))
            else:
                reasons = (verdict.reason.removeprefix(EVICTED) for verdict in verdicts)
                decisions.append(Decision(record.path, False, EVICTED + "; ".join(reasons)))
        return decisions


@dataclass(frozen=True)
class AllOf(Composable):
    """Keeps what every member keeps, each asked about what those before it keep; written `a & b`.

    So the order matters: `LatestN(10) & BestN(3)` keeps the three best of the ten latest. This is
    how a budget is put on another policy. `&` binds tighter than `|`: in
    `BestN(5) & MaxBytes(10**10) | LatestN(1)` the budget is on the best ones, and the latest is
    kept beside it; in `(BestN(5) | LatestN(1)) & MaxBytes(10**10)` it is on all.

    Args:
        members: Tuple of policies.

    Raises:
        InvalidArgumentError: If one of them is not a policy.
    """

    members: tuple[RetentionPolicy, ...]

    def __post_init__(self) -> None:
        _check_members(self.members)

    @property
    def most(self) -> float:
        """See `Composable`."""
        return min(map(most_kept, self.members))

    def bind(self, monitor: Monitor) -> AllOf:
        """See `BestN.bind`."""
        return AllOf(_bound(self.members, monitor))

    def decide(self, records: Sequence[Record]) -> list[Decision]:
        """See `RetentionPolicy.decide`."""
        left = list(range(len(records)))
        reasons: list[list[str]] = [[] for _ in records]
        evicted: dict[int, str] = {}
        for member in self.members:
            answers = ask(member, [records[i] for i in left])
            for i, answer in zip(left, answers, strict=True):
                if answer.keep:
                    reasons[i].append(answer.reason)
                else:
                    evicted[i] = EVICTED + answer.reason.removeprefix(EVICTED)
            left = [i for i in left if i not in evicted]
        return [
            Decision(record.path, i not in evicted, evicted.get(i, "; ".join(reasons[i])))
            for i, record in enumerate(records)
        ]


def most_kept(policy: RetentionPolicy) -> float:
    """How many checkpoints a policy keeps at most; NaN for a user's policy, which need not say."""
    return float(getattr(policy, "most", math.nan))


def monitors_of(policy: RetentionPolicy) -> tuple[Monitor, ...]:
    """By which metrics a policy ranks, its members included; empty where it does not.

    Args:
        policy: A policy, bound or not; one that takes the callback's comparison and has not got it
            yet does not rank.
    """
    own = getattr(policy, "monitor", None)
    found: tuple[Monitor, ...] = (own,) if isinstance(own, Monitor) else ()
    for member in getattr(policy, "members", ()):
        found += monitors_of(member)
    return found


def needs_monitor(policy: RetentionPolicy) -> bool:
    """Whether a policy takes the callback's comparison.

    Args:
        policy: As the user gave it.
    """
    bind = getattr(policy, "bind", None)
    return callable(bind) and _ANY in monitors_of(bind(_ANY))


_ANY = Monitor("any metric", "min")


def _members(kind: type[AnyOf] | type[AllOf], policy: object) -> tuple[RetentionPolicy, ...]:
    # A flat list reads better in a `repr` and in a ledger, and decides the same.
    if isinstance(policy, kind):
        return policy.members
    return (policy,)  # type: ignore[return-value] # the constructor that gets it checks it


def _check_members(members: object) -> None:
    fix = "Write BestN(3) | LatestN(1), for one."
    if not isinstance(members, tuple) or not members:
        raise InvalidArgumentError("members", members, "a tuple of retention policies", fix)
    for member in members:
        if isinstance(member, type) or not isinstance(member, RetentionPolicy):
            raise InvalidArgumentError(
                "members", member, "a retention policy: an object with a method `decide`", fix
            )


def _bound(members: Iterable[RetentionPolicy], monitor: Monitor) -> tuple[RetentionPolicy, ...]:
    bound = []
    for member in members:
        bind = getattr(member, "bind", None)  # a user's policy has `decide` and need have no more
        bound.append(bind(monitor) if callable(bind) else member)
    return tuple(bound)
