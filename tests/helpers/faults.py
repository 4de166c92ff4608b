"""A file system whose n-th operation fails, is cut short, or kills the process."""

from __future__ import annotations

import contextlib
import os
import signal


class FaultyFileSystem:
    """Counts operations, by default those that change the disk, and sabotages one of them."""

    CHANGING = ("make_folder", "create", "write", "sync", "rename", "sync_folder", "remove")
    LOOKING = ("names", "sizes", "exists", "read", "version", "is_locked", "lock", "start_sync")

    def __init__(self, inner, *, at=None, error=None, kill=None, counted=CHANGING):
        self.inner, self.at, self.error, self.kill = inner, at, error, kill
        self.counted = counted
        self.operations = []

    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if name not in self.counted:
            return method

        def counted(*args):
            number = len(self.operations)
            self.operations.append(name)
            if number == self.at and self.error is not None:
                raise OSError(self.error, os.strerror(self.error))
            if number == self.at and self.kill == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = method(*args)
            if number == self.at and self.kill == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted


class ShortWrites:
    """Writes at most one byte less than asked for, and at most 7 bytes."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def write(self, descriptor, data):
        return self.inner.write(descriptor, data[: max(1, min(7, len(data) - 1))])


def run_in_child(function):
    """Runs a function in a forked process; returns the signal that ended it, or 0."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            function()
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(pid, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


class CutOff:
    """From the n-th operation on nothing works any more: what a killed process leaves behind.

    Args:
        inner: The real file system.
        at: Number of the operation that is the last one tried.
        done: Whether that one is still done.
    """

    CHANGING = ("create", "write", "rename", "remove")

    def __init__(self, inner, *, at=None, done=False):
        self.inner, self.at, self.done = inner, at, done
        self.operations = []

    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if name not in self.CHANGING:
            return method

        def counted(*args):
            number = len(self.operations)
            self.operations.append((name, args[-1]))
            if self.at is not None and number >= self.at:
                if number == self.at and self.done:
                    method(*args)
                raise ConnectionError("cut off")
            return method(*args)

        return counted
