"""Memory copied by as many threads as there are cores, beside the thread that says what."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

__all__ = ["CopyingThreads"]

Array = np.ndarray[Any, Any]
_Job = list[tuple[Array, Array]]

_JOB = 2 << 20  # bytes that a thread copies before it asks for more
_FIRST_JOBS = 4  # that are worth starting threads for
_WAITING_JOBS = 32  # little enough to hold copies of
_THREADS = 4  # enough to fill the memory bus
_SWITCH_INTERVAL = 1e-4  # seconds


class CopyingThreads:
    """Copies arrays, all of them by the end of the `with` block.

    The threads begin while the block is still being run: whoever finds out what to copy, or has
    other things to do, is not waited for. At the end this thread joins them. What is left goes to
    the thread that asks first, so that a core that is busy elsewhere holds nothing up.

    Example:

    >>> target = np.zeros(3)
    >>> with CopyingThreads() as threads:
    ...     threads.copy(target, np.arange(3.0))
    >>> target
    array([0., 1., 2.])
    """

    def __init__(self) -> None:
        self._job: _Job = []
        self._job_bytes = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()  # `None`: no more come
        self._helpers: list[Future[None]] | None = None
        self._stack = contextlib.ExitStack()

    def copy(self, target: Array, source: Array) -> None:
        """Copies one array into another, at the latest at the end of the `with` block.

        Args:
            target: Contiguous; it must not be read until then.
            source: Of the same shape and type; it must not change until then.
        """
        for piece in _pieces(target, source):
            self._job.append(piece)
            self._job_bytes += piece[0].nbytes
            if self._job_bytes >= _JOB:
                self.start()

    def start(self) -> None:
        """Lets the threads have all that was asked for, down to the last and small."""
        if not self._job:
            return
        self._jobs.put(self._job)
        self._job, self._job_bytes = [], 0
        if self._helpers is None and self._jobs.qsize() >= _FIRST_JOBS:
            self._helpers = self._start_helpers()

    def catch_up(self) -> None:
        """Copies here until little is waiting; for sources that take memory until then."""
        while self._jobs.qsize() >= _WAITING_JOBS:
            self._copy_one()

    def __enter__(self) -> CopyingThreads:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._stack:  # which waits for the threads, whatever happens
            if kind is None:
                self.start()
                while self._copy_one():
                    pass
        if kind is None:
            for helper in self._helpers or ():
                helper.result()

    def _copy_one(self) -> bool:
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return False
        _copy(job or [])
        return True

    def _start_helpers(self) -> list[Future[None]]:
        helpers: list[Future[None]] = []
        count = min(_THREADS, _usable_cores()) - 1
        if count:
            self._stack.enter_context(_quick_switches())
            pool = self._stack.enter_context(ThreadPoolExecutor(count))
            self._stack.callback(self._send_home, count)
            for _ in range(count):
                with contextlib.suppress(RuntimeError):  # where no thread can be started
                    helpers.append(pool.submit(_copy_all, self._jobs))
        return helpers

    def _send_home(self, count: int) -> None:
        with contextlib.suppress(queue.Empty):
            while True:  # what an error has left, which nobody wants any more
                self._jobs.get_nowait()
        for _ in range(count):
            self._jobs.put(None)


def _copy_all(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        _copy(job)


def _copy(job: _Job) -> None:
    for target, source in job:
        np.copyto(target, source, casting="no")


def _pieces(target: Array, source: Array) -> _Job:
    """A large copy as several, of about `_JOB` bytes each."""
    if target.nbytes <= 2 * _JOB or not source.flags.c_contiguous:
        return [(target, source)]
    flat_target, flat_source = target.reshape(-1), source.reshape(-1)
    step = _JOB // target.itemsize
    return [
        (flat_target[start : start + step], flat_source[start : start + step])
        for start in range(0, target.size, step)
    ]


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
        _hurried += 1
        if _hurried == 1:
            _interval_before = sys.getswitchinterval()
            sys.setswitchinterval(min(_SWITCH_INTERVAL, _interval_before))
    try:
        yield
    finally:
        with _switches:
            _hurried -= 1
            if not _hurried:
                sys.setswitchinterval(_interval_before)
