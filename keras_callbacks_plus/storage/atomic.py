"""Stage, write, fsync, rename, fsync the folder: a file is whole under its name, or not there."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from keras_callbacks_plus.storage.checksums import BlockDigest, encode_blocks
from keras_callbacks_plus.storage.filesystem import FileSystem, write_all

__all__ = ["Bytes", "Payload", "Sink", "Staged", "discard", "is_staging_name", "publish", "stage"]

_COUNTER = itertools.count()
_STAGING = re.compile(r"^\..+\.\d+-\d+\.kcp-tmp$")
BLOCK = 8 << 20  # bytes that are read at once, and sent to the disk at once


class Sink(Protocol):
    """Where a payload writes its bytes, in order; it cannot seek."""

    def write(self, data: Any, /) -> int:
        """Takes a bytes-like object, all of it, and returns its length in bytes."""

    def tell(self) -> int:
        """How many bytes have been written."""


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
    """Writes to an open file, and checksums the very chunks that are written."""

    def __init__(self, filesystem: FileSystem, descriptor: int) -> None:
        self._filesystem = filesystem
        self._descriptor = descriptor
        self._digest = BlockDigest()

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        position = 0
        while position < len(view):  # up to the end of a block
            start = self._digest.size
            chunk = view[position : position + BLOCK - start % BLOCK]
            write_all(self._filesystem, self._descriptor, chunk)
            self._digest.update(chunk)
            position += len(chunk)
            if self._digest.size % BLOCK == 0:  # so that the disk works while the rest is copied
                end = self._digest.size
                self._filesystem.start_sync(self._descriptor, end - BLOCK, BLOCK)
        return len(view)

    def tell(self) -> int:
        return self._digest.size

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
    alone: contextlib.AbstractContextManager[None] | None = None,
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
    try:
        if sys.platform == "win32":  # where an open file cannot be renamed
            filesystem.close(staged.descriptor)
        filesystem.rename(staged.path, final_path)
    except BaseException:
        discard(filesystem, staged)
        raise
    if sys.platform != "win32":
        filesystem.close(staged.descriptor)
    filesystem.sync_folder(os.path.dirname(final_path) or ".")


def discard(filesystem: FileSystem, staged: Staged) -> None:
    """Removes a staged file that will not be published.

    Args:
        filesystem: Does the work.
        staged: What `stage` returned.
    """
    _abandon(filesystem, staged.path, staged.descriptor)


def _abandon(filesystem: FileSystem, path: str, descriptor: int) -> None:
    """Closes and removes on the way out of an error.

    The disk may refuse this too: the error on the way is the one to tell, and the next sweep
    removes what is left.
    """
    with contextlib.suppress(OSError):
        filesystem.close(descriptor)
    with contextlib.suppress(OSError):
        filesystem.remove(path)
