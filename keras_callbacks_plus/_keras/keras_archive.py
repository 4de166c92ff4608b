"""A `.keras` file, which is a zip of stored members, written from front to back."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from typing import Any, cast

from keras_callbacks_plus.storage.atomic import Sink

__all__ = ["archive_size", "write_archive"]

Member = tuple[Iterable[Any], int]


def write_archive(sink: Sink, members: Mapping[str, Member], comment: bytes = b"") -> None:
    """Writes a zip that is read by its directory, which stands at the end.

    The same members give the same bytes: every one bears the first date that a zip knows.

    Args:
        sink: Where to.
        members: By name: buffers, and how many bytes they are together.
        comment: What stands at the end of the file.
    """
    # A sink cannot seek, so `zipfile` puts the checksum of each member behind it
    with zipfile.ZipFile(cast(Any, _Forward(sink)), "w", zipfile.ZIP_STORED) as archive:
        for name, (buffers, size) in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o600 << 16
            info.file_size = size  # from 2 GiB on, `zipfile` must know before it writes
            with archive.open(info, "w") as member:
                for buffer in buffers:
                    member.write(buffer)
        archive.comment = comment


def archive_size(members: Mapping[str, Member], comment: bytes = b"") -> int:
    """About how many bytes `write_archive` will write; not fewer."""
    overhead = sum(200 + 2 * len(name.encode()) for name in members)
    return sum(size for _, size in members.values()) + overhead + len(comment) + 100


class _Forward:
    """A sink as the file that `zipfile` wants: without `seek`, and with nothing to flush."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._start = sink.tell()

    def write(self, data: Any) -> int:
        return self._sink.write(data)

    def tell(self) -> int:
        return self._sink.tell() - self._start

    def flush(self) -> None:
        pass
