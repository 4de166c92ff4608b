"""Memory copied by as many threads as there are cores, beside the thread that says what."""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["CopyingThreads", "is_cut"]

Array = np.ndarray[Any, Any]
_Index = tuple[slice | int, ...]
_View = Callable[[Any], Array]
_Job = list[tuple[Array, _View, Any, _Index]]

_JOB = 2 << 20  # bytes that a thread copies before it asks for more
_WORTH_THREADS = 8 << 20  # bytes
_THREADS = 4  # enough to fill the memory bus
_SWITCH_INTERVAL = 1e-4  # seconds


class CopyingThreads:
    """Copies arrays, all of them by the end of the `with` block.

    The threads begin while the block is still being run: whoever finds out what to copy, or has
    other things to do, is not waited for. At the end this thread joins them. What is left goes to
    the thread that asks first, so that a core that is busy elsewhere holds nothing up.

    Args:
        size: How many bytes there will be to copy: for a few, no threads are started.

    Example:

    >>> target = np.zeros(3)
    >>> with CopyingThreads(target.nbytes) as threads:
    ...     threads.copy(target, np.arange(3.0))
    >>> target
    array([0., 1., 2.])
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._job: _Job = []
        self._job_bytes = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()  # `None`: no more come
        self._helpers: list[_Helper] = []
        self._stack = contextlib.ExitStack()

    def copy(
        self, target: Array, source: Any, view: _View = np.asarray, *, whole: bool = False
    ) -> None:
        """Copies one array into another, at the latest at the end of the `with` block.

        Args:
            target: Contiguous; it must not be read until then.
            source: Of the same shape and type; it must not change until then.
            view: Makes an array of it, in the thread that copies it, and once for each piece of a
                large one. Defaults to NumPy's, which takes an array as it is.
            whole: Whether to take it as one piece, because `view` is a copy itself. Defaults to
                `False`.
        """
        size = target.nbytes
        if whole or not is_cut(target):
            self._job.append((target, view, source, ()))
            self._job_bytes += size
            if self._job_bytes >= _JOB:
                self.start()
            return
        self.start()
        for piece, index in _pieces(target):
            self._jobs.put([(piece, view, source, index)])

    def start(self) -> None:
        """Lets the threads have all that was asked for, down to the last and small."""
        if self._job:
            self._jobs.put(self._job)
            self._job, self._job_bytes = [], 0

    def __enter__(self) -> CopyingThreads:
        count = min(_THREADS, _usable_cores()) - 1
        if not count or self._size < _WORTH_THREADS:
            return self
        with self._stack as stack:
            stack.enter_context(_quick_switches())
            stack.callback(self._wait_for_helpers)
            for _ in range(count):
                with contextlib.suppress(RuntimeError):  # where no thread can be started
                    self._helpers.append(_Helper(self._jobs))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._stack:  # which waits for the threads, whatever happens
            if kind is None:
                self.start()
                while self._copy_one():
                    pass
        errors = [helper.error for helper in self._helpers if helper.error is not None]
        if kind is None and errors:
            raise errors[0]

    def _copy_one(self) -> bool:
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return False
        _copy(job or [])
        return True

    def _wait_for_helpers(self) -> None:
        try:
            with contextlib.suppress(queue.Empty):
                while True:  # what an error has left, which nobody wants any more
                    self._jobs.get_nowait()
        finally:
            self._jobs.put(None)
        for helper in self._helpers:
            helper.join()


class _Helper:
    """A thread that copies until there is nothing more to come.

    Not a `threading.Thread`, whose `start` waits until the thread runs: that takes a third of a
    millisecond of the twenty that a copy of 300 MB does.

    Args:
        jobs: Where it takes its jobs from.

    Attributes:
        error: What has gone wrong, or `None`; to be looked at after `join`.
    """

    def __init__(self, jobs: queue.SimpleQueue[_Job | None]) -> None:
        self.error: BaseException | None = None
        self._jobs = jobs
        self._running = threading.Lock()
        self._running.acquire()
        _thread.start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                _copy(job)
            self._jobs.put(None)  # for the next one: one ends all of them, however many there are
        except BaseException as error:  # noqa: BLE001 - kept, and raised at the end of the block
            self.error = error
        finally:
            self._running.release()

    def join(self) -> None:
        """Waits until it has ended."""
        self._running.acquire()


def is_cut(target: Array) -> bool:
    """Whether a copy is so large that it is made in pieces.

    Args:
        target: What is copied to.
    """
    return target.nbytes > 2 * _JOB


def _copy(job: _Job) -> None:
    for target, view, source, index in job:
        array = view(source)
        np.copyto(target, array[index] if index else array, casting="no")


def _pieces(target: Array) -> Iterator[tuple[Array, _Index]]:
    """The parts of a large array, of about `_JOB` bytes each, with where in it they are."""
    rows = target.shape[0]
    row = target.nbytes // rows
    if row > 2 * _JOB:
        for number in range(rows):
            for piece, index in _pieces(target[number]):
                yield piece, (number, *index)
        return
    step = max(1, _JOB // row)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        yield target[part], (part,)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_switches = threading.Lock()
_hurried = 0  # blocks that want quick switches now
_interval_before = 0.0


@contextlib.contextmanager
def _quick_switches() -> Iterator[None]:
    """Hands the interpreter to a thread that waits for it sooner than after the usual 5 ms.

    A thread that has copied needs it for a moment, to learn what to copy next; in 5 ms it could
    have copied 30 MB. The interval is one for the process:
    https://docs.python.org/3/library/sys.html#sys.setswitchinterval
    """
    global _hurried, _interval_before
    with _switches:
        if not _hurried:
            _interval_before = sys.getswitchinterval()
        _hurried += 1
    try:
        with _switches:
            sys.setswitchinterval(min(_SWITCH_INTERVAL, _interval_before))
        yield
    finally:
        with _switches:
            _hurried -= 1
            if not _hurried:
                sys.setswitchinterval(_interval_before)
