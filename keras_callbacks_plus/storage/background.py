"""One writer thread: back-pressure, errors on the caller's next call, nothing lost at exit."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

from keras_callbacks_plus.errors import BackgroundWriteError
from keras_callbacks_plus.storage.atomic import Payload
from keras_callbacks_plus.storage.pace import Pace, Unhurried

__all__ = ["BackgroundWriter"]

_LOCAL = threading.local()  # `pace`: that of the writer whose thread this is
_NICENESS = 15  # a thirtieth of the share of a core that a thread of the training has


class BackgroundWriter:
    """Runs jobs one after the other in a thread of its own.

    At most one job runs and one waits: `submit` blocks until there is a place. The thread is not a
    daemon, so the interpreter waits for the last job before it exits; between jobs there is no
    thread at all. It gives way to the threads that train: on Linux it has a low priority, and what
    `unhurried` gives is written slowly until one of them waits (see `Pace`).

    Args:
        name: String, what is being written; for the thread and the errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._running = False
        self._waiting: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self._pace = Pace()
        self._waiters: list[Pace | None] = []  # `None` for a thread that writes nothing itself

    def unhurried(self, payload: Payload) -> Payload:
        """A payload that a job writes more slowly for as long as nobody waits for the job.

        Args:
            payload: What to write.
        """
        return Unhurried(payload, self._pace)

    def submit(self, job: Callable[[], None]) -> None:
        """Hands over a job; blocks while another one is waiting already.

        Args:
            job: Runs in the writer thread.

        Raises:
            BackgroundWriteError: If an earlier job has failed, or no thread can be started; `job`
                is not taken then.
        """
        with self._changed:
            self._wait_for(lambda: self._waiting is None)
            self._raise_if_failed()
            if self._running:
                self._waiting = job
                self._pace.hurry()
                return
            self._running = True
            self._pace.begin()
            if any(waiter is None or waiter.in_haste for waiter in self._waiters):
                self._pace.hurry()
        go = threading.Event()
        try:
            threading.Thread(target=self._work, args=(job, go), name=f"kcp: {self._name}").start()
        except RuntimeError as error:  # the system has no more threads to give
            with self._changed:
                self._running = False
                self._changed.notify_all()
            raise BackgroundWriteError(
                f"Writing {self._name} in the background failed: {error}", self._name
            ) from error
        finally:
            go.set()

    def raise_if_failed(self) -> None:
        """Raises, once, the error of a job that has failed.

        Raises:
            BackgroundWriteError: The job's error is its `__cause__`.
        """
        with self._changed:
            self._raise_if_failed()

    def wait_until_finished(self) -> None:
        """Blocks until every job is done.

        Raises:
            BackgroundWriteError: If one has failed and that was not raised yet.
        """
        self.drain()
        self.raise_if_failed()

    def drain(self) -> None:
        """Blocks until every job is done, and leaves an error for the owner to see."""
        with self._changed:
            self._wait_for(lambda: not self._running)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Hurries the job meanwhile; for another writer, which may have time, when that hurries."""
        if condition():
            return
        waiter: Pace | None = getattr(_LOCAL, "pace", None)
        self._waiters.append(waiter)
        try:
            if waiter is None:
                self._pace.hurry()
                self._changed.wait_for(condition)
                return
            waiter.lead(self._pace)
            try:
                self._changed.wait_for(condition)
            finally:
                waiter.let_go(self._pace)
        finally:
            self._waiters.remove(waiter)

    def _raise_if_failed(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise BackgroundWriteError(
                f"Writing {self._name} in the background failed: {error}", self._name
            ) from error

    def _work(self, job: Callable[[], None] | None, go: threading.Event) -> None:
        _give_way()
        _LOCAL.pace = self._pace
        go.wait()  # `start` has waited for this thread, and would now wait for the interpreter
        while job is not None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - kept, and raised on the next call
                with self._changed:
                    self._error = self._error or error
            with self._changed:
                self._pace.end()
                job, self._waiting = self._waiting, None
                self._running = job is not None
                self._changed.notify_all()


def _give_way() -> None:
    """Lowers the priority of the calling thread; elsewhere than on Linux a process has only one.

    https://man7.org/linux/man-pages/man2/setpriority.2.html ("C library/kernel differences")
    """
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    with contextlib.suppress(OSError):  # where a sandbox forbids it, the job is done all the same
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, max(now, _NICENESS))
