"""The snapshots of one run: self-checking files, the newest two kept, read newest first."""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointWarning,
    ResumeError,
    StorageError,
)
from keras_callbacks_plus.policies import LatestN, ask
from keras_callbacks_plus.storage import (
    FORMAT,
    SERIES,
    BackgroundWriter,
    CheckpointRecord,
    CheckpointStore,
    ContainerPayload,
    LocalFileSystem,
    check_snapshot,
    read_container,
    versions,
)
from keras_callbacks_plus.storage.explained import explained

__all__ = ["FITS_BEFORE", "STEPS_BEFORE", "FORMAT", "SERIES", "RunStore"]

FITS_BEFORE = "fits that the script had finished with this backup_dir"
STEPS_BEFORE = "steps of the optimizer before the run"
_GENERATIONS = 2
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_RUN_LOCK = ".run.lock"
_FINISHED: Counter[str] = Counter()  # of this process, by the folder
_KEPT: set[str] = set()  # folders in which a `fit` of this process has left a finished run


class RunStore:
    """The folder of one run's snapshots.

    Args:
        directory: String, the folder.
    """

    def __init__(self, directory: str) -> None:
        self._store = CheckpointStore(directory)
        self._writer = BackgroundWriter(f"the snapshots in {directory}")
        self._damaged: set[str] = set()
        self._give_back: Callable[[], None] | None = None
        self._withheld: StorageError | None = None
        self._read_only: StorageError | None = None
        self._seen: tuple[Any, ...] | None = None

    @property
    def directory(self) -> str:
        """The folder."""
        return self._store.directory

    @property
    def fits_before(self) -> int:
        """How many `fit`s of this process have finished with the folder, and removed their own."""
        return _FINISHED[os.path.realpath(self.directory)]

    @property
    def finished_here(self) -> bool:
        """Whether a `fit` of this process has finished with the folder, and kept its snapshots."""
        return os.path.realpath(self.directory) in _KEPT

    def keep_finished(self) -> None:
        """Notes that the run has finished, and that its snapshots stay."""
        _KEPT.add(os.path.realpath(self.directory))

    def hold(self) -> None:
        """Keeps other processes from training with this folder, until `release`.

        Raises:
            ResumeError: If one does.
        """
        folder = self._store.directory
        if self._read_only is not None:
            raise self._read_only
        with explained("write to", folder):
            os.makedirs(folder, exist_ok=True)
            self._give_back = LocalFileSystem().hold(os.path.join(folder, _RUN_LOCK))
        if self._give_back is None:
            raise ResumeError(
                f"Another `fit` is running with backup_dir={folder!r}, and the two would take each "
                "other's snapshots for their own. Wait until it has ended, or name another "
                "`backup_dir`: each run needs one of its own."
            )
        if self._seen is not None and _identity(self._store.records(SERIES)) != self._seen:
            self.release()
            raise ResumeError(
                f"Another process has gone on with backup_dir={folder!r} while this one was "
                "starting, and has ended. Start again, to go on where it has got to."
            )
        self._seen = None

    def release(self) -> None:
        """Lets others have the folder. Does nothing the second time."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def newest(self) -> Any | None:
        """The newest snapshot that is whole, or `None` where there is none at all.

        Raises:
            ResumeError: If there are snapshots, and all are damaged; none is removed.
        """
        try:
            facts = self._store.recover()
        except StorageError as error:
            if getattr(error.__cause__, "errno", None) not in _READ_ONLY:
                raise
            facts, self._read_only = [], error  # a run that has finished can be read all the same
        for fact in facts:
            warnings.warn(fact, CheckpointWarning, stacklevel=4)
        records = self._store.records(SERIES)
        self._seen = _identity(records)
        troubles = []
        for record in reversed(records):
            path = self._store.path_of(record)
            try:
                return check_snapshot(read_container(path), path)
            except (CheckpointCorruptedError, OSError) as error:
                if not _means_damage(error):
                    raise ResumeError(
                        f"The newest snapshot, {path}, cannot be read now: {error}. Mend that and "
                        "start again: training on from an older one would replace it. Nothing was "
                        "deleted."
                    ) from error
                self._damaged.add(record.path)
                troubles.append(str(error))
                warnings.warn(
                    f"{error} The snapshot before it is used instead.",
                    CheckpointWarning,
                    stacklevel=4,
                )
        if not troubles:
            return None
        raise ResumeError(
            f"None of the {len(troubles)} snapshots in {self._store.directory} can be read: "
            + " ".join(troubles)
            + " Nothing was deleted. Delete the folder, or name another one, to start afresh."
        )

    def commit(
        self,
        tree: Any,
        *,
        epoch: int,
        batch: int | None,
        before: Callable[[], StorageError | None],
    ) -> None:
        """Has a snapshot written in the background.

        Args:
            tree: The snapshot; its arrays must not change until `wait_until_finished`.
            epoch: The epoch in which training goes on.
            batch: Batches of it that are done; `None` at its beginning.
            before: Runs in the writer thread before the snapshot is committed, and says why it is
                not to be, if it is not.
        """
        facts: dict[str, Any] = {"series": SERIES, "kind": SERIES, "epoch": epoch, "batch": batch}
        facts.update(step=None, metrics={})
        place = "" if batch is None else f"-{batch:08d}"
        name = f"snapshot-{epoch:06d}{place}.kcp"

        def job() -> None:
            self._withheld = before()
            if self._withheld is not None:
                return
            payload = ContainerPayload(tree, {**facts, "time": time.time()})
            own = {record.path for record in self._store.records(SERIES)}
            free = next(n for n in versions(name) if n in own or not self._store.has_file(n))
            with self._store.transaction() as transaction:
                transaction.commit(free, self._writer.unhurried(payload), **facts)
                transaction.decide(lambda records: _generations(records, self._damaged - {free}))
            self._damaged.discard(free)

        self._writer.submit(job)

    def wait_until_finished(self) -> None:
        """Blocks until the last snapshot is durable; raises if it could not be written."""
        self._writer.wait_until_finished()

    def wait_until_committed(self) -> None:
        """Blocks until the last snapshot is durable; raises if there is none, whoever failed."""
        self.wait_until_finished()
        if self._withheld is not None:
            raise self._withheld

    def delete(self) -> None:
        """Removes the snapshots, and the folder if nothing else is in it: the run has finished."""
        if self._give_back is None:
            self.hold()
        with self._store.transaction() as transaction:
            transaction.decide(
                lambda records: {
                    r.path: (False, "the run has finished") for r in records if r.series == SERIES
                }
            )
        _FINISHED[os.path.realpath(self._store.directory)] += 1
        self.release()
        self._store.remove_if_empty()


def _identity(records: tuple[CheckpointRecord, ...]) -> tuple[Any, ...]:
    """Differs where a snapshot has been added, replaced or removed."""
    return tuple((record.path, record.checksum) for record in records)


def _means_damage(error: OSError) -> bool:
    """Not an error that may be another one tomorrow: no permission, no more open files."""
    return isinstance(error, CheckpointCorruptedError | FileNotFoundError) or (
        error.errno == errno.EIO
    )


def _generations(
    records: tuple[CheckpointRecord, ...], damaged: set[str]
) -> dict[str, tuple[bool, str]]:
    """Keeps the newest two that are whole; a damaged one only while there are not two."""
    members = [r for r in records if r.series == SERIES]
    whole = [r for r in members if r.path not in damaged]
    answers = {d.path: (d.keep, d.reason) for d in ask(LatestN(_GENERATIONS), whole)}
    spare = len(whole) < _GENERATIONS
    reason = "damaged, and all that there is beside one" if spare else "evicted: damaged"
    return {**{r.path: (spare, reason) for r in members if r.path in damaged}, **answers}
