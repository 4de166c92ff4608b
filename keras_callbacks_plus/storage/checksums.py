"""CRC-32 of a stream and of its beginnings, and from two of them to the byte that differs."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable

from zlib_ng.zlib_ng import crc32

__all__ = ["BlockDigest", "as_text", "decode_blocks", "encode_blocks", "suspects"]

_SMALLEST = 256 << 10  # bytes; a smaller block is another call, in which training may be waited for
_MOST = 512  # checksums of one file, so that the manifest stays small
_POLYNOMIAL = 0xEDB88320  # of CRC-32, the lowest bit first, as zlib has it


class BlockDigest:
    """CRC-32 of a stream, at its end and at the end of each block.

    It finds what a disk does to a file: any flipped bit, any damage within 32 bits, and of all
    else all but one in four billion. A cryptographic digest would take longer than the writing,
    and guard against nothing more: who can replace a file can replace its checksum beside it.

    Args:
        block_size: Bytes in a block. Defaults to `None`: 256 KiB, and twice as much each time that
            there would be 512 blocks.
    """

    def __init__(self, block_size: int | None = None) -> None:
        self.size = 0
        self.block_size = block_size or _SMALLEST
        self._most = _MOST if block_size is None else None
        self._crc = 0
        self._blocks: list[int] = []

    def update(self, data: memoryview) -> None:
        """Takes the next bytes."""
        while len(data):
            part = data[: self.block_size - self.size % self.block_size]
            self._crc = crc32(part, self._crc)
            self.size += len(part)
            if self.size % self.block_size == 0:
                self._blocks.append(self._crc)
                if len(self._blocks) == self._most:
                    self._blocks = self._blocks[1::2]
                    self.block_size *= 2
            data = data[len(part) :]

    @property
    def checksum(self) -> str:
        """Of all bytes so far."""
        return as_text(self._crc)

    @property
    def blocks(self) -> tuple[int, ...]:
        """The checksums of the bytes up to the end of each block, and up to the end."""
        rest = (self._crc,) if self.size % self.block_size else ()
        return (*self._blocks, *rest)


def as_text(crc: int) -> str:
    """A checksum as it is written down."""
    return f"crc32:{crc:08x}"


def encode_blocks(blocks: Iterable[int]) -> str:
    """Checksums as text: base64 of four bytes each, the lowest first."""
    return base64.b64encode(b"".join(struct.pack("<I", crc) for crc in blocks)).decode()


def decode_blocks(text: str) -> tuple[int, ...]:
    """What `encode_blocks` was given.

    Raises:
        ValueError: If it is not such a text.
    """
    data = base64.b64decode(text, validate=True)
    if len(data) % 4:
        raise ValueError(f"checksums of {len(data)} bytes")
    return struct.unpack(f"<{len(data) // 4}I", data)


def suspects(now: int, then: int, length: int) -> tuple[int, ...]:
    """Which byte of a block would explain a wrong checksum, if it is one byte alone.

    CRC-32 is linear: what one wrong byte does to it is a matter of its place and of the flipped
    bits only. So the difference is taken back, byte by byte, and each place is a suspect where it
    is one that a single byte makes. Of a block of 256 KiB that is the one which was changed, and
    in one of 60 another one too.

    Args:
        now: The checksum up to the end of the block.
        then: The one that is right.
        length: Bytes in the block.

    Returns:
        Their places in the block, the lowest first.
    """
    table = [_after_one(byte) for byte in range(256)]
    made_by_one = frozenset(table[1:])
    by_highest = {value >> 24: byte for byte, value in enumerate(table)}
    difference = now ^ then
    found = []
    for place in range(length - 1, -1, -1):
        if difference in made_by_one:
            found.append(place)
        byte = by_highest[difference >> 24]
        difference = ((difference ^ table[byte]) << 8) & 0xFFFFFFFF | byte
    return tuple(reversed(found))


def _after_one(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte
