"""A record of a checkpoint inside its own file, where Keras and HDF5 do not look.

It stands at the very end: as the comment of a `.keras` file, which is a zip, behind the end of an
HDF5 file, where that format allows other data, and behind a snapshot. So a lost manifest can be
rebuilt from the files; and it holds the checksum of all that stands before it, so that a damaged
file is not taken for a whole one then.
Layout: JSON, its CRC-32 and its length (4 bytes each, little-endian), magic.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from typing import Any

from zlib_ng.zlib_ng import crc32

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.storage.atomic import Sink

__all__ = [
    "MAX_RECORD",
    "Trailer",
    "encode_record",
    "parse_record",
    "read_record",
    "size_of_record",
]

_MAGIC = b"\nKCPREC1"
_TAIL = struct.Struct("<II8s")
MAX_RECORD = (1 << 16) - 1  # bytes; what a zip's comment may hold
_CONTENT = "content"  # where the checksum of what stands before is
_ANY_CHECKSUM = "crc32:00000000"


class Trailer:
    """A record for the end of a file that is not written yet.

    Args:
        record: As for `encode_record`, or `None` for nothing at all.

    Raises:
        InvalidArgumentError: As `encode_record` does.

    Attributes:
        size: Bytes.
    """

    def __init__(self, record: Mapping[str, Any] | None) -> None:
        self._record = record
        self.size = 0 if record is None else len(encode_record(record, _ANY_CHECKSUM))

    def after(self, sink: Sink) -> bytes:
        """The bytes to put behind all that was written, `size` of them.

        Args:
            sink: Where it was written to. Without a record it is not asked for anything.
        """
        return b"" if self._record is None else encode_record(self._record, sink.checksum)


def encode_record(record: Mapping[str, Any], content: str | None = None) -> bytes:
    """The bytes to put at the end of a file.

    Args:
        record: What is known of the checkpoint, in JSON types; NaN and infinity are fine.
        content: The checksum of what stands before, `"crc32:<hex>"`. Defaults to `None`, for a
            file that has some of its own.

    Raises:
        InvalidArgumentError: If it takes more than 64 KiB.
    """
    record = record if content is None else {**record, _CONTENT: content}
    text = json.dumps(record).encode()
    data = text + _TAIL.pack(crc32(text), len(text), _MAGIC)
    if len(data) > MAX_RECORD:
        raise InvalidArgumentError(
            "record",
            f"{len(data)} bytes of JSON",
            "at most 64 KiB of JSON",
            "Keep the values of the metrics only.",
        )
    return data


def read_record(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads what `encode_record` made from the end of a file.

    Args:
        path: The file.

    Returns:
        The record, or `None` where the file has none that is whole.

    Raises:
        OSError: If the file cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_RECORD))
        return parse_record(file.read())[0]


def parse_record(tail: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """The record at the end of a file's last `MAX_RECORD` bytes, or `None`.

    And the checksum of what stands before it, or `None` where it holds none.
    """
    size = size_of_record(tail)
    if size == 0:
        return None, None
    record = json.loads(tail[len(tail) - size : -_TAIL.size])
    return (record, record.pop(_CONTENT, None)) if isinstance(record, dict) else (None, None)


def size_of_record(tail: bytes) -> int:
    """How many bytes the record at the end of a file takes; 0 without one that is whole."""
    if len(tail) < _TAIL.size:
        return 0
    checksum, length, magic = _TAIL.unpack(tail[-_TAIL.size :])
    size = int(length) + _TAIL.size
    if magic != _MAGIC or size > len(tail):
        return 0
    text = tail[len(tail) - size : -_TAIL.size]
    return size if crc32(text) == checksum else 0
