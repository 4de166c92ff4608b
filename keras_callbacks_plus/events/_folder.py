"""The event files of one folder: their names, and the trimming of one run's files on a resume."""

from __future__ import annotations

import itertools
import os
import re
import socket
from collections.abc import Iterator
from typing import BinaryIO

from keras_callbacks_plus.events._crc32c import find_crc32c
from keras_callbacks_plus.events._record import read_records, step_of_summary
from keras_callbacks_plus.events.writer import FileSystem

__all__ = ["create_event_file", "event_files", "holds_events_from", "trim", "write_all"]

_SECONDS = re.compile(r"tfevents\.(\d+)")
_STAGING = re.compile(r"^\.trim\.\d+-\d+\.kcp-tmp$")  # must not contain "tfevents"
_COUNTER = itertools.count()
_CHUNK = 4 << 20


def event_files(folder: str) -> list[str]:
    """Names of all event files in a folder, whoever wrote them, in the order they are read."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if "tfevents" in name)


def create_event_file(folder: str, run: str, now: float) -> tuple[str, int]:
    """Creates an event file that every reader sorts behind those that are there.

    Readers go by the name, which begins with a time in seconds; the clock may have been set back,
    and two files may be made in one second.

    Args:
        folder: An existing folder.
        run: What marks the files of one run.
        now: Seconds since the epoch of the clock.

    Returns:
        Its path, and a descriptor open for appending.
    """
    seconds = [int(m[1]) for name in event_files(folder) if (m := _SECONDS.search(name))]
    stamp = max(int(now), max(seconds, default=-1) + 1)
    host = re.sub(r"[^\w-]", "_", socket.gethostname())
    while True:
        name = f"events.out.tfevents.{stamp:010d}.{host}.{os.getpid()}.0{_mark(run)}"
        path = os.path.join(folder, name)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            return path, os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            stamp += 1


def holds_events_from(folder: str, step: int) -> bool:
    """Whether any event file of a folder holds a summary at `step` or behind it.

    Args:
        folder: The folder; it need not exist.
        step: The step.
    """
    return any(
        found is not None and found >= step
        for name in event_files(folder)
        for found in _steps(os.path.join(folder, name))
    )


def _steps(path: str) -> Iterator[int | None]:
    with open(path, "rb") as file:
        for record in read_records(file, find_crc32c()):
            if record.event is not None:
                yield step_of_summary(record.event)


def trim(folder: str, run: str, last_step: int, file_system: FileSystem) -> list[str]:
    """Takes out of one run's files what was logged after a step, and what a crash left torn.

    Other files are not touched. A file is replaced as a whole and durably, so that a crash leaves
    either the old one or the new one, and a server that has it open goes on.

    Args:
        folder: The folder; it need not exist.
        run: What marks the files of the run.
        last_step: Summaries up to this step stay.
        file_system: Does the work.

    Returns:
        Paths of the files that were replaced.
    """
    _sweep(folder, file_system)
    names = [name for name in event_files(folder) if name.endswith(_mark(run))]
    paths = [os.path.join(folder, name) for name in names]
    return [path for path in paths if _trim_file(path, last_step, file_system)]


def _trim_file(path: str, last_step: int, file_system: FileSystem) -> bool:
    with open(path, "rb") as file:
        kept: list[tuple[int, int]] = []
        for record in read_records(file, find_crc32c()):
            step = None if record.event is None else step_of_summary(record.event)
            if record.event is None or (step is not None and step > last_step):
                continue
            if kept and kept[-1][1] == record.start:
                kept[-1] = (kept[-1][0], record.end)
            else:
                kept.append((record.start, record.end))
        if kept == [(0, os.fstat(file.fileno()).st_size)]:
            return False
        staged = _stage(path, file, kept, file_system)
    file_system.rename(staged, path)  # which on Windows cannot be while it is open
    file_system.sync_folder(os.path.dirname(path))
    return True


def _stage(
    path: str, source: BinaryIO, ranges: list[tuple[int, int]], file_system: FileSystem
) -> str:
    folder = os.path.dirname(path)
    staged = os.path.join(folder, f".trim.{os.getpid()}-{next(_COUNTER)}.kcp-tmp")
    descriptor = file_system.create(staged)
    try:
        for start, end in ranges:
            source.seek(start)
            for position in range(start, end, _CHUNK):
                write_all(file_system, descriptor, source.read(min(_CHUNK, end - position)))
        file_system.sync(descriptor)
    finally:
        file_system.close(descriptor)
    return staged


def _sweep(folder: str, file_system: FileSystem) -> None:
    """Removes what a crash in `_trim_file` left; a living process holds the lock of its file."""
    if not os.path.isdir(folder):
        return
    for name in filter(_STAGING.match, os.listdir(folder)):
        path = os.path.join(folder, name)
        if not file_system.is_locked(path):
            file_system.remove(path)


def write_all(file_system: FileSystem, descriptor: int, data: bytes) -> None:
    """Writes all of `data`, however little each call takes."""
    view = memoryview(data)
    while view:
        count = file_system.write(descriptor, view)
        if count <= 0:
            raise OSError("The file system accepted no more bytes.")
        view = view[count:]


def _mark(run: str) -> str:
    return f".kcp-{run}"
