"""Whether a file still holds the bytes that were committed, and where it first does not."""

from __future__ import annotations

from collections.abc import Iterable

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage.checksums import BlockDigest, decode_blocks, suspects
from keras_callbacks_plus.storage.manifest import CheckpointRecord

__all__ = ["verify_bytes"]


def verify_bytes(chunks: Iterable[bytes], path: str, record: CheckpointRecord) -> None:
    """Compares the bytes of a file with its record.

    Args:
        chunks: All of its bytes, in order.
        path: Where it is, for the error.
        record: What was committed.

    Raises:
        CheckpointCorruptedError: If it differs; it holds the first block that does, and which byte
            of it that is, if it is one alone.
    """
    digest = BlockDigest(record.block_size)
    for chunk in chunks:
        digest.update(memoryview(chunk))
    if (digest.checksum, digest.size) == (record.checksum, record.size):
        return
    offset, end, one = _first_difference(digest, record)
    places = " or ".join(f"byte {place}" for place in one)
    raise CheckpointCorruptedError(
        f"{path} is damaged between bytes {offset} and {end}: it has {digest.size} bytes with "
        f"{digest.checksum}, and {record.size} bytes with {record.checksum[:19]} were committed. "
        + (f"If one byte alone is wrong, it is {places}. " if one else "")
        + "Use another checkpoint, and look after the disk.",
        path,
        offset,
        end,
        one,
    )


def _first_difference(
    digest: BlockDigest, record: CheckpointRecord
) -> tuple[int, int, tuple[int, ...]]:
    """The first block that differs, and which byte of it would explain it alone."""
    shorter, longer = sorted((digest.size, record.size))
    block = digest.block_size
    for number, (now, then) in enumerate(
        zip(digest.blocks, decode_blocks(record.blocks), strict=False)
    ):
        if now != then:
            offset, end = number * block, min((number + 1) * block, longer)
            whole = end <= shorter  # in both
            one = suspects(now, then, end - offset) if whole else ()
            return offset, end, tuple(offset + place for place in one)
    return shorter, min(shorter - shorter % block + block, longer), ()
