"""A record of a checkpoint inside its own file, where Keras and HDF5 do not look.

It stands at the very end: as the comment of a `.keras` file, which is a zip, behind the end of an
HDF5 file, where that format allows other data, and behind a snapshot. So a lost manifest can be
rebuilt from the files.
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

__all__ = ["MAX_RECORD", "encode_record", "parse_record", "read_record", "size_of_record"]

_MAGIC = b"\nKCPREC1"
_TAIL = struct.Struct("<II8s")
MAX_RECORD = (1 << 16) - 1  # bytes; what a zip's comment may hold


def encode_record(record: Mapping[str, Any]) -> bytes:
    """The bytes to put at the end of a file.

    Args:
        record: What is known of the checkpoint, in JSON types; NaN and infinity are fine.

    Raises:
        InvalidArgumentError: If it takes more than 64 KiB.
    """
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
        return parse_record(file.read())


def parse_record(tail: bytes) -> dict[str, Any] | None:
    """The record at the end of a file's last `MAX_RECORD` bytes, or `None`."""
    size = size_of_record(tail)
    if size == 0:
        return None
    record = json.loads(tail[len(tail) - size : -_TAIL.size])
    return record if isinstance(record, dict) else None


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
