"""Stage, write, fsync, rename, fsync the folder: a file is whole under its name, or not there."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from keras_callbacks_plus.storage.checksums import BlockDigest, encode_blocks
from keras_callbacks_plus.storage.direct import page_aligned, whole_pages
from keras_callbacks_plus.storage.filesystem import FileSystem, write_all

__all__ = ["Bytes", "Payload", "Sink", "Staged", "discard", "is_staging_name", "publish", "stage"]

_COUNTER = itertools.count()
_STAGING = re.compile(r"^\..+\.\d+-\d+\.kcp-tmp$")
BLOCK = 8 << 20  # bytes that are read at once, and sent to the disk at once
_AT_ONCE = 4 << 20  # bytes that are written at once
_IN_CACHE = 256 << 10  # bytes: what has been copied is still there when its checksum is taken


class Sink(Protocol):
    """Where a payload writes its bytes, in order; it cannot seek."""

    def write(self, data: Any, /) -> int:
        """Takes a bytes-like object, all of it, and returns its length in bytes."""

    def tell(self) -> int:
        """How many bytes have been written."""

    @property
    def checksum(self) -> str:
        """`"crc32:<hex>"` of all bytes that have been written."""


class Payload(Protocol):
    """Something that can write itself."""

    def write_to(self, sink: Sink) -> None:
        """Writes all bytes, in order. May run in another thread than the one that made it."""


class Bytes:
    """A payload that is in memory.

    Args:
        data: Its bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def write_to(self, sink: Sink) -> None:
        """See `Payload`."""
        sink.write(self._data)


@dataclass(frozen=True)
class Staged:
    """A file that is complete and durable under a hidden name.

    It stays open, and so locked, until it is published or discarded: that is how a sweep tells it
    from one that a crash has left.

    Args:
        path: The hidden name.
        descriptor: The open file.
        size: Bytes.
        checksum: `"crc32:<hex>"` of all bytes.
        blocks: As in `CheckpointRecord`, like the next.
        block_size: Bytes in a block.
    """

    path: str
    descriptor: int
    size: int
    checksum: str
    blocks: str
    block_size: int


class _CheckingSink:
    """Writes to an open file in large pieces, and checksums the very bytes that are written.

    Whole pages of memory are written from where they are. All else is gathered in memory of which
    that is true.
    """

    def __init__(self, filesystem: FileSystem, descriptor: int) -> None:
        self._filesystem = filesystem
        self._descriptor = descriptor
        self._digest = BlockDigest()
        self._gathered = page_aligned(_AT_ONCE)
        self._count = 0  # bytes of it that are not written yet
        self._sent = 0  # bytes that the disk has been told to begin with

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            left = np.frombuffer(view[done : done + _AT_ONCE], np.uint8)
            done += self._write_from_there(left) or self._gather(left[:_IN_CACHE])
        return done

    def _write_from_there(self, data: np.ndarray[Any, Any]) -> int:
        """Returns how many bytes could be, which may be none."""
        count = whole_pages(data, self.tell())
        if count:
            self.flush()
            self._digest.update(data[:count].data)
            self._put(data[:count])
        return count

    def _gather(self, data: np.ndarray[Any, Any]) -> int:
        free = self._gathered[self._count :][: len(data)]
        np.copyto(free, data[: len(free)])
        self._digest.update(free.data)
        self._count += len(free)
        if self._count == _AT_ONCE:
            self.flush()
        return len(free)

    def flush(self) -> None:
        """Writes what is gathered."""
        self._put(self._gathered[: self._count])
        self._count = 0

    def _put(self, data: np.ndarray[Any, Any]) -> None:
        write_all(self._filesystem, self._descriptor, data)
        waiting = self.tell() - self._sent
        if waiting >= BLOCK:  # so that the disk works while the rest is copied
            self._filesystem.start_sync(self._descriptor, self._sent, waiting)
            self._sent += waiting

    def tell(self) -> int:
        return self._digest.size

    @property
    def checksum(self) -> str:
        return self._digest.checksum

    def finish(self, path: str) -> Staged:
        digest = self._digest
        blocks = encode_blocks(digest.blocks)
        return Staged(
            path, self._descriptor, digest.size, digest.checksum, blocks, digest.block_size
        )


def is_staging_name(name: str) -> bool:
    """Whether a file's name is one that `stage` gives."""
    return _STAGING.match(name) is not None


def stage(
    filesystem: FileSystem,
    folder: str,
    name: str,
    payload: Payload,
    alone: contextlib.AbstractContextManager[object] | None = None,
) -> Staged:
    """Writes a payload under a hidden name in the folder it will live in, and makes it durable.

    Args:
        filesystem: Does the work.
        folder: The folder.
        name: The name it will have.
        payload: The bytes.
        alone: Keeps sweeps out until the hidden file is locked; `None` where they are already.

    Returns:
        The file, to be given to `publish` or `discard`.

    Raises:
        OSError: If anything fails; the hidden file is removed.
    """
    path = filesystem.join(folder, f".{name}.{os.getpid()}-{next(_COUNTER)}.kcp-tmp")
    with alone or contextlib.nullcontext():
        descriptor = filesystem.create(path, filesystem.join(folder, name))
    try:
        sink = _CheckingSink(filesystem, descriptor)
        payload.write_to(sink)
        sink.flush()
        filesystem.sync(descriptor)
    except BaseException:
        _abandon(filesystem, path, descriptor)
        raise
    return sink.finish(path)


def publish(filesystem: FileSystem, staged: Staged, final_path: str) -> None:
    """Gives a staged file its name, durably.

    Args:
        filesystem: Does the work.
        staged: What `stage` returned.
        final_path: The name; a file that has it is replaced.

    Raises:
        OSError: If anything fails; the hidden file is removed if it still is one.
    """
    descriptor: int | None = staged.descriptor
    try:
        if sys.platform == "win32":  # where an open file cannot be renamed
            filesystem.close(staged.descriptor)
            descriptor = None  # by the next line it may be somebody else's
        filesystem.rename(staged.path, final_path)
    except BaseException:
        _abandon(filesystem, staged.path, descriptor)
        raise
    if descriptor is not None:
        filesystem.close(descriptor)
    filesystem.sync_folder(os.path.dirname(final_path) or ".")


def discard(filesystem: FileSystem, staged: Staged) -> None:
    """Removes a staged file that will not be published.

    Args:
        filesystem: Does the work.
        staged: What `stage` returned.
    """
    _abandon(filesystem, staged.path, staged.descriptor)


def _abandon(filesystem: FileSystem, path: str, descriptor: int | None) -> None:
    """Closes, if it is open, and removes on the way out of an error.

    The disk may refuse this too: the error on the way is the one to tell, and the next sweep
    removes what is left.
    """
    if descriptor is not None:
        with contextlib.suppress(OSError):
            filesystem.close(descriptor)
    with contextlib.suppress(OSError):
        filesystem.remove(path)
