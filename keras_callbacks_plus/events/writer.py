"""What a writer of scalars is, and several of them as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

__all__ = ["FileSystem", "MultiWriter", "ScalarWriter", "call_all"]


class ScalarWriter(Protocol):
    """Takes the scalars of one step at a time, in ascending order of the steps.

    An error of a write in the background is raised by the next call of any method.
    """

    def write_scalars(self, step: int, values: Mapping[str, float], *, wall_time: float) -> None:
        """Takes scalars; returns at once.

        Args:
            step: Position on the x-axis, greater than that of the call before.
            values: The scalars by tag. Theirs is the writer from now on: do not change it.
            wall_time: Seconds since the epoch of the clock.
        """

    def flush(self) -> None:
        """Blocks until everything taken so far is durable."""

    def close(self) -> None:
        """Flushes and lets go of files and threads. Does nothing the second time."""


class MultiWriter:
    """Several writers as one: each gets every call, also when another of them fails.

    Args:
        writers: The writers.

    Example:

    >>> class Printer:
    ...     def write_scalars(self, step, values, *, wall_time):
    ...         print(step, values)
    ...     def flush(self): pass
    ...     def close(self): pass
    >>> MultiWriter([Printer(), Printer()]).write_scalars(3, {"loss": 0.5}, wall_time=0.0)
    3 {'loss': 0.5}
    3 {'loss': 0.5}
    """

    def __init__(self, writers: Sequence[ScalarWriter]) -> None:
        self.writers = tuple(writers)

    def write_scalars(self, step: int, values: Mapping[str, float], *, wall_time: float) -> None:
        """See `ScalarWriter`."""
        call_all(
            [partial(w.write_scalars, step, values, wall_time=wall_time) for w in self.writers]
        )

    def flush(self) -> None:
        """See `ScalarWriter`."""
        call_all([writer.flush for writer in self.writers])

    def close(self) -> None:
        """See `ScalarWriter`."""
        call_all([writer.close for writer in self.writers])


def call_all(calls: Sequence[Callable[[], None]]) -> None:
    """Makes every call, then raises the last error; the ones before are in its chain."""
    if not calls:
        return
    try:
        calls[0]()
    finally:
        call_all(calls[1:])


class FileSystem(Protocol):
    """What this room needs of a file system; `storage.LocalFileSystem` has it."""

    def make_folder(self, path: str) -> None:
        """Creates a folder and its parents; an existing one is fine."""

    def create(self, path: str) -> int:
        """Creates a file that must not exist, opens it for writing and locks it."""

    def write(self, descriptor: int, data: memoryview) -> int:
        """Writes some of `data`, and returns how many bytes."""

    def sync(self, descriptor: int) -> None:
        """Makes the bytes of an open file durable."""

    def close(self, descriptor: int) -> None:
        """Closes an open file."""

    def rename(self, source: str, target: str) -> None:
        """Renames atomically, replacing `target`."""

    def sync_folder(self, path: str) -> None:
        """Makes the names in a folder durable."""

    def remove(self, path: str) -> None:
        """Deletes a file."""

    def is_locked(self, path: str) -> bool:
        """Whether a living process holds the lock of a file that `create` made."""
