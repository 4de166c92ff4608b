"""A folder of checkpoints: commit, list, verify, evict, and put in order what a crash left."""

from __future__ import annotations

import contextlib
import os
import time as clock_module
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage import atomic
from keras_callbacks_plus.storage.atomic import BLOCK, Payload, Staged
from keras_callbacks_plus.storage.explained import explained
from keras_callbacks_plus.storage.filesystem import FileSystem
from keras_callbacks_plus.storage.locate import filesystem_for
from keras_callbacks_plus.storage.manifest import (
    CheckpointRecord,
    LedgerLine,
    Manifest,
    Pending,
    check_bytes,
)
from keras_callbacks_plus.storage.rebuild import read_manifest, read_or_rebuild
from keras_callbacks_plus.storage.verification import verify_bytes

__all__ = ["CheckpointStore", "Transaction"]

MANIFEST = "checkpoints.json"
LOCK = ".checkpoints.lock"


class CheckpointStore:
    """The checkpoints of one folder, and their manifest.

    Making one does not touch the disk. Every change is a transaction under a lock that the system
    releases if the process dies, and reads the manifest afresh, so that two processes (or two
    callbacks) on one folder are safe. An object store has no such lock: one process may write
    there, and a second one is refused when it is noticed.

    Args:
        directory: String, the folder: a path, or a URL such as `"s3://bucket/run"`.
        filesystem: Does the work. Defaults to the one that the folder is on.
        clock: Returns seconds since 1970. Defaults to `time.time`.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        filesystem: FileSystem | None = None,
        clock: Callable[[], float] = clock_module.time,
    ) -> None:
        self.directory = str(os.fspath(directory))
        self._filesystem: FileSystem = filesystem or filesystem_for(self.directory)
        self._clock = clock
        self._last_read: tuple[Hashable | None, Manifest] = None, Manifest()

    # ---------------------------------------------------------------- reading

    @property
    def manifest_path(self) -> str:
        """Where the manifest is, or would be."""
        return self._filesystem.join(self.directory, MANIFEST)

    def records(self, series: str | None = None) -> tuple[CheckpointRecord, ...]:
        """The committed checkpoints, oldest first.

        Args:
            series: Only those of this series. Defaults to `None`, all.

        Raises:
            ManifestError: If the manifest is damaged or too new.
        """
        records = self._read().records
        return tuple(r for r in records if series is None or r.series == series)

    def ledger(self) -> tuple[LedgerLine, ...]:
        """The last decisions, oldest first."""
        return self._read().ledger

    def path_of(self, record: CheckpointRecord) -> str:
        """Where a checkpoint's file is.

        Args:
            record: One of `records()`.
        """
        return self._filesystem.join(self.directory, record.path)

    def has_file(self, name: str) -> bool:
        """Whether the folder has a file of this name, whoever made it."""
        return self._filesystem.exists(self._filesystem.join(self.directory, name))

    def verify(self, record: CheckpointRecord) -> None:
        """Reads a checkpoint's file, and compares it with what was committed.

        Args:
            record: One of `records()`.

        Raises:
            CheckpointCorruptedError: If it differs; the message names the file and the bytes.
        """
        path = self.path_of(record)
        try:
            verify_bytes(self._filesystem.read(path, BLOCK), path, record)
        except FileNotFoundError as error:
            raise CheckpointCorruptedError(f"{path} is gone.", path) from error
        except IsADirectoryError as error:
            raise CheckpointCorruptedError(f"{path} is a folder.", path) from error

    def verify_manifest(self) -> None:
        """Reads the manifest, and checks every byte of it; none at all is fine.

        Raises:
            ManifestError: If it is damaged, or of a newer format.
        """
        path = self.manifest_path
        with contextlib.suppress(FileNotFoundError):
            check_bytes(b"".join(self._filesystem.read(path, BLOCK)), path)

    def pending(self) -> CheckpointRecord | None:
        """The commit that is under way, or that a crash has cut off; `None` mostly."""
        pending = self._read().pending
        return None if pending is None else pending.record

    # ---------------------------------------------------------------- writing

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Changes the folder, alone.

        Yields:
            A `Transaction`. Files are removed only after everything else has succeeded.

        Raises:
            StorageError: If something cannot be written; every older file is as it was.
        """
        self._make_folder()
        transaction = Transaction(self)
        with explained("write to", self.directory):
            self._filesystem.watch(self.manifest_path, afresh=False)
            try:
                yield transaction
            except BaseException:
                transaction.discard()
                raise
            transaction.finish()

    def recover(self) -> list[str]:
        """Makes the folder, and puts in order what a crash or a hand has left.

        Returns:
            A sentence for each thing found that a user should know of.
        """
        self._make_folder()
        with explained("write to", self.directory), self._locked():
            self._filesystem.watch(self.manifest_path, afresh=True)
            return self._recover()

    def remove_if_empty(self) -> None:
        """Removes manifest, lock and folder where no checkpoint and no foreign file is left."""
        files = self._filesystem
        with explained("write to", self.directory):
            if not files.exists(self.directory):
                return
            with self._locked():
                self._recover()
                if self._read().records:
                    return
                for path in (self.manifest_path, files.join(self.directory, LOCK)):
                    if files.exists(path):
                        files.remove(path)
            if not files.names(self.directory):
                files.remove_folder(self.directory)

    # ---------------------------------------------------------------- inside

    def _read(self) -> Manifest:
        version = self._filesystem.version(self.manifest_path)  # before: never newer than it says
        known, manifest = self._last_read
        if version is None or version != known:
            manifest = read_manifest(self._filesystem, self.manifest_path)
            self._last_read = version, manifest
        return manifest

    def _write(self, manifest: Manifest) -> None:
        staged = atomic.stage(
            self._filesystem, self.directory, MANIFEST, _Bytes(manifest.to_bytes())
        )
        atomic.publish(self._filesystem, staged, self.manifest_path)

    def _make_folder(self) -> None:
        with explained("create", self.directory):
            self._filesystem.make_folder(self.directory)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return self._filesystem.lock(self._filesystem.join(self.directory, LOCK))

    def _line(self, path: str, action: str, reason: str) -> LedgerLine:
        return LedgerLine(self._clock(), path, action, reason)

    def _recover(self) -> list[str]:
        """Under the lock: finishes or takes back what was under way, and sweeps."""
        facts: list[str] = []
        path = self.manifest_path
        manifest = read_or_rebuild(self._filesystem, self.directory, path, facts.append)
        before = manifest if self._filesystem.exists(self.manifest_path) else Manifest()
        manifest = self._settle_pending(manifest)
        for name in manifest.evicting:
            if all(r.path != name for r in manifest.records):
                self._remove(name)
        manifest = replace(manifest, evicting=())
        there = set(self._filesystem.names(self.directory))
        for record in manifest.records:
            if record.path not in there:
                facts.append(
                    f"{self.path_of(record)} was removed by someone else; it is no longer listed."
                )
                manifest = replace(
                    manifest, records=tuple(r for r in manifest.records if r is not record)
                ).with_lines(self._line(record.path, "lost", "the file was gone"))
        if manifest != before:
            self._write(manifest)
        self._sweep(there)
        return facts

    def _settle_pending(self, manifest: Manifest) -> Manifest:
        pending = manifest.pending
        if pending is None:
            return manifest
        manifest = replace(manifest, pending=None)
        staged = self._filesystem.join(self.directory, pending.staged)
        if self._filesystem.exists(staged):  # the rename did not happen
            self._filesystem.remove(staged)
            return manifest
        try:
            self.verify(pending.record)
        except CheckpointCorruptedError:  # somebody removed the staged file: nothing has changed
            return manifest
        return manifest.with_record(pending.record).with_lines(
            self._line(pending.record.path, "kept", "found complete after a crash")
        )

    def _remove(self, name: str) -> None:
        try:
            self._filesystem.remove(self._filesystem.join(self.directory, name))
        except FileNotFoundError:
            return  # which is what was wanted

    def _sweep(self, names: Iterable[str]) -> None:
        for name in names:
            if not atomic.is_staging_name(name):
                continue
            path = self._filesystem.join(self.directory, name)
            try:
                if not self._filesystem.is_locked(path):
                    self._filesystem.remove(path)
            except FileNotFoundError:
                continue  # its writer has just published it


class Transaction:
    """Changes to a folder that become visible together; made by `CheckpointStore.transaction`.

    The long part, writing the bytes, happens in `commit` outside of the folder's lock. The lock is
    held in `finish` only, so what a policy decides on is decided there, by `decide`.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        self._staged: Staged | None = None
        self._draft: dict[str, Any] = {}
        self._decide: Callable[[tuple[CheckpointRecord, ...]], Mapping[str, tuple[bool, str]]]
        self._decide = lambda _records: {}

    def commit(
        self,
        name: str,
        payload: Payload,
        *,
        series: str,
        kind: str,
        epoch: int | None,
        batch: int | None,
        step: int | None,
        metrics: Mapping[str, float],
        monitor: str | None = None,
        mode: str | None = None,
    ) -> None:
        """Writes a file, durably, under a hidden name; it gets its name at the end.

        Once in a transaction.

        Args:
            name: Its name in the folder.
            payload: Its bytes.
            series: As in `CheckpointRecord`, like the following.
            kind: What kind of file it is.
            epoch: The epoch, counted from 0.
            batch: The batch, counted from 0.
            step: The optimizer's step.
            metrics: Every scalar that was logged.
            monitor: The metric that ranks it.
            mode: Which value of that is better.
        """
        store = self._store
        self._staged = atomic.stage(
            store._filesystem, store.directory, name, payload, store._locked()
        )
        place = {"epoch": epoch, "batch": batch, "step": step}
        ranking = {"metrics": dict(metrics), "monitor": monitor, "mode": mode}
        self._draft = {"path": name, "series": series, "kind": kind, **place, **ranking}

    def decide(
        self, decide: Callable[[tuple[CheckpointRecord, ...]], Mapping[str, tuple[bool, str]]]
    ) -> None:
        """Has `decide` say what is kept, when all records are known.

        Args:
            decide: Takes the records, the new one included, and returns `(keep, reason)` by path;
                what it does not name is kept.
        """
        self._decide = decide

    def finish(self) -> None:
        """Publishes, records, evicts, in this order. Called at the end of the `with` block."""
        store = self._store
        try:
            with store._locked():
                store._recover()
                manifest = store._read()
                if self._staged is not None:
                    manifest = self._publish(manifest, self._staged)
                manifest, gone = self._apply(manifest)
                store._write(manifest)
                for name in gone:
                    store._remove(name)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Removes what was staged and not published."""
        staged, self._staged = self._staged, None
        if staged is not None:
            atomic.discard(self._store._filesystem, staged)

    def _publish(self, manifest: Manifest, staged: Staged) -> Manifest:
        store = self._store
        record = CheckpointRecord(
            **self._draft,
            size=staged.size,
            checksum=staged.checksum,
            blocks=staged.blocks,
            time=store._clock(),
            sequence=manifest.next_sequence,
        )
        pending = Pending(os.path.basename(staged.path), record)
        store._write(replace(manifest, pending=pending))
        self._staged = None  # from here on, published or discarded by `publish`
        atomic.publish(store._filesystem, staged, store.path_of(record))
        return replace(manifest.with_record(record), next_sequence=record.sequence + 1)

    def _apply(self, manifest: Manifest) -> tuple[Manifest, list[str]]:
        answers = self._decide(manifest.records)
        kept, gone, lines = [], [], []
        for record in manifest.records:
            keep, reason = answers.get(record.path, (True, record.kept_because))
            if not keep:
                gone.append(record.path)
                lines.append(self._store._line(record.path, "evicted", reason))
                continue
            if reason != record.kept_because:
                lines.append(self._store._line(record.path, "kept", reason))
            kept.append(replace(record, kept_because=reason))
        manifest = replace(manifest, records=tuple(kept), evicting=tuple(gone))
        return manifest.with_lines(*lines), gone


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def write_to(self, sink: atomic.Sink) -> None:
        sink.write(self._data)
