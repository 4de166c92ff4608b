"""The bytes of an event file: events as protocol buffers, in records with checksums.

The three kinds of event that are written have three fixed fields each, so they are packed here by
hand: it is faster than through the `protobuf` package, and there is nothing to import, neither
here nor in the training process. The tests compare every byte with `tensorboard.compat.proto`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from keras_callbacks_plus.events._crc32c import find_crc32c, masked

__all__ = ["EventPacker", "Record", "read_records", "step_of_summary"]

_FILE_VERSION = b"brain.Event:2"
_FIXED64 = struct.Struct("<d")
_FIXED32 = struct.Struct("<f")
_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_LARGEST = 64 << 20  # a longer "record" is damage: TensorBoard's own limit for an event


class EventPacker:
    """Packs events into records that can be appended to a file as they are.

    Args:
        crc32c: CRC-32C of bytes. Defaults to the fastest one installed.
    """

    def __init__(self, crc32c: Callable[[bytes], int] | None = None) -> None:
        self._crc32c = crc32c or find_crc32c()
        self._heads: dict[int, bytes] = {}
        self._tags: dict[str, bytes] = {}

    def file_version(self, wall_time: float) -> bytes:
        """The first record of every file."""
        return self._frame(b"\x09" + _FIXED64.pack(wall_time) + b"\x1a" + _sized(_FILE_VERSION))

    def start(self, wall_time: float, step: int) -> bytes:
        """`SessionLog(START)`: readers forget what earlier files hold from `step` on."""
        return self._frame(_time_and_step(wall_time, step) + b"\x3a\x02\x08\x01")

    def scalars(self, wall_time: float, step: int, values: Mapping[str, float]) -> bytes:
        """One event with the scalars of one step.

        Raises:
            TypeError: If a value is not a number.
        """
        parts = []
        for tag, value in values.items():
            head = self._tags.get(tag) or self._add_tag(tag)
            parts.append(head + _float32(value))
        return self._frame(_time_and_step(wall_time, step) + b"\x2a" + _sized(b"".join(parts)))

    def _add_tag(self, tag: str) -> bytes:
        """What stands before a value: the field, its length, the tag, the field of the number."""
        body = b"\x0a" + _sized(tag.encode()) + b"\x15"
        self._tags[tag] = head = b"\x0a" + _varint(len(body) + _FIXED32.size) + body
        return head

    def _frame(self, event: bytes) -> bytes:
        head = self._heads.get(len(event))
        if head is None:  # the same few lengths come again and again
            length = _LENGTH.pack(len(event))
            self._heads[len(event)] = head = length + _CRC.pack(masked(self._crc32c(length)))
        return head + event + _CRC.pack(masked(self._crc32c(event)))


def _time_and_step(wall_time: float, step: int) -> bytes:
    packed = b"\x09" + _FIXED64.pack(wall_time)
    return packed + b"\x10" + _varint(step) if step else packed


def _float32(value: float) -> bytes:
    try:
        return _FIXED32.pack(value)
    except OverflowError:  # a finite number beyond 3.4e38 is infinite as a 32-bit one
        return _FIXED32.pack(math.copysign(math.inf, value))
    except struct.error as error:
        raise TypeError(f"A scalar must be a number. Received: {value!r}.") from error


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


@lru_cache(maxsize=1024)
def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    packed = bytearray()
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)
    return bytes(packed)


class Record(NamedTuple):
    """One whole record of a file.

    Args:
        start: Offset of its first byte.
        end: Offset behind its last byte.
        event: The serialized event, or `None` where its checksum does not hold.
    """

    start: int
    end: int
    event: bytes | None


def read_records(file: BinaryIO, crc32c: Callable[[bytes], int]) -> Iterator[Record]:
    """The records of a file, up to its end or to the first place that is torn.

    Args:
        file: Open for reading, at its beginning.
        crc32c: CRC-32C of bytes.
    """
    start = 0
    while len(head := file.read(12)) == 12:
        (length,) = _LENGTH.unpack_from(head)
        if length > _LARGEST or _CRC.unpack_from(head, 8)[0] != masked(crc32c(head[:8])):
            return
        body = file.read(length + 4)
        if len(body) != length + 4:
            return
        event = body[:-4]
        intact = _CRC.unpack_from(body, length)[0] == masked(crc32c(event))
        end = start + 12 + len(body)
        yield Record(start, end, event if intact else None)
        start = end


def step_of_summary(event: bytes) -> int | None:
    """The step of an event that holds a summary; `None` for any other event.

    Args:
        event: A serialized `tensorboard.Event`, by whatever program.

    Raises:
        ValueError: If the bytes are not a protocol buffer.
    """
    step, has_summary, position = 0, False, 0
    while position < len(event):
        key, position = _read_varint(event, position)
        field, kind = key >> 3, key & 7
        if kind == 0:
            number, position = _read_varint(event, position)
            if field == 2:
                step = number - (1 << 64) if number >> 63 else number
        elif kind == 1:
            position += 8
        elif kind == 2:
            length, position = _read_varint(event, position)
            has_summary = has_summary or field == 5
            position += length
        elif kind == 5:
            position += 4
        else:
            raise ValueError(f"wire type {kind} is not one of a protocol buffer of today")
    if position != len(event):
        raise ValueError("a protocol buffer ends within a field")
    return step if has_summary else None


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise ValueError("a protocol buffer ends within a number")
