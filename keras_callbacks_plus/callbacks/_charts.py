"""Folders that TensorBoard draws as runs, and how far their charts have been written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_callbacks_plus.events import EventFileWriter, FileSystem, holds_events_from, trim
from keras_callbacks_plus.events.writer import call_all

__all__ = ["Axis", "RunFolder"]


class RunFolder:
    """The charts of one folder, all on one x-axis, over any number of fits and resumes.

    Args:
        path: The folder.
        file_system: Writes it.
        flush_secs: Seconds between two writes.
        clock: Returns the seconds since the epoch of the clock.

    Attributes:
        written: The last position on the x-axis that was given to `write`, or `None`.
    """

    def __init__(
        self, path: str, file_system: FileSystem, flush_secs: float, clock: Callable[[], float]
    ) -> None:
        self.path = path
        self.written: int | None = None
        self._file_system = file_system
        self._flush_secs = flush_secs
        self._clock = clock
        self._writer: EventFileWriter | None = None
        self._run_to_trim: str | None = None  # and is, before anything is written

    def write(self, run: str, first_step: int, step: int, values: Mapping[str, float]) -> None:
        """Writes the scalars of one step; does nothing where that step has been written before.

        Args:
            run: What marks the files of this run.
            first_step: The first position that this `fit` may write.
            step: The position.
            values: The scalars by tag.
        """
        if self.written is not None and step <= self.written:
            return
        if self._writer is None:
            self._trim()
            self._writer = EventFileWriter(
                self.path,
                run=run,
                first_step=first_step if self.written is None else self.written + 1,
                file_system=self._file_system,
                flush_secs=self._flush_secs,
                clock=self._clock,
            )
        self._writer.write_scalars(step, values, wall_time=self._clock())
        self.written = step

    def is_taken(self, first_step: int) -> bool:
        """Whether other runs have written charts there that this one is about to write over."""
        return self.written is None and holds_events_from(self.path, first_step)

    def resume(self, run: str, written: int | None) -> None:
        """Takes the charts back to what they were when `written` was the last position.

        What is behind it is taken out when there is something to write, or at `close`: within an
        epoch a resume goes back to the state of its beginning, and from there to a later one.

        Args:
            run: What marks the files of the run.
            written: As it was, or `None` if nothing had been written yet.
        """
        self._close_file()
        self._run_to_trim = run
        self.written = written

    def _trim(self) -> None:
        if self._run_to_trim is not None:
            last = -1 if self.written is None else self.written
            trim(self.path, self._run_to_trim, last, self._file_system)
            self._run_to_trim = None

    def flush(self) -> None:
        """Blocks until what was written is durable."""
        writer = self._writer  # another thread may close it meanwhile
        if writer is not None:
            writer.flush()

    def close(self) -> None:
        """Flushes and closes the file; the next `write` opens a new one."""
        self._trim()
        self._close_file()

    def _close_file(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class Axis:
    """The folders that share an x-axis, which goes on over any number of fits and resumes.

    Args:
        folders: The folders by name.

    Attributes:
        offset: What is added to a position in the present `fit`'s own counting.
    """

    def __init__(self, folders: Mapping[str, RunFolder]) -> None:
        self.folders = dict(folders)
        self.offset = 0
        self._first = 0

    @property
    def written(self) -> int | None:
        """The last position written to any of the folders, or `None`."""
        found = [f.written for f in self.folders.values() if f.written is not None]
        return max(found, default=None)

    def begin(self, position: int, *, goes_on: bool) -> None:
        """Starts a `fit`.

        Args:
            position: The first one it may write, in its own counting.
            goes_on: Whether that counting is the one of the `fit` before. If not, and if the
                position has been written already, it is counted on from the last one.
        """
        written = self.written
        if not goes_on:
            self.offset = 0 if written is None or position > written else written + 1 - position
        self._first = position + self.offset

    def taken(self) -> list[str]:
        """Paths of the folders with charts of other runs that this one is about to write over."""
        return [f.path for f in self.folders.values() if f.is_taken(self._first)]

    def write(self, name: str, run: str, position: int, values: Mapping[str, float]) -> None:
        """Writes the scalars of one position, in the present `fit`'s own counting."""
        self.folders[name].write(run, self._first, position + self.offset, values)

    def get_state(self) -> dict[str, Any]:
        """How far the charts are written."""
        written = {name: folder.written for name, folder in self.folders.items()}
        return {"offset": self.offset, "written": written}

    def set_state(self, state: dict[str, Any], run: str) -> None:
        """Takes the charts of a run back to a state."""
        self.offset = int(state["offset"])
        for name, folder in self.folders.items():
            folder.resume(run, state["written"].get(name))

    def flush(self) -> None:
        """Blocks until what was written is durable."""
        call_all([folder.flush for folder in self.folders.values()])

    def close(self) -> None:
        """Flushes and closes all files."""
        call_all([folder.close for folder in self.folders.values()])
