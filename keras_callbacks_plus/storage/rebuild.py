"""From the files of a folder back to its records, where the manifest is lost.

Each checkpoint carries what the manifest said of it at its end (`file_record`). What that cannot
hold, its size and checksum, is read from the file; so a file is taken as it is found, except that a
damaged zip archive, which shows that it is, is left out.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterable

from keras_callbacks_plus.storage.atomic import BLOCK, BlockDigest
from keras_callbacks_plus.storage.file_record import read_record
from keras_callbacks_plus.storage.manifest import CheckpointRecord, record_from_json

__all__ = ["digest_of_file", "rebuilt_records"]

_FOUND = "found in the folder when the manifest was lost"


def digest_of_file(path: str) -> tuple[int, str, tuple[str, ...]]:
    """Reads a whole file.

    Args:
        path: The file.

    Returns:
        Its size in bytes, its checksum, and those of its blocks.
    """
    digest = BlockDigest()
    with open(path, "rb") as file:
        while chunk := file.read(BLOCK):
            digest.update(memoryview(chunk))
    return (digest.size, *digest.finish())


def rebuilt_records(
    directory: str, names: Iterable[str], tell: Callable[[str], None]
) -> tuple[CheckpointRecord, ...]:
    """The records of all files in a folder that carry one, oldest first.

    Args:
        directory: The folder.
        names: The names of its files.
        tell: Takes a sentence for each file that carries a record and is left out.

    Returns:
        The records, numbered anew.
    """
    found = []
    for name in names:
        path = os.path.join(directory, name)
        if not os.path.isfile(path):
            continue
        carried = read_record(path)
        if carried is None:
            continue
        if name.endswith(".keras") and not _is_whole_archive(path):
            tell(f"{path} is damaged, and is not listed.")
            continue
        size, checksum, blocks = digest_of_file(path)
        content = {**carried, "path": name, "size": size, "checksum": checksum, "blocks": blocks}
        try:
            found.append(record_from_json({**content, "sequence": 0, "kept_because": _FOUND}))
        except (KeyError, TypeError, ValueError) as error:
            tell(f"{path} carries a record that makes no sense ({error!r}), and is not listed.")
    found.sort(key=lambda record: (record.time, record.path))
    return tuple(record.with_sequence(number) for number, record in enumerate(found))


def _is_whole_archive(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError):
        return False
