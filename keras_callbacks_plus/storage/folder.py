"""A folder with a manifest: reading it, changing it, and putting in order what was left there."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage import atomic
from keras_callbacks_plus.storage.atomic import BLOCK
from keras_callbacks_plus.storage.explained import explained
from keras_callbacks_plus.storage.filesystem import FileSystem, copied
from keras_callbacks_plus.storage.manifest import CheckpointRecord, LedgerLine, Manifest
from keras_callbacks_plus.storage.rebuild import read_manifest, read_or_rebuild
from keras_callbacks_plus.storage.verification import verify_bytes

__all__ = ["MANIFEST", "Folder"]

MANIFEST = "checkpoints.json"
LOCK = ".checkpoints.lock"


class Folder:
    """Files and their manifest. What changes either is to be called under the lock.

    Args:
        directory: String, a path or a URL.
        files: The file system it is on.
        clock: Returns seconds since 1970.
    """

    def __init__(self, directory: str, files: FileSystem, clock: Callable[[], float]) -> None:
        self.directory = directory
        self.files = files
        self.clock = clock
        self._last: tuple[Hashable | None, bytes, Manifest] = None, b"", Manifest()

    @property
    def manifest_path(self) -> str:
        """Where the manifest is, or would be."""
        return self.path_of(MANIFEST)

    def path_of(self, name: str) -> str:
        """Where a file of the folder is."""
        return self.files.join(self.directory, name)

    def make(self) -> None:
        """Creates the folder where there is none."""
        with explained("create", self.directory):
            self.files.make_folder(self.directory)

    def locked(self) -> contextlib.AbstractContextManager[bool]:
        """Keeps every other writer out; see `FileSystem.lock`."""
        return self.files.lock(self.path_of(LOCK))

    def read(self) -> Manifest:
        """The manifest as it is now; an empty one where there is none."""
        with explained("read", self.directory):
            version = self.files.version(self.manifest_path)  # before: never newer than it says
            known, data, manifest = self._last
            if version is None or version != known:
                data, manifest = read_manifest(self.files, self.manifest_path, (data, manifest))
                self._last = version, data, manifest
        return manifest

    def write(self, manifest: Manifest) -> None:
        """Replaces the manifest."""
        data = manifest.to_bytes()
        staged = atomic.stage(self.files, self.directory, MANIFEST, atomic.Bytes(data))
        atomic.publish(self.files, staged, self.manifest_path)
        self._last = None, data, manifest  # which need not be parsed again

    def line(self, path: str, action: str, reason: str) -> LedgerLine:
        """A line for the ledger."""
        return LedgerLine(self.clock(), path, action, reason)

    def remove(self, name: str) -> None:
        """Deletes a file, if it is there."""
        try:
            self.files.remove(self.path_of(name))
        except FileNotFoundError:
            return  # which is what was wanted

    def remove_own(self) -> None:
        """Deletes manifest and lock."""
        for path in (self.manifest_path, self.path_of(LOCK)):
            if self.files.exists(path) and not (sys.platform == "win32" and path.endswith(LOCK)):
                self.files.remove(path)  # on Windows not the lock, which is open

    def verify(self, record: CheckpointRecord, copy_to: str | None = None) -> None:
        """See `CheckpointStore.verify`."""
        path = self.path_of(record.path)
        with explained("read", path):
            try:
                verify_bytes(copied(self.files.read(path, BLOCK), copy_to), path, record)
            except FileNotFoundError as error:
                raise CheckpointCorruptedError(f"{path} is gone.", path) from error
            except IsADirectoryError as error:
                raise CheckpointCorruptedError(f"{path} is a folder.", path) from error

    # ---------------------------------------------------------------- in order

    def is_in_order(self, series: str) -> bool:
        """Whether every file of a series is there, with the size that was committed.

        And the manifest, where this process has seen that there was one.
        """
        _, before, _ = self._last
        records = [r for r in self.read().records if r.series == series]
        _, now, _ = self._last
        if before and not now:
            return False
        with explained("look into", self.directory):
            sizes = self.files.sizes(self.directory)
        return all(self._loss(record, sizes, must_match=True) is None for record in records)

    def put_in_order(self, series: str | None, *, write: bool = True) -> tuple[list[str], Manifest]:
        """Finishes or takes back what was under way, forgets what is lost, and sweeps.

        Args:
            series: Whose files must have the size that was committed: one that has another is
                somebody else's by now, or damaged. It is no longer listed, and stays as it is.
            write: Whether to write the manifest that comes of it; else the caller does.

        Returns:
            A sentence for each thing found that a user should know of, and the manifest.
        """
        facts: list[str] = []
        path = self.manifest_path
        manifest = read_or_rebuild(self.files, self.directory, path, facts.append, self.read)
        before = manifest if self.files.exists(path) else Manifest()
        manifest = self._settle_pending(manifest)
        for name in manifest.evicting:
            if all(r.path != name for r in manifest.records):
                self.remove(name)
        manifest = replace(manifest, evicting=())
        sizes = self.files.sizes(self.directory)
        for record in manifest.records:
            loss = self._loss(record, sizes, must_match=record.series == series)
            if loss is not None:
                fact, reason = loss
                facts.append(fact)
                manifest = self.without(manifest, record, reason)
        if manifest != before and write:
            self.write(manifest)
        self._sweep(sizes)
        return facts, manifest

    def without(self, manifest: Manifest, record: CheckpointRecord, reason: str) -> Manifest:
        """The manifest with a checkpoint no longer listed; its file stays.

        Args:
            manifest: The manifest.
            record: The checkpoint.
            reason: For the ledger.
        """
        records = tuple(r for r in manifest.records if r is not record)
        line = self.line(record.path, "lost", reason)
        return replace(manifest, records=records).with_lines(line)

    def _loss(
        self, record: CheckpointRecord, sizes: Mapping[str, int], *, must_match: bool
    ) -> tuple[str, str] | None:
        """A sentence and a reason, where a listed file is not what was committed any more."""
        size = sizes.get(record.path)
        if size == record.size or not (must_match or size is None):
            return None
        path = self.path_of(record.path)
        if size is None:
            fact = f"{path} was removed by someone else; it is no longer listed."
            return fact, "the file was gone"
        fact = (
            f"{path} has {size} bytes, and {record.size} were committed: it is damaged, or was "
            "replaced by someone else. It is left as it is, and no longer listed."
        )
        return fact, f"the file had {size} bytes instead of {record.size}"

    def _settle_pending(self, manifest: Manifest) -> Manifest:
        pending = manifest.pending
        if pending is None:
            return manifest
        manifest = replace(manifest, pending=None)
        staged = self.path_of(pending.staged)
        if self.files.exists(staged):  # the rename did not happen
            self.files.remove(staged)
            return manifest
        try:
            self.verify(pending.record)
        except CheckpointCorruptedError:  # somebody removed the staged file: nothing has changed
            return manifest
        return manifest.with_record(pending.record).with_lines(
            self.line(pending.record.path, "kept", "found complete after a crash")
        )

    def _sweep(self, names: Iterable[str]) -> None:
        for name in names:
            if not atomic.is_staging_name(name):
                continue
            path = self.path_of(name)
            try:
                if not self.files.is_locked(path):
                    self.files.remove(path)
            except FileNotFoundError:
                continue  # its writer has just published it
            except PermissionError:
                continue  # it is somebody else's
