"""Whether a file still holds the bytes that were committed, and where it first does not."""

from __future__ import annotations

from collections.abc import Iterable

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage.atomic import BLOCK, BlockDigest
from keras_callbacks_plus.storage.manifest import CheckpointRecord

__all__ = ["verify_bytes"]


def verify_bytes(chunks: Iterable[bytes], path: str, record: CheckpointRecord) -> None:
    """Compares the bytes of a file with its record.

    Args:
        chunks: All of its bytes, in order.
        path: Where it is, for the error.
        record: What was committed.

    Raises:
        CheckpointCorruptedError: If it differs; it holds the first range of at most 8 MiB that
            does.
    """
    digest = BlockDigest()
    for chunk in chunks:
        digest.update(memoryview(chunk))
    checksum, blocks = digest.finish()
    if (checksum, digest.size) == (record.checksum, record.size):
        return
    pairs = enumerate(zip(blocks, record.blocks, strict=False))
    wrong = next((i for i, (now, then) in pairs if now != then), None)
    offset = min(digest.size, record.size) if wrong is None else wrong * BLOCK
    end = min(offset - offset % BLOCK + BLOCK, max(digest.size, record.size))
    raise CheckpointCorruptedError(
        f"{path} is damaged between bytes {offset} and {end}: it has {digest.size} bytes with "
        f"{checksum[:19]}, and {record.size} bytes with {record.checksum[:19]} were committed. "
        "Use another checkpoint, and look after the disk.",
        path,
        offset,
        end,
    )
