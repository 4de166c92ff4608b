"""How fast a file is written that nobody waits for: slowly enough for the training beside it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from keras_callbacks_plus.storage.atomic import Payload, Sink

__all__ = ["Pace", "Unhurried"]

_SLOWER = 10.0  # times as slowly as it could: so little is taken of disk, memory and processor
_SHARE = 0.5  # of the time until the next job is due, at the most
_PIECE = 4 << 20  # bytes between two rests: in each of them something goes to the disk
_FORGETS = 1.01  # of the fastest piece, with each one: a burst is not what a disk can do for long


class Pace:
    """When a job rests: between the pieces that it writes, until somebody waits for it.

    It then writes at a tenth of the speed that it has been seen to reach. A piece that takes longer
    than that, as the processor or the disk had others to serve, is followed by no rest.

    The next job is taken to be due after as long a time as lay between the last two, or between
    the two before if that was less; after the first, as long as since the training began. In half
    of that time this one is to be done, and rests less for it. Where jobs come so fast that they
    always wait, none rests.

    Args:
        clock: Returns seconds. Defaults to `time.perf_counter`.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._hurry = threading.Event()
        self._followers: list[Pace] = []
        self._began = clock()  # of the job; at first, of the training
        self._is_first = True
        self._interval = self._next = math.inf  # from the last job to this one, and to the next
        self._worked = 0.0  # seconds of writing in the job before, without its rests
        self._spent = 0.0  # and in this one
        self._since: float | None = None  # when the present piece of it began
        self._count = 0  # bytes of that
        self._fastest = math.inf  # seconds for a byte
        self._slower = _SLOWER
        self._until = math.inf

    @property
    def in_haste(self) -> bool:
        """Whether somebody waits."""
        return self._hurry.is_set()

    def begin(self) -> None:
        """A job begins, and nobody waits for it yet."""
        now = self._clock()
        elapsed = now - self._began
        self._next = min(elapsed, self._interval)
        self._interval = math.inf if self._is_first else elapsed
        self._is_first, self._began = False, now
        self._spent, self._since = 0.0, None
        self._hurry.clear()

    def hurry(self) -> None:
        """Somebody waits: no more rests in this job, and an end to the present one."""
        self._hurry.set()
        for follower in list(self._followers):
            follower.hurry()

    def lead(self, follower: Pace) -> None:
        """This job waits for another writer's, which is hurried when this one is.

        Args:
            follower: That of the other writer, until `let_go`.
        """
        self._followers.append(follower)
        if self.in_haste:
            follower.hurry()

    def let_go(self, follower: Pace) -> None:
        """It does not wait any more.

        Args:
            follower: As in `lead`.
        """
        self._followers.remove(follower)

    def work(self) -> None:
        """Writing begins; what the job has done before was to wait for others."""
        now = self._clock()
        available = _SHARE * (self._began + self._next - now)
        self._slower = min(_SLOWER, available / self._worked) if self._worked else _SLOWER
        self._until = now + available
        self._since, self._count = now, 0

    def rest(self, count: int) -> None:
        """Rests in the job, if that is right now.

        Args:
            count: Bytes that were written since this was last called.
        """
        self._count += count
        if self._count < _PIECE or self._since is None:
            return
        now = self._clock()
        worked = now - self._since
        self._spent += worked
        self._fastest = min(_FORGETS * self._fastest, worked / self._count)
        seconds = min(self._slower * self._fastest * self._count - worked, self._until - now)
        # at its end the interpreter waits for the thread, and does not say so
        if seconds > 0 and threading.main_thread().is_alive():
            self._hurry.wait(seconds)
        self._since, self._count = self._clock(), 0

    def end(self) -> None:
        """The job is done."""
        if self._since is not None:  # it has written, and waited for the disk at the end
            self._worked = self._spent + self._clock() - self._since


class Unhurried:
    """A payload that is written at a pace.

    Args:
        payload: The payload.
        pace: That of the job in which it is written.
    """

    def __init__(self, payload: Payload, pace: Pace) -> None:
        self._payload = payload
        self._pace = pace

    def write_to(self, sink: Sink) -> None:
        """See `storage.atomic.Payload`."""
        self._pace.work()
        self._payload.write_to(_RestingSink(sink, self._pace))


class _RestingSink:
    def __init__(self, sink: Sink, pace: Pace) -> None:
        self._sink = sink
        self._pace = pace

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE):
            self._pace.rest(self._sink.write(view[start : start + _PIECE]))
        return len(view)

    def tell(self) -> int:
        return self._sink.tell()

    @property
    def checksum(self) -> str:
        return self._sink.checksum
