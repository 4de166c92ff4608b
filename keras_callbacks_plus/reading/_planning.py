"""What a retention policy would do to a folder, series by series, and whether that is safe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    InvalidArgumentError,
    MissingMetricError,
)
from keras_callbacks_plus.policies import AllOf, AnyOf, BestN, Decision, MaxBytes, RetentionPolicy
from keras_callbacks_plus.reading._checkpoint import SNAPSHOT, Checkpoint
from keras_callbacks_plus.reading._ranking import monitor_of, recorded_monitor
from keras_callbacks_plus.storage import is_url

__all__ = ["check", "evicted", "named", "plan"]

_SHOWN = 10  # names in an error


def plan(
    checkpoints: Sequence[Checkpoint], keep: RetentionPolicy, only: str | None
) -> tuple[Decision, ...]:
    """A decision for each checkpoint, in their order.

    Args:
        checkpoints: All of the folder.
        keep: The policy.
        only: The series to decide on, or `None` for each.

    Raises:
        InvalidArgumentError: If `keep` is not a policy, or does not answer for all.
        MissingMetricError: If it ranks by a metric that a series does not have.
    """
    if isinstance(keep, type) or not isinstance(keep, RetentionPolicy):
        raise InvalidArgumentError(
            "keep",
            keep,
            "a retention policy",
            "For example `policies.BestN(3) | policies.LatestN(1)`.",
        )
    decided: dict[str, Decision] = {}
    for series in dict.fromkeys(c.series for c in checkpoints):
        members = [c for c in checkpoints if c.series == series]
        for member, decision in zip(members, _decide(members, keep, only), strict=True):
            decided[member.path] = decision
    return tuple(decided[c.path] for c in checkpoints)


def evicted(
    checkpoints: Sequence[Checkpoint], decisions: Sequence[Decision]
) -> Mapping[tuple[str, int], str]:
    """The reasons of what goes, by name and sequence.

    Args:
        checkpoints: What was decided on.
        decisions: One for each.
    """
    pairs = zip(checkpoints, decisions, strict=True)
    return {(c.name, c.sequence): d.reason for c, d in pairs if not d.keep}


def named(
    checkpoints: Sequence[Checkpoint], given: Sequence[object], directory: str
) -> tuple[Checkpoint, ...]:
    """Those that somebody means, in their order.

    Args:
        checkpoints: All that there are.
        given: Names, or checkpoints of the same listing or another one.
        directory: Their folder.

    Raises:
        InvalidArgumentError: If one is not among them.
    """
    keys = {c.name: c for c in checkpoints} | {(c.name, c.sequence): c for c in checkpoints}
    found = []
    for item in given:
        key = item
        if isinstance(item, Checkpoint):
            key = (item.name, item.sequence) if _is_in(item, directory) else None
        if not isinstance(key, str | tuple) or key not in keys:
            names = [c.name for c in checkpoints]
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise InvalidArgumentError(
                "checkpoints",
                item,
                f"checkpoints of {directory} or their names, one by one, as they were listed",
                f"There are: {', '.join(names[:_SHOWN]) or 'none'}{more}. Nothing was removed. "
                "Of a list, pass the items: `remove(*saved[:2])`.",
            )
        found.append(keys[key])
    return tuple(c for c in checkpoints if c in found)


def _is_in(checkpoint: Checkpoint, directory: str) -> bool:
    """Whether it is in a folder, however that is spelt."""
    if is_url(directory):
        return checkpoint.path == f"{directory.rstrip('/')}/{checkpoint.name}"
    folder = os.path.dirname(checkpoint.path)
    return os.path.realpath(folder) == os.path.realpath(directory)


def check(checkpoints: Sequence[Checkpoint], decisions: Sequence[Decision]) -> None:
    """Raises unless each series that loses a file is left with one that is whole.

    Args:
        checkpoints: What was decided on.
        decisions: One for each.

    Raises:
        InvalidArgumentError: If nothing would be left of a series.
        CheckpointCorruptedError: If only damaged ones would.
    """
    pairs = list(zip(checkpoints, decisions, strict=True))
    for series in dict.fromkeys(c.series for c, d in pairs if not d.keep):
        staying = [c for c, d in pairs if c.series == series and d.keep]
        if not staying:
            raise InvalidArgumentError(
                "keep",
                f"a policy that evicts every checkpoint of {series!r}",
                "a policy that keeps at least one of them",
                "Add `| LatestN(1)` to it. Nothing was removed.",
            )
        _check_one_is_whole(staying)


def _check_one_is_whole(staying: Sequence[Checkpoint]) -> None:
    for checkpoint in reversed(staying):
        try:
            checkpoint.verify()
        except CheckpointCorruptedError as error:
            damage = error
            continue
        return
    raise CheckpointCorruptedError(
        f"All {len(staying)} that would stay are damaged, so nothing was removed: {damage}",
        damage.path,
        damage.offset,
        damage.end,
        damage.suspects,
    )


def _decide(
    members: Sequence[Checkpoint], keep: RetentionPolicy, only: str | None
) -> Sequence[Decision]:
    if only is not None and members[0].series != only:
        return [Decision(c.path, True, f"not of the series {only!r}") for c in members]
    if only is None and members[0].kind == SNAPSHOT:
        reason = "a snapshot of BackupAndRestore: name its series to prune it"
        return [Decision(c.path, True, reason) for c in members]
    decisions = list(_bound(keep, members).decide(members))
    if [d.path for d in decisions] != [c.path for c in members]:
        raise InvalidArgumentError(
            f"{type(keep).__name__}.decide",
            [d.path for d in decisions],
            "a function that returns one Decision for each record, in order",
            "Return [Decision(r.path, keep, reason) for r in records].",
        )
    return decisions


def _bound(keep: RetentionPolicy, members: Sequence[Checkpoint]) -> RetentionPolicy:
    """The policy with the series' own metric where a part of it has none."""
    logged = {name for c in members for name in c.metrics}
    parts = list(_parts(keep))
    for part in parts:
        if isinstance(part, BestN | MaxBytes) and part.monitor is not None:
            name = part.monitor.name
            if name not in logged:
                raise MissingMetricError(name, logged, "Write one of them in `Monitor`.")
    needs = any(isinstance(part, BestN) and part.monitor is None for part in parts)
    monitor = monitor_of(members, None, "auto") if needs else recorded_monitor(members)
    bind = getattr(keep, "bind", None)  # a user's policy has `decide` and need have no more
    if monitor is None or not callable(bind):
        return keep
    bound: RetentionPolicy = bind(monitor)
    return bound


def _parts(policy: RetentionPolicy) -> Iterator[RetentionPolicy]:
    if isinstance(policy, AllOf | AnyOf):
        for member in policy.members:
            yield from _parts(member)
    else:
        yield policy
