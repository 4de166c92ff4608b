"""What a file system has to do for the store; and the disk, the one place that changes it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Protocol

from keras_callbacks_plus.storage import locks
from keras_callbacks_plus.storage.direct import PAGE, WHOLE_PAGES, bypass_cache
from keras_callbacks_plus.storage.explained import explained

__all__ = [
    "FileSystem",
    "LocalFileSystem",
    "copied",
    "private_folder",
    "temporary_folder",
    "write_all",
]

_LOG = logging.getLogger("keras_callbacks_plus")
_NOT_DIRECTLY = frozenset({errno.EINVAL, errno.EFAULT})  # the latter for memory of a driver's
# Windows and Samba say EACCES, and it is no lack of permission: there is a new file in the folder
_IN_USE = frozenset({errno.EAGAIN, errno.EBUSY, errno.ETXTBSY, errno.EACCES})
_WAITS_FOR_OTHERS = (0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.7)  # seconds
_TICK = 50_000_000  # nanoseconds; longer than the steps in which disks tell the time
_CHUNK = 4 << 20  # large enough for the disk, small enough to let other threads run in between


class FileSystem(Protocol):
    """The primitives that the rest of this room is built from; a test replaces them one by one."""

    def join(self, folder: str, name: str) -> str:
        """The path of a file in a folder."""

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder; none where there is no such folder."""

    def sizes(self, folder: str) -> dict[str, int]:
        """The size in bytes of each file in a folder, by name; none where there is no folder."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""

    def read(self, path: str, size: int) -> Iterator[bytes]:
        """Yields the bytes of a file, at most `size` at a time."""

    def version(self, path: str) -> Hashable | None:
        """Differs whenever a file has been replaced; `None` where only reading it can tell."""

    def make_folder(self, path: str) -> None:
        """Creates a folder and its parents; an existing one is fine."""

    def create(self, path: str, final_path: str) -> int:
        """Creates a file that must not exist, opens it for writing and locks it.

        It gets the name `final_path` by `rename`, or goes by `remove`.
        """

    def write(self, descriptor: int, data: memoryview) -> int:
        """Writes some of `data`, and returns how many bytes."""

    def start_sync(self, descriptor: int, offset: int, count: int) -> None:
        """Has the system begin to make some bytes durable, where it can, and does not wait."""

    def sync(self, descriptor: int) -> None:
        """Makes the bytes of an open file durable."""

    def close(self, descriptor: int) -> None:
        """Closes an open file, which releases its lock."""

    def rename(self, source: str, target: str) -> None:
        """Renames atomically, replacing `target`."""

    def sync_folder(self, path: str) -> None:
        """Makes the names in a folder durable."""

    def remove(self, path: str) -> None:
        """Deletes a file."""

    def remove_folder(self, path: str) -> None:
        """Deletes an empty folder."""

    def is_locked(self, path: str) -> bool:
        """Whether a living process holds the lock of a file that `create` made."""

    def lock(self, path: str) -> contextlib.AbstractContextManager[bool]:
        """Holds an exclusive lock, which the system releases if the process dies.

        Gives whether another writer is kept out or noticed, where it is in another process.
        """

    def watch(self, path: str, *, afresh: bool) -> None:
        """From now on, `rename` does not replace what another process has written to this file.

        Only where `lock` does not keep other processes out. With `afresh`, what the file holds now
        is accepted, whoever wrote it.
        """


class LocalFileSystem:
    """The disk of this machine.

    Attributes:
        replace: Renames at once, or fails.
        sleep: Waits for some seconds.
    """

    replace = staticmethod(os.replace)
    sleep = staticmethod(time.sleep)

    def join(self, folder: str, name: str) -> str:
        """See `FileSystem`."""
        return os.path.join(folder, name)

    def names(self, folder: str) -> list[str]:
        """See `FileSystem`."""
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        """See `FileSystem`."""
        found: dict[str, int] = {}
        try:
            entries = os.scandir(folder)
        except FileNotFoundError:
            return found
        with entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # it has gone since
                    found[entry.name] = entry.stat().st_size
        return found

    def exists(self, path: str) -> bool:
        """See `FileSystem`."""
        return os.path.exists(path)

    def read(self, path: str, size: int) -> Iterator[bytes]:
        """See `FileSystem`."""
        with open(path, "rb") as file:
            while data := file.read(size):
                yield data

    def version(self, path: str) -> Hashable | None:
        """See `FileSystem`."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        if abs(time.time_ns() - found.st_mtime_ns) < _TICK:
            return None  # the next change may get the same time
        return found.st_ino, found.st_mtime_ns, found.st_size

    def make_folder(self, path: str) -> None:
        """See `FileSystem`."""
        os.makedirs(path, exist_ok=True)

    def create(self, path: str, final_path: str | None = None) -> int:  # noqa: ARG002 - not needed here
        """See `FileSystem`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o666)
        locks.lock_created(descriptor, path)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        """See `FileSystem`. Linux writes large pieces of whole pages past the page cache.

        It is not always possible: not for memory that does not begin with a page, after a piece
        that did not end with one, or in some file systems. It is then written as any other.
        """
        piece = data[:_CHUNK]
        bypass_cache(descriptor, len(piece) >= WHOLE_PAGES and len(piece) % PAGE == 0)
        try:
            return os.write(descriptor, piece)
        except OSError as error:
            if error.errno not in _NOT_DIRECTLY or not bypass_cache(descriptor, False):
                raise
        return os.write(descriptor, piece)

    def start_sync(self, descriptor: int, offset: int, count: int) -> None:
        """See `FileSystem`. Linux writes out what it is told to forget, and keeps it until then."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # advice; an error of the disk is told by `sync`
                os.posix_fadvise(descriptor, offset, count, os.POSIX_FADV_DONTNEED)

    def sync(self, descriptor: int) -> None:
        """See `FileSystem`."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """See `FileSystem`."""
        locks.close_and_unlock(descriptor)

    def rename(self, source: str, target: str) -> None:
        """See `FileSystem`. A target that somebody has open is waited for, for two seconds.

        On Windows and on network drives a file cannot be replaced while it is being read: by a
        virus scanner, by TensorBoard. https://github.com/tensorflow/tensorflow/issues/19440
        """
        for wait in _WAITS_FOR_OTHERS:
            try:
                self.replace(source, target)
            except OSError as error:
                if error.errno not in _IN_USE or not os.path.isfile(target):
                    raise
                if wait == _WAITS_FOR_OTHERS[0]:
                    _LOG.info("%s is in use (%s): waiting to replace it.", target, error.strerror)
                self.sleep(wait)
            else:
                return
        self.replace(source, target)

    def sync_folder(self, path: str) -> None:
        """See `FileSystem`. Windows has no such call: its file systems journal names."""
        if sys.platform == "win32":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network folders refuse
                raise
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        """See `FileSystem`."""
        os.unlink(path)

    def remove_folder(self, path: str) -> None:
        """See `FileSystem`."""
        os.rmdir(path)

    def is_locked(self, path: str) -> bool:
        """See `FileSystem`."""
        return locks.is_locked(path)

    def lock(self, path: str) -> contextlib.AbstractContextManager[bool]:
        """See `FileSystem`."""
        return locks.exclusive(path)

    def hold(self, path: str) -> Callable[[], None] | None:
        """Takes an exclusive lock for long; see `locks.hold`."""
        return locks.hold(path)

    def watch(self, path: str, *, afresh: bool) -> None:
        """See `FileSystem`. Nothing to do: `lock` keeps every other process out."""


def write_all(filesystem: FileSystem, descriptor: int, data: Any) -> int:
    """Writes all of `data`, however little each call takes; returns the number of bytes."""
    view = memoryview(data).cast("B")
    written = 0
    while written < len(view):
        count = filesystem.write(descriptor, view[written:])
        if count <= 0:
            raise OSError(errno.EIO, "the file system accepted no more bytes")
        written += count
    return written


def copied(chunks: Iterable[bytes], path: str | None) -> Iterator[bytes]:
    """Yields some bytes, and makes a file of them on the way.

    Args:
        chunks: The bytes.
        path: A file of this machine that is not there yet, or `None` for none.

    Raises:
        StorageError: If it cannot be written.
    """
    if path is None:
        yield from chunks
        return
    disk = LocalFileSystem()
    with explained("write to", path):
        descriptor = disk.create(path)
    try:
        for chunk in chunks:
            with explained("write to", path):
                write_all(disk, descriptor, chunk)
            yield chunk
    finally:
        disk.close(descriptor)


@contextlib.contextmanager
def private_folder() -> Iterator[str]:
    """A folder of this process's own, for files that we write and someone else reads.

    Yields:
        Its path; it is removed at the end, with all that is in it.

    Raises:
        StorageError: If it cannot be made.
    """
    with explained("write to", tempfile.gettempdir()):
        folder = tempfile.TemporaryDirectory(prefix="kcp-", ignore_cleanup_errors=True)
    with folder as path:
        yield path


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder of this process's own, for files that someone else writes and we copy.

    Yields:
        Its path; it is removed at the end, with all that is in it.

    Raises:
        StorageError: If it cannot be made, or where someone else could not write there.
    """
    with (
        explained("write to", tempfile.gettempdir()),
        tempfile.TemporaryDirectory(prefix="kcp-", ignore_cleanup_errors=True) as path,
    ):
        yield path
