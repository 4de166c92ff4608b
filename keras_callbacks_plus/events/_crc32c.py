"""CRC-32C, as TensorBoard's records use it: by an extension module, else by tables."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import cast

__all__ = ["crc32c_by_tables", "find_crc32c", "masked"]

_POLYNOMIAL = (
    0x82F63B78  # Castagnoli's, reflected: https://www.rfc-editor.org/rfc/rfc3720#appendix-B
)
_EIGHT_BYTES = struct.Struct("<4H")


def find_crc32c() -> Callable[[bytes], int]:
    """The fastest CRC-32C at hand: `google_crc32c` or `crc32c` where installed, else tables.

    Measured on events of 41 and of 120 bytes: 0.7 us with an extension module, 2 and 8 us here.
    """
    for module, function in (("google_crc32c", "value"), ("crc32c", "crc32c")):
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        return cast("Callable[[bytes], int]", getattr(found, function))
    return crc32c_by_tables


def masked(crc: int) -> int:
    """A CRC as it is stored, so that the CRC of bytes that hold CRCs stays meaningful.

    https://github.com/tensorflow/tensorflow/blob/v2.16.1/tensorflow/core/lib/hash/crc32c.h
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c_by_tables(data: bytes) -> int:
    """CRC-32C, eight bytes at a time (Kounavis and Berry, 2005, "slicing by 8"), in 4 lookups.

    Args:
        data: The bytes.

    Returns:
        The checksum, an unsigned 32-bit integer.
    """
    single, words = _tables()
    first, second, third, fourth = words
    crc = 0xFFFFFFFF
    whole = len(data) & ~7
    for a, b, c, d in _EIGHT_BYTES.iter_unpack(data[:whole]):
        crc = first[a ^ (crc & 0xFFFF)] ^ second[b ^ (crc >> 16)] ^ third[c] ^ fourth[d]
    for byte in data[whole:]:
        crc = single[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _tables() -> tuple[list[int], tuple[list[int], ...]]:
    """The table of one byte, and one for each pair of bytes at positions 0, 2, 4 and 6 of eight.

    Made on first use: 0.1 s and 10 MB.
    """
    single = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        single.append(crc)
    distances = [single]  # distances[n][byte]: the effect of a byte that n bytes follow
    for _ in range(7):
        distances.append([single[crc & 0xFF] ^ (crc >> 8) for crc in distances[-1]])
    return single, tuple(
        [low[word & 0xFF] ^ high[word >> 8] for word in range(1 << 16)]
        for low, high in ((distances[7 - i], distances[6 - i]) for i in (0, 2, 4, 6))
    )
