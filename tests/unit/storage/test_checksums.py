"""Checksums of blocks: few whatever the size, and enough to name a byte."""

from __future__ import annotations

import random
import zlib

import pytest

from keras_callbacks_plus.storage.checksums import (
    BlockDigest,
    decode_blocks,
    encode_blocks,
    suspects,
)

KIB = 1 << 10


def digest_of(*chunks, block_size=None):
    digest = BlockDigest(block_size)
    for chunk in chunks:
        digest.update(memoryview(chunk))
    return digest


def test_they_are_the_crc_32_of_what_comes_before_however_the_bytes_arrive():
    data = random.Random(0).randbytes(700 * KIB)
    ends = [256 * KIB, 512 * KIB, 700 * KIB]
    for chunks in [(data,), (data[:3], data[3 : 600 * KIB], data[600 * KIB :])]:
        digest = digest_of(*chunks)
        assert digest.blocks == tuple(zlib.crc32(data[:end]) for end in ends)
        assert digest.checksum == f"crc32:{zlib.crc32(data):08x}"
        assert (digest.size, digest.block_size) == (700 * KIB, 256 * KIB)


@pytest.mark.parametrize(
    ("size", "block_size", "count"),
    [
        (0, 256 * KIB, 0),
        (1, 256 * KIB, 1),
        (256 * KIB, 256 * KIB, 1),
        (512 * 256 * KIB - 1, 256 * KIB, 512),
        (512 * 256 * KIB, 512 * KIB, 256),
        (512 * 256 * KIB + 1, 512 * KIB, 257),
        (300 * KIB * KIB, 1024 * KIB, 300),
    ],
)
def test_a_large_file_has_larger_blocks(size, block_size, count):
    chunk = bytes(8192 * KIB)
    digest = digest_of(*([chunk] * (size // len(chunk))), bytes(size % len(chunk)))
    assert (digest.block_size, len(digest.blocks)) == (block_size, count)
    if count > 3:
        assert digest.blocks[:3] == digest_of(chunk[: 3 * block_size], block_size=block_size).blocks


def test_a_given_size_of_blocks_stays():
    assert len(digest_of(bytes(600 * 4), block_size=4).blocks) == 600


def test_they_go_through_text():
    blocks = (0, 1, 0xFFFFFFFF, 0x12345678)
    assert decode_blocks(encode_blocks(blocks)) == blocks
    assert encode_blocks(()) == ""
    for text in ("AAA=", "****"):
        with pytest.raises(ValueError, match=r"checksums of 2 bytes|base64"):
            decode_blocks(text)


def test_one_wrong_byte_is_the_suspect():
    chosen = random.Random(1)
    for _ in range(200):
        data = bytearray(chosen.randbytes(chosen.randint(1, 2000)))
        then = zlib.crc32(data)
        place = chosen.randrange(len(data))
        data[place] ^= chosen.randint(1, 255)
        assert suspects(zlib.crc32(data), then, len(data)) == (place,)


def test_what_takes_more_than_one_byte_has_no_suspect():
    data = bytearray(1000)
    then = zlib.crc32(data)
    data[100] = data[101] = data[700] = 0xFF
    assert suspects(zlib.crc32(data), then, len(data)) == ()
