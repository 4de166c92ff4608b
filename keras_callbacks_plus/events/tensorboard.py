"""Scalars into TensorBoard's event files: a list to append to, and a thread that does the rest."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping

from keras_callbacks_plus.errors import BackgroundWriteError, StorageError
from keras_callbacks_plus.events._folder import create_event_file, write_all
from keras_callbacks_plus.events._record import EventPacker
from keras_callbacks_plus.events.writer import FileSystem

__all__ = ["EventFileWriter"]

_LOGGER = logging.getLogger("keras_callbacks_plus")
_BLOCK = 1 << 20  # bytes packed before they are written, which bounds the memory


class EventFileWriter:
    """Writes scalars to a new event file in a folder, for TensorBoard to read.

    `write_scalars` only notes the values (about a quarter of a microsecond). A thread packs them,
    one event for each step, and appends them to the file every `flush_secs`. What was noted is
    also written when the interpreter ends or the writer is collected; `flush` and `close` wait,
    and make it durable. The file is created when there is something to write.

    When a write fails, the file is given up (what is behind a torn record is lost on every
    reader), the error is raised by the next call, and what was not written goes to a new file.

    A folder holds one x-axis: steps ascend, and no second writer writes the same tags to it.

    Args:
        folder: String, path of the folder; created when needed.
        run: String of letters and digits that marks the files of this run. See `trim`.
        first_step: Integer, the first step that may be written. Readers forget what earlier files
            in the folder hold from it on.
        file_system: Creates the folder and writes bytes.
        flush_secs: Float, positive, in seconds. Defaults to `10.0`.
        clock: Callable that returns the seconds since the epoch. Defaults to `time.time`.

    Raises:
        BackgroundWriteError: By the call after a failed write.

    Example:

    >>> import os, tempfile
    >>> from keras_callbacks_plus.storage.filesystem import LocalFileSystem
    >>> folder = tempfile.mkdtemp()
    >>> writer = EventFileWriter(folder, run="a", first_step=0, file_system=LocalFileSystem())
    >>> writer.write_scalars(0, {"loss": 0.5, "accuracy": 0.25}, wall_time=1.0)
    >>> writer.close()
    >>> len([name for name in os.listdir(folder) if "tfevents" in name])
    1
    """

    def __init__(
        self,
        folder: str,
        *,
        run: str,
        first_step: int,
        file_system: FileSystem,
        flush_secs: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._output = _Output(folder, run, first_step, file_system, clock)
        self._pending = self._output.pending
        self._flush_secs = flush_secs
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        # Runs once: at `close`, when the writer is collected, or when the interpreter ends. It and
        # the thread know the output only, so that they do not keep the writer alive.
        self._finish = weakref.finalize(self, _finish, self._output, self._wake)

    def write_scalars(self, step: int, values: Mapping[str, float], *, wall_time: float) -> None:
        """See `ScalarWriter`."""
        if self._thread is None or self._output.error is not None:
            self._start()
        self._pending.append((wall_time, step, values))

    def flush(self) -> None:
        """See `ScalarWriter`."""
        self._output.drain(durable=True)
        self._output.raise_if_failed()

    def close(self) -> None:
        """See `ScalarWriter`."""
        if not self._finish.alive:
            return
        try:
            self.flush()
        finally:
            self._finish()
            if self._thread is not None:
                self._thread.join()
                self._thread = None

    def _start(self) -> None:
        """What is not done for every call: raises, or starts the thread."""
        if not self._finish.alive:
            raise StorageError(
                f"The writer of event files in {self._output.folder} is closed. Make a new one.",
                self._output.folder,
            )
        self._output.raise_if_failed()
        if self._thread is None:
            self._thread = threading.Thread(
                target=_drain_regularly,
                args=(self._output, self._wake, self._flush_secs),
                name="keras_callbacks_plus event files",
                daemon=True,  # the interpreter waits for other threads before it runs `_finish`
            )
            self._output.thread = self._thread
            self._thread.start()


class _Output:
    """What is pending and the file it goes to; used by several threads."""

    def __init__(
        self,
        folder: str,
        run: str,
        first_step: int,
        file_system: FileSystem,
        clock: Callable[[], float],
    ) -> None:
        self.folder = folder
        self.pending: deque[tuple[float, int, Mapping[str, float]]] = deque()
        self.error: BaseException | None = None
        self.thread: threading.Thread | None = None
        self._run = run
        self._first_step = first_step
        self._file_system = file_system
        self._clock = clock
        self._packer = EventPacker()
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._descriptor: int | None = None
        self._dirty = False

    def drain(self, *, durable: bool = False) -> None:
        """Writes what is pending. An error is kept for `raise_if_failed`."""
        if os.getpid() != self._process:  # a forked child has a copy of what is not its own
            return
        with self._lock:
            try:
                while self.pending:
                    self._write_block()
                if durable and self._dirty and self._descriptor is not None:
                    self._file_system.sync(self._descriptor)
                    self._dirty = False
            except Exception as error:  # noqa: BLE001 - raised by the next call of the writer
                self.error = error

    def raise_if_failed(self) -> None:
        """Raises the error of an earlier `drain`, once."""
        with self._lock:
            error, self.error = self.error, None
        if error is not None:
            raise BackgroundWriteError(
                f"Writing TensorBoard events to {self.folder} failed: {error}. What is not written "
                "yet is kept, and is written to a new file when the cause is gone; to train on "
                "without charts, leave the callback out.",
                self.folder,
            ) from error

    def finish(self) -> None:
        """Writes what is pending for the last time, and closes the file."""
        self.drain(durable=True)
        if self.error is not None:
            _LOGGER.error("TensorBoard events in %s were lost: %s", self.folder, self.error)
        with self._lock:
            self._close_file()

    def _close_file(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._file_system.close(descriptor)

    def _write_block(self) -> None:
        taken: list[tuple[float, int, Mapping[str, float]]] = []
        block: list[bytes] = []
        size = 0
        while self.pending and size < _BLOCK:
            wall_time, step, values = event = self.pending.popleft()
            try:
                block.append(self._packer.scalars(wall_time, step, values))
            except TypeError:  # this one can never be written; those before it can
                self.pending.extendleft(reversed(taken))
                raise
            taken.append(event)
            size += len(block[-1])
        try:
            descriptor = self._open()
            write_all(self._file_system, descriptor, b"".join(block))
        except OSError:
            self.pending.extendleft(reversed(taken))
            self._first_step = taken[0][1]  # some of these may have been written after all
            self._close_file()
            raise
        self._dirty = True

    def _open(self) -> int:
        """The file, created if there is none."""
        if self._descriptor is None:
            self._file_system.make_folder(self.folder)
            now = self._clock()
            path, self._descriptor = create_event_file(self.folder, self._run, now)
            _LOGGER.debug("Writing TensorBoard events to %s", path)
            head = self._packer.file_version(now) + self._packer.start(now, self._first_step)
            write_all(self._file_system, self._descriptor, head)
            self._file_system.sync_folder(self.folder)
        return self._descriptor


def _drain_regularly(output: _Output, wake: threading.Event, flush_secs: float) -> None:
    while not wake.wait(flush_secs):
        output.drain()
    output.finish()


def _finish(output: _Output, wake: threading.Event) -> None:
    wake.set()
    if threading.current_thread() is not output.thread:  # else collected while it drains: it ends
        output.finish()
