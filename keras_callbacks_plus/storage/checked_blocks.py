"""A stream that is followed by the checksum of each of its blocks, and is read back in parallel.

Layout: the bytes, the CRC-32 of each block of them, the number of blocks and the CRC-32 of what
stands between the bytes and itself (4 bytes each, little-endian).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from zlib_ng.zlib_ng import crc32

from keras_callbacks_plus.errors import CheckpointCorruptedError

__all__ = ["BLOCK", "BlockSums", "read_checked"]

BLOCK = 2 << 20  # bytes: what has been read is still in the cache when its checksum is taken
_THREADS = 4  # enough to keep the disk and the memory bus busy
_END = struct.Struct("<II")


class BlockSums:
    """The checksums of a stream, taken while it is written."""

    def __init__(self) -> None:
        self._size = 0
        self._crc = 0
        self._sums: list[int] = []

    def update(self, data: Any) -> None:
        """Takes the next bytes.

        Args:
            data: A bytes-like object.
        """
        view = memoryview(data).cast("B")
        while len(view):
            part = view[: BLOCK - self._size % BLOCK]
            self._crc = crc32(part, self._crc)
            self._size += len(part)
            if self._size % BLOCK == 0:
                self._end_block()
            view = view[len(part) :]

    def _end_block(self) -> None:
        self._sums.append(self._crc)
        self._crc = 0

    def finish(self) -> bytes:
        """What to write behind the stream."""
        if self._size % BLOCK:
            self._end_block()
        table = struct.pack(f"<{len(self._sums)}II", *self._sums, len(self._sums))
        return table + struct.pack("<I", crc32(table))


def read_checked(path: str, size: int) -> np.ndarray[Any, Any]:
    """Reads a stream, and compares each of its blocks with its checksum.

    Several threads read, because a checksum takes about as long as the reading itself.

    Args:
        path: The file.
        size: Bytes of it up to the end of the checksums.

    Returns:
        The bytes before the checksums.

    Raises:
        CheckpointCorruptedError: If a block is not what was written; the message has its place.
    """
    with open(path, "rb") as file:
        sums, length = _table(file, path, size)
    data = np.empty(length, np.uint8)
    view = data.data

    def check(numbers: range) -> None:
        with open(path, "rb", buffering=0) as file:
            for number in numbers:
                block = view[number * BLOCK : (number + 1) * BLOCK]
                _fill(file, number * BLOCK, block)
                if crc32(block) != sums[number]:
                    raise _damaged(path, number * BLOCK, number * BLOCK + len(block))

    parts = [range(start, len(sums), _THREADS) for start in range(min(_THREADS, len(sums)))]
    _in_parallel(check, parts)
    return data


def _table(file: Any, path: str, size: int) -> tuple[tuple[int, ...], int]:
    """The checksums, and how many bytes they are of."""
    if size < _END.size:
        raise _damaged(path, 0, size)
    file.seek(size - _END.size)
    count, crc = _END.unpack(file.read(_END.size))
    length = size - _END.size - 4 * count
    if length < 0 or -(-length // BLOCK) != count:
        raise _damaged(path, size - _END.size, size)
    file.seek(length)
    table = file.read(4 * count + 4)
    if crc32(table) != crc:
        raise _damaged(path, length, size)
    return struct.unpack(f"<{count}I", table[:-4]), length


def _fill(file: Any, offset: int, block: memoryview) -> None:
    file.seek(offset)
    done = 0
    while done < len(block):
        count = file.readinto(block[done:])
        if not count:
            raise _damaged(file.name, offset + done, offset + len(block))
        done += count


def _in_parallel(task: Callable[[range], None], parts: list[range]) -> None:
    if len(parts) == 1:
        task(parts[0])
        return
    with ThreadPoolExecutor(_THREADS) as pool:
        for done in [pool.submit(task, part) for part in parts]:
            done.result()


def _damaged(path: str, start: int, end: int) -> CheckpointCorruptedError:
    what = f"{path} is damaged or cut: bytes {start} to {end} are not what was written."
    return CheckpointCorruptedError(what, path, start, end)
