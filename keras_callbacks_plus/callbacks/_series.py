"""One callback's checkpoints in a folder: asks the retention policy, tells the store."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_callbacks_plus.callbacks._checkpoint_name import versions
from keras_callbacks_plus.errors import CheckpointWarning
from keras_callbacks_plus.policies import Decision, KeepAll, Monitor, RetentionPolicy
from keras_callbacks_plus.storage import BackgroundWriter, CheckpointRecord, CheckpointStore

__all__ = ["Candidate", "Series", "decide", "place"]


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that is not written yet, as a retention policy sees it."""

    path: str
    epoch: int | None
    batch: int | None
    step: int | None
    metrics: Mapping[str, float]
    size: int
    time: float
    sequence: int
    monitor: str | None = None
    mode: str | None = None

    def carried(self, series: Series) -> dict[str, Any]:
        """What the file says of itself at its end, for a folder whose manifest is lost."""
        return {
            "series": series.name,
            "kind": series.kind,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "metrics": dict(self.metrics),
            "time": self.time,
            "monitor": self.monitor,
            "mode": self.mode,
        }


class Series:
    """The checkpoints of one `filepath`, those still being written included.

    Args:
        directory: The folder.
        name: What the manifest calls the series: the file name with its placeholders.
        kind: `"model"` or `"weights"`.
        on_background: Whether a writer thread does the writing.
    """

    def __init__(self, directory: str, name: str, kind: str, *, on_background: bool) -> None:
        self.store = CheckpointStore(directory)
        self.name = name
        self.kind = kind
        self._writer = BackgroundWriter(f"checkpoints of {name}") if on_background else None
        self._pending: list[Candidate] = []
        self._since = -1

    def recover(self) -> None:
        """Puts the folder in order after a crash, and says what it found."""
        for fact in self.store.recover():
            warnings.warn(fact, CheckpointWarning, stacklevel=3)

    def start_over(self) -> None:
        """From now on, ranks only what is saved from now on; older files stay where they are."""
        self.wait_until_finished()
        self._since = max((r.sequence for r in self.store.records()), default=-1)

    def members(self) -> list[CheckpointRecord | Candidate]:
        """The records of this series and what is about to become one, oldest first."""
        records = [r for r in self.store.records(self.name) if r.sequence > self._since]
        coming = {candidate.path for candidate in self._pending}
        return [*(r for r in records if r.path not in coming), *self._pending]

    def best(self, monitor: Monitor) -> float | None:
        """The best value of the metric among the members, or `None`."""
        best: float | None = None
        for member in self.members():
            value = member.metrics.get(monitor.name)
            if monitor.is_better(value, best):
                best = value
        return best

    def save(self, candidate: Candidate, payload: Any, policy: RetentionPolicy) -> None:
        """Commits a checkpoint, then evicts what the policy no longer keeps.

        Args:
            candidate: What it is.
            payload: The bytes.
            policy: Decides over all members, the new one included.
        """

        def job() -> None:
            try:
                self._commit(candidate, payload, policy)
            finally:
                payload.release()
                self._pending.remove(candidate)

        self._pending.append(candidate)
        if self._writer is None:
            job()
        else:
            self._writer.submit(job)

    def _commit(self, candidate: Candidate, payload: Any, policy: RetentionPolicy) -> None:
        def judge(records: tuple[CheckpointRecord, ...]) -> dict[str, tuple[bool, str]]:
            members = [r for r in records if r.series == self.name and r.sequence > self._since]
            answers = {d.path: (d.keep, d.reason) for d in decide(policy, members)}
            # the callback asked for this one: what was saved meanwhile does not undo that at once
            answers[candidate.path] = (True, answers[candidate.path][1])
            return answers

        with self.store.transaction() as transaction:
            transaction.commit(
                candidate.path,
                payload,
                series=self.name,
                kind=self.kind,
                epoch=candidate.epoch,
                batch=candidate.batch,
                step=candidate.step,
                metrics=candidate.metrics,
                monitor=candidate.monitor,
                mode=candidate.mode,
            )
            transaction.decide(judge)

    def next_sequence(self) -> int:
        """The number that the next commit will have."""
        numbers = [r.sequence for r in self.store.records()] + [c.sequence for c in self._pending]
        return max(numbers, default=-1) + 1

    def is_taken(self, name: str) -> bool:
        """Whether a file of this name is another series', or nobody's whom the manifest names."""
        owner = next((r for r in self.store.records() if r.path == name), None)
        if owner is not None:
            return owner.series != self.name
        return self.store.has_file(name) and all(c.path != name for c in self._pending)

    def raise_if_failed(self) -> None:
        """Raises the error of an earlier write in the background."""
        if self._writer is not None:
            self._writer.raise_if_failed()

    def wait_until_finished(self) -> None:
        """Blocks until every save is durable."""
        if self._writer is not None:
            self._writer.wait_until_finished()


def place(
    policy: RetentionPolicy,
    members: Sequence[Any],
    candidate: Candidate,
    is_taken: Callable[[str], bool],
    *,
    forced: bool = False,
) -> str | None:
    """Under which name a checkpoint is to be saved, so that it replaces nothing that is to stay.

    A file of its own name is replaced if it is of the same moment of the same run (a resumed run
    comes by again), or if the policy has no more use for it, or keeps everything as Keras does.
    Otherwise the new one gets a version: `05-v1.keras`.

    Args:
        policy: Decides who stays.
        members: The checkpoints of the series.
        candidate: The new one.
        is_taken: Whether a file of a name belongs to somebody else.
        forced: Whether it is to be saved whatever the policy says.

    Returns:
        The name, or `None` where the policy would not keep the new one.
    """
    again = next((m for m in members if _same_moment(m, candidate)), None)
    others = [m for m in members if m is not again]
    decisions = decide(policy, [*others, candidate])
    if not decisions[-1].keep and not forced:
        return None
    if again is not None:
        return str(again.path)
    staying = {m.path for m, d in zip(others, decisions, strict=False) if d.keep}
    if isinstance(policy, KeepAll):
        staying = set()
    names = versions(candidate.path)
    return next(name for name in names if name not in staying and not is_taken(name))


def _same_moment(member: Any, candidate: Candidate) -> bool:
    then = (member.epoch, member.batch, member.step)
    if then != (candidate.epoch, candidate.batch, candidate.step):
        return False
    pairs = ((member.metrics.get(k), candidate.metrics.get(k)) for k in member.metrics)
    return member.metrics.keys() == candidate.metrics.keys() and all(
        a == b or (a != a and b != b) for a, b in pairs
    )


def decide(policy: RetentionPolicy, members: Sequence[Any]) -> list[Decision]:
    """Asks a policy, and checks that it answered for every member."""
    decisions = list(policy.decide(members))
    if len(decisions) != len(members):
        raise ValueError(
            f"{policy!r} returned {len(decisions)} decisions for {len(members)} checkpoints: "
            "`decide` must return one for each, in the same order."
        )
    return decisions
