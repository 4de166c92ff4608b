"""From the files of a folder back to its records, where the manifest is lost.

Each checkpoint carries what the manifest said of it at its end (`file_record`), with the checksum
of what stands before. What that cannot hold, size and checksum of all, is read from the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from zlib_ng.zlib_ng import crc32

from keras_callbacks_plus.errors import ManifestError
from keras_callbacks_plus.storage.atomic import BLOCK
from keras_callbacks_plus.storage.checksums import BlockDigest, as_text, encode_blocks
from keras_callbacks_plus.storage.file_record import MAX_RECORD, parse_record, size_of_record
from keras_callbacks_plus.storage.filesystem import FileSystem
from keras_callbacks_plus.storage.manifest import CheckpointRecord, Manifest, record_from_json
from keras_callbacks_plus.storage.versions import is_version_of

__all__ = ["read_manifest", "read_or_rebuild", "rebuilt_records"]

_ENDINGS = (".keras", ".h5", ".kcp")
_FOUND = "found in the folder when the manifest was lost"


def read_manifest(
    filesystem: FileSystem, path: str, last: tuple[bytes, Manifest]
) -> tuple[bytes, Manifest]:
    """The manifest and its bytes; an empty one where there is none.

    Args:
        filesystem: Where it is.
        path: The file.
        last: What was read or written before, which is returned where the bytes are still the same.

    Raises:
        ManifestError: If it is damaged, or of a version that is not known here.
    """
    try:
        data = b"".join(filesystem.read(path, BLOCK))
    except FileNotFoundError:
        return b"", Manifest()
    return last if data == last[0] else (data, Manifest.from_bytes(data, path))


def read_or_rebuild(
    filesystem: FileSystem,
    directory: str,
    path: str,
    tell: Callable[[str], None],
    read: Callable[[], Manifest],
) -> Manifest:
    """The manifest; where it is missing or damaged, what the files say of themselves.

    Args:
        filesystem: Where it is.
        directory: The folder.
        path: The manifest's file; a damaged one is set aside, and never removed.
        tell: Takes a sentence for each thing that a user should know of.
        read: Reads the manifest.

    Raises:
        ManifestError: If it is of a version that is not known here.
    """
    if filesystem.exists(path):
        try:
            return read()
        except ManifestError as error:
            if error.is_newer:
                raise
            number = 0
            while filesystem.exists(f"{path}.damaged-{number}"):
                number += 1
            filesystem.rename(path, f"{path}.damaged-{number}")
            tell(f"{error} It was set aside as {path}.damaged-{number}.")
    records = rebuilt_records(filesystem, directory, tell)
    if records:
        tell(
            f"{directory} had no manifest; its {len(records)} checkpoints were listed again from "
            f"what the files say of themselves: {', '.join(record.path for record in records)}."
        )
    number = max((record.sequence for record in records), default=-1) + 1
    return Manifest(records=records, next_sequence=number)


def rebuilt_records(
    filesystem: FileSystem, directory: str, tell: Callable[[str], None]
) -> tuple[CheckpointRecord, ...]:
    """The records of all files in a folder that carry one, oldest first.

    Args:
        filesystem: Where it is.
        directory: The folder.
        tell: Takes a sentence for each file that carries a record and is left out.

    Returns:
        The records, with numbers not below those that they were saved with.
    """
    found = []
    for name in filesystem.names(directory):
        if name.startswith(".") or not name.endswith(_ENDINGS):
            continue
        path = filesystem.join(directory, name)
        try:
            sums, carried, is_whole = _read(filesystem, path)
        except IsADirectoryError:
            continue
        if carried is None:
            continue
        if not is_whole:
            tell(f"{path} is damaged, and is not listed.")
            continue
        wished = str(carried.pop("name", name))
        if not is_version_of(name, wished):
            tell(
                f"{path} is a copy: it was saved as {wished}. It is left as it is, and not listed."
            )
            continue
        carried.setdefault("sequence", 0)
        content = {**carried, **sums, "path": name, "kept_because": _FOUND}
        try:
            found.append(record_from_json(content))
        except (KeyError, TypeError, ValueError) as error:
            tell(f"{path} carries a record that makes no sense ({error!r}), and is not listed.")
    found.sort(key=lambda record: (record.time, record.path))
    numbers = itertools.accumulate(found, lambda last, r: max(last + 1, r.sequence), initial=-1)
    return tuple(r.with_sequence(n) for r, n in zip(found, list(numbers)[1:], strict=True))


def _read(filesystem: FileSystem, path: str) -> tuple[dict[str, Any], dict[str, Any] | None, bool]:
    """Size and checksums of a file, the record it carries, and whether that says it is whole."""
    digest = BlockDigest()
    before, tail = 0, b""  # the checksum of all but the tail
    for chunk in filesystem.read(path, BLOCK):
        digest.update(memoryview(chunk))
        data = tail + chunk
        cut = max(0, len(data) - MAX_RECORD)
        before, tail = crc32(memoryview(data)[:cut], before), data[cut:]
    carried, content = parse_record(tail)
    before = crc32(tail[: len(tail) - size_of_record(tail)], before)
    blocks = {"blocks": encode_blocks(digest.blocks), "block_size": digest.block_size}
    sums = {"size": digest.size, "checksum": digest.checksum, **blocks}
    return sums, carried, content in (None, as_text(before))
