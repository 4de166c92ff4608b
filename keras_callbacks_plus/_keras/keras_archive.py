"""A `.keras` file, which is a zip of stored members, written from front to back.

The layout is the one that `zipfile` gives a file without `seek`, byte for byte, but that a large
member begins with a page, as in Android's archives, so that a disk takes it from where it is in
memory. That module takes its checksums with the standard library's CRC-32, too, which takes half as
long as writing to a disk.
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
https://developer.android.com/tools/zipalign
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zlib_ng.zlib_ng import crc32

from keras_callbacks_plus.storage.atomic import Sink
from keras_callbacks_plus.storage.direct import PAGE, WHOLE_PAGES

__all__ = ["archive_size", "write_archive"]

Member = tuple[Iterable[Any], int]

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64 = struct.Struct("<4sIQI")
_PLAIN, _WIDE = 20, 45  # the versions of the format that know numbers of 4 and of 8 bytes
_UNIX = 3 << 8  # the system whose permissions are recorded
_READ_AND_WRITE = 0o600 << 16
_CHECKSUM_BEHIND, _UTF_8 = 0x08, 0x800
_DATE = 1 << 5 | 1  # 1 January 1980, the first that a zip knows
_LIMIT = (1 << 31) - 1  # of what all readers take in four bytes
_MARK, _MANY = 0xFFFFFFFF, 0xFFFF  # "see the number of 8 bytes"
_PIECE = 4 << 20  # bytes that are written at once
_ALIGNMENT, _ALIGNMENT_EXTRA = struct.Struct("<3H"), 0xD935  # the kind of extra field for it


@dataclass
class _Entry:
    name: bytes
    flags: int
    offset: int
    version: int
    size: int = 0
    crc: int = 0


def write_archive(sink: Sink, members: Mapping[str, Member], comment_size: int = 0) -> None:
    """Writes a zip that is read by its directory, which stands at the end.

    The same members give the same bytes: every one bears the first date that a zip knows.

    Args:
        sink: Where to.
        members: By name: buffers, and how many bytes they are together.
        comment_size: How many bytes the caller will write behind it, as the comment of the zip; at
            most 65535. Defaults to 0.

    Raises:
        RuntimeError: If the buffers of a member are not as many bytes as was said.
    """
    start = sink.tell()
    entries = [
        _write_member(sink, name, buffers, size, sink.tell() - start)
        for name, (buffers, size) in members.items()
    ]
    directory = sink.tell() - start
    for entry in entries:
        sink.write(_central(entry))
    end = sink.tell() - start
    count, size = len(entries), end - directory
    if count > _MANY - 1 or max(directory, size) > _LIMIT:
        sink.write(
            _END_64.pack(b"PK\6\6", 44, _WIDE, _WIDE, 0, 0, count, count, size, directory)
            + _LOCATOR_64.pack(b"PK\6\7", 0, end, 1)
        )
        count = min(count, _MANY)
        directory, size = min(directory, _MARK), min(size, _MARK)
    sink.write(_END.pack(b"PK\5\6", 0, 0, count, count, size, directory, comment_size))


def archive_size(members: Mapping[str, Member]) -> int:
    """About how many bytes `write_archive` will write; not fewer."""
    names = sum(200 + 2 * len(name.encode()) for name in members)
    sizes = [size for _, size in members.values()]
    pages = PAGE * sum(size >= WHOLE_PAGES for size in sizes)
    return sum(sizes) + names + pages + 100


def _write_member(sink: Sink, name: str, buffers: Iterable[Any], size: int, offset: int) -> _Entry:
    """A sink cannot seek, so that the checksum stands behind the bytes."""
    encoded = name.encode()
    flags = _CHECKSUM_BEHIND | (0 if name.isascii() else _UTF_8)
    wide = size * 1.05 > _LIMIT
    entry = _Entry(encoded, flags, offset, _WIDE if wide else _PLAIN)
    extra = struct.pack("<2H2Q", 1, 16, 0, 0) if wide else b""
    if size >= WHOLE_PAGES:
        extra = _up_to_a_page(sink.tell() + _LOCAL.size + len(encoded) + len(extra)) + extra
    header = b"PK\3\4", entry.version, flags, 0, 0, _DATE
    sizes = (_MARK, _MARK) if wide else (0, 0)
    sink.write(_LOCAL.pack(*header, 0, *sizes, len(encoded), len(extra)) + encoded + extra)
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        for start in range(0, len(view), _PIECE):
            piece = view[start : start + _PIECE]
            entry.crc = crc32(piece, entry.crc)
            sink.write(piece)
        entry.size += len(view)
    if entry.size != size:
        raise RuntimeError(f"{name} has {entry.size} bytes, and {size} were announced")
    sink.write(struct.pack("<4sI2Q" if wide else "<4s3I", b"PK\7\x08", entry.crc, size, size))
    return entry


def _up_to_a_page(position: int) -> bytes:
    """What to add to a header that would end at a position, so that it ends where a page does."""
    count = -(position + _ALIGNMENT.size) % PAGE
    return _ALIGNMENT.pack(_ALIGNMENT_EXTRA, 2 + count, PAGE) + b"\0" * count


def _central(entry: _Entry) -> bytes:
    size, offset, wide = entry.size, entry.offset, []
    if size > _LIMIT:
        wide += [size, size]
        size = _MARK
    if offset > _LIMIT:
        wide.append(offset)
        offset = _MARK
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = _WIDE if wide else entry.version
    lengths = len(entry.name), len(extra), 0
    head = b"PK\1\2", version | _UNIX, version, entry.flags, 0, 0, _DATE
    return (
        _CENTRAL.pack(*head, entry.crc, size, size, *lengths, 0, 0, _READ_AND_WRITE, offset)
        + entry.name
        + extra
    )
