"""A folder of checkpoints: commit, list, verify, evict, and put in order what a crash left."""

from __future__ import annotations

import contextlib
import os
import time as clock_module
from collections.abc import Callable, Iterator

from keras_callbacks_plus.storage.atomic import BLOCK
from keras_callbacks_plus.storage.explained import explained
from keras_callbacks_plus.storage.filesystem import FileSystem
from keras_callbacks_plus.storage.folder import MANIFEST, Folder
from keras_callbacks_plus.storage.locate import filesystem_for, is_url
from keras_callbacks_plus.storage.manifest import CheckpointRecord, LedgerLine, check_bytes
from keras_callbacks_plus.storage.transaction import Transaction

__all__ = ["MANIFEST", "CheckpointStore"]

_WITHOUT_LOCKS = (
    "The file system of {} has no locks, so that another process which saves there is neither "
    "noticed nor kept out, and each may remove what the other saves. Let only one process save "
    "there at a time, or give each a folder of its own."
)


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
        files: FileSystem = filesystem or filesystem_for(self.directory)
        self._folder = Folder(self.directory, files, clock)

    # ---------------------------------------------------------------- reading

    @property
    def manifest_path(self) -> str:
        """Where the manifest is, or would be."""
        return self._folder.manifest_path

    @property
    def is_remote(self) -> bool:
        """Whether it is an object store, where looking at a file means to transfer it."""
        return is_url(self.directory)

    def records(self, series: str | None = None) -> tuple[CheckpointRecord, ...]:
        """The committed checkpoints, oldest first.

        Args:
            series: Only those of this series. Defaults to `None`, all.

        Raises:
            ManifestError: If the manifest is damaged or too new.
            StorageError: If it cannot be read.
        """
        records = self._folder.read().records
        return tuple(r for r in records if series is None or r.series == series)

    def ledger(self) -> tuple[LedgerLine, ...]:
        """The last decisions, oldest first."""
        return self._folder.read().ledger

    def path_of(self, record: CheckpointRecord) -> str:
        """Where a checkpoint's file is.

        Args:
            record: One of `records()`.
        """
        return self._folder.path_of(record.path)

    def has_file(self, name: str) -> bool:
        """Whether the folder has a file of this name, whoever made it."""
        with explained("look into", self.directory):
            return self._folder.files.exists(self._folder.path_of(name))

    def is_in_order(self, series: str) -> bool:
        """Whether every file of a series is there, with the size that was committed.

        And the manifest, where this process has seen that there was one. Where it is not, or where
        this raises `ManifestError`, `recover` puts the folder in order.

        Args:
            series: The series.
        """
        return self._folder.is_in_order(series)

    def verify(self, record: CheckpointRecord, *, copy_to: str | None = None) -> None:
        """Reads a checkpoint's file, and compares it with what was committed.

        Args:
            record: One of `records()`.
            copy_to: A file of this machine to make of its bytes. Defaults to `None`.

        Raises:
            CheckpointCorruptedError: If it differs; the message names the file and the bytes.
            StorageError: If it cannot be read.
        """
        self._folder.verify(record, copy_to)

    def verify_manifest(self) -> None:
        """Reads the manifest, and checks every byte of it; none at all is fine.

        Raises:
            ManifestError: If it is damaged, or of a newer format.
        """
        path = self.manifest_path
        with contextlib.suppress(FileNotFoundError):
            check_bytes(b"".join(self._folder.files.read(path, BLOCK)), path)

    def pending(self) -> CheckpointRecord | None:
        """The commit that is under way, or that a crash has cut off; `None` mostly."""
        pending = self._folder.read().pending
        return None if pending is None else pending.record

    # ---------------------------------------------------------------- writing

    @contextlib.contextmanager
    def transaction(self, series: str | None = None) -> Iterator[Transaction]:
        """Changes the folder, alone.

        Args:
            series: Whose files must have the size that was committed; one that has another is no
                longer listed, and stays as it is. Defaults to `None`, nobody's.

        Yields:
            A `Transaction`. Files are removed only after everything else has succeeded.

        Raises:
            StorageError: If something cannot be written; every older file is as it was.
        """
        self._folder.make()
        transaction = Transaction(self._folder, series)
        with explained("write to", self.directory):
            self._folder.files.watch(self.manifest_path, afresh=False)
            try:
                yield transaction
            except BaseException:
                transaction.discard()
                raise
            transaction.finish()

    def recover(self, series: str | None = None) -> list[str]:
        """Makes the folder, and puts in order what a crash or a hand has left.

        Args:
            series: As in `transaction`.

        Returns:
            A sentence for each thing found that a user should know of.
        """
        self._folder.make()
        with explained("write to", self.directory), self._folder.locked() as is_alone:
            self._folder.files.watch(self.manifest_path, afresh=True)
            facts = self._folder.put_in_order(series)[0]
        return facts if is_alone else [*facts, _WITHOUT_LOCKS.format(self.directory)]

    def disown(self, record: CheckpointRecord, reason: str) -> None:
        """Takes a checkpoint off the list; its file stays where it is.

        Args:
            record: One of `records()`.
            reason: For the ledger.
        """
        with explained("write to", self.directory), self._folder.locked():
            manifest = self._folder.read()
            for found in manifest.records:
                if found == record:
                    self._folder.write(self._folder.without(manifest, found, reason))

    def remove_if_empty(self) -> None:
        """Removes manifest, lock and folder where no checkpoint and no foreign file is left."""
        files = self._folder.files
        with explained("write to", self.directory):
            if not files.exists(self.directory):
                return
            with self._folder.locked():
                if self._folder.put_in_order(None)[1].records:
                    return
                self._folder.remove_own()
            if not files.names(self.directory):
                files.remove_folder(self.directory)
