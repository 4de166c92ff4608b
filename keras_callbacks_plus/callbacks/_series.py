"""One callback's checkpoints in a folder: those that are there, and those being written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras_callbacks_plus.callbacks._placing import Placement, place
from keras_callbacks_plus.errors import (
    BackgroundWriteError,
    CheckpointCorruptedError,
    ManifestError,
)
from keras_callbacks_plus.policies import Monitor, Selection, ask, best_value
from keras_callbacks_plus.storage import BackgroundWriter, CheckpointRecord, CheckpointStore

__all__ = ["Candidate", "Outcome", "Series"]


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
            "name": self.path,
            "sequence": self.sequence,
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


@dataclass(frozen=True)
class Outcome:
    """What has become of a save.

    Args:
        candidate: What was to be saved, under the name that it would have liked to have.
        foreseen: The name that was foreseen for it.
        placement: What was decided in the end; `None` where that did not happen.
        is_foreign: Whether the name it would have liked to have is somebody else's.
        facts: A sentence for each thing found on the way that a user should know of.
        error: What went wrong, or `None`.
    """

    candidate: Candidate
    foreseen: str
    placement: Placement | None = None
    is_foreign: bool = False
    facts: Sequence[str] = ()
    error: Exception | None = None


class Series:
    """The checkpoints of one `filepath`, those still being written included.

    Args:
        directory: The folder.
        name: What the manifest calls the series: the file name with its placeholders.
        kind: `"model"` or `"weights"`.
        on_background: Whether a writer thread does the writing.

    Attributes:
        since: Only checkpoints of a higher sequence are ranked.
        outcomes: What has become of each save, oldest first; whoever has seen one takes it out.
    """

    def __init__(self, directory: str, name: str, kind: str, *, on_background: bool) -> None:
        self.store = CheckpointStore(directory)
        self.name = name
        self.kind = kind
        self.since = -1
        self.outcomes: deque[Outcome] = deque()
        self._writer = BackgroundWriter(f"checkpoints of {name}") if on_background else None
        self._pending: list[Candidate] = []

    # ---------------------------------------------------------------- looking

    def recover(self) -> list[str]:
        """Puts the folder in order after a crash, and returns what it found."""
        found = self.store.recover(self.name)
        self.rank_from(self.since)
        return found

    def notice_changes(self) -> list[str]:
        """Puts the folder in order where somebody has changed it, and returns what was found."""
        try:
            in_order = self.store.is_in_order(self.name)
        except ManifestError:
            in_order = False
        return [] if in_order else self.recover()

    def start_over(self) -> None:
        """From now on, ranks only what is saved from now on; older files stay where they are."""
        self.since = self._newest()

    def rank_from(self, since: int) -> None:
        """From now on, ranks what came after a checkpoint, also where they are numbered anew.

        Args:
            since: The number of that checkpoint; after one that is not there any more, as many are
                ranked as there can be.
        """
        self.since = min(since, self._newest())

    def _newest(self) -> int:
        return max((r.sequence for r in self.store.records()), default=-1)

    def members(self) -> list[CheckpointRecord | Candidate]:
        """The records of this series and what is about to become one, oldest first."""
        records = self._own(self.store.records())
        coming = {candidate.path for candidate in self._pending}
        return [*(r for r in records if r.path not in coming), *self._pending]

    def foresee(
        self, selection: Selection, candidate: Candidate, *, forced: bool = False
    ) -> Placement:
        """What would become of a checkpoint, as things are now.

        Args:
            selection: Decides.
            candidate: The checkpoint.
            forced: Whether it is to be saved whatever the selection says.
        """
        coming = {c.path for c in self._pending}
        taken = self._taken(
            self.store.records(), lambda name: name not in coming and self.store.has_file(name)
        )
        return place(selection, self.members(), candidate, taken, forced=forced)

    def disown_damaged_best(self, monitor: Monitor) -> list[str]:
        """Takes the best checkpoint off the list while it is not what was committed.

        Nothing would be good enough to be saved beside it, and it cannot be loaded.

        Args:
            monitor: The comparison.

        Returns:
            A sentence for each one.
        """
        facts: list[str] = []
        while True:
            records = self._own(self.store.records())
            best = best_value(monitor, records)
            record = next((r for r in records if r.metrics.get(monitor.name) == best), None)
            if best is None or record is None:
                return facts
            try:
                self.store.verify(record)
            except CheckpointCorruptedError as error:
                facts.append(f"{error} It is left as it is, and no longer listed.")
                self.store.disown(record, "the file was damaged")
            else:
                return facts

    def next_sequence(self) -> int:
        """The number that the next commit will have."""
        numbers = [r.sequence for r in self.store.records()] + [c.sequence for c in self._pending]
        return max(numbers, default=-1) + 1

    # ---------------------------------------------------------------- saving

    def save(
        self,
        candidate: Candidate,
        payload: Any,
        selection: Selection,
        *,
        foreseen: str,
        forced: bool = False,
    ) -> None:
        """Commits a checkpoint, if it is still wanted; then evicts what is no longer kept.

        Args:
            candidate: What it is, under the name that it would like to have.
            payload: The bytes.
            selection: Decides over all members, the new one included.
            foreseen: The name that `foresee` said.
            forced: Whether it is to be saved whatever the selection says.
        """
        coming = replace(candidate, path=foreseen)

        def job() -> None:
            try:
                outcome = self._commit(candidate, payload, selection, foreseen, forced)
            except Exception as error:  # noqa: BLE001 - kept, and raised on the next hook
                outcome = Outcome(candidate, foreseen, error=self._wrapped(error))
            finally:
                payload.release()
                self._pending.remove(coming)
            self.outcomes.append(outcome)

        self._pending.append(coming)
        if self._writer is None:
            job()
            return
        try:
            self._writer.submit(job)
        except BackgroundWriteError:  # the system has no thread for it
            payload.release()
            self._pending.remove(coming)
            raise

    def wait(self) -> None:
        """Blocks until it is known what has become of every save."""
        if self._writer is not None:
            self._writer.wait_until_finished()

    def _commit(
        self,
        candidate: Candidate,
        payload: Any,
        selection: Selection,
        foreseen: str,
        forced: bool,
    ) -> Outcome:
        placement = Placement(None, "")
        is_foreign = False

        def settle(
            records: tuple[CheckpointRecord, ...], names: Collection[str], new: CheckpointRecord
        ) -> tuple[str | None, str]:
            nonlocal placement, is_foreign
            taken = self._taken(records, lambda name: name in names)
            is_foreign = taken(new.path)
            placement = place(selection, self._own(records), new, taken, forced=forced)
            return placement.path, placement.reason

        def judge(records: tuple[CheckpointRecord, ...]) -> dict[str, tuple[bool, str]]:
            decisions = ask(selection.policy, self._own(records))
            answers = {d.path: (d.keep, d.reason) for d in decisions}
            if forced and placement.path is not None:
                answers[placement.path] = (True, placement.reason)
            return answers

        with self.store.transaction(self.name) as transaction:
            transaction.commit(
                candidate.path,
                self._paced(payload),
                series=self.name,
                kind=self.kind,
                epoch=candidate.epoch,
                batch=candidate.batch,
                step=candidate.step,
                metrics=candidate.metrics,
                monitor=candidate.monitor,
                mode=candidate.mode,
            )
            transaction.settle(settle)
            transaction.decide(judge)
        return Outcome(candidate, foreseen, placement, is_foreign, transaction.facts)

    def _paced(self, payload: Any) -> Any:
        """An upload waits for the network, and so disturbs nobody."""
        if self._writer is None or self.store.is_remote:
            return payload
        return self._writer.unhurried(payload)

    def _wrapped(self, error: Exception) -> Exception:
        if self._writer is None:
            return error
        what = f"checkpoints of {self.name}"
        wrapped = BackgroundWriteError(f"Writing {what} in the background failed: {error}", what)
        wrapped.__cause__ = error
        return wrapped

    def _own(self, records: Sequence[CheckpointRecord]) -> list[CheckpointRecord]:
        return [r for r in records if r.series == self.name and r.sequence > self.since]

    def _taken(
        self, records: Sequence[CheckpointRecord], is_there: Callable[[str], bool]
    ) -> Callable[[str], bool]:
        """Whether a file of a name is another series', or nobody's whom the manifest names."""
        owners = {r.path: r.series for r in records}
        return lambda name: owners[name] != self.name if name in owners else is_there(name)
