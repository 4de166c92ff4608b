"""Locks of files on a disk, and what stands in for them where a file system has none."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator

__all__ = ["close_and_unlock", "exclusive", "hold", "is_locked", "lock_created"]

_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN, errno.EDEADLK})
_NO_LOCKS = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS})

_held: set[tuple[int, str]] = set()  # such a lock does not keep the process itself out

# Where there are no locks, this process keeps at least its own threads apart.
_turns: dict[str, threading.Lock] = {}
# What it is writing to, by descriptor. A forked process has it too: its parent is writing.
_created: dict[int, str] = {}

if hasattr(os, "register_at_fork"):  # the thread that has a turn is not forked along
    os.register_at_fork(after_in_child=_turns.clear)


@contextlib.contextmanager
def exclusive(path: str) -> Iterator[bool]:
    """Holds an exclusive lock, for which it waits; the system releases it if the process dies.

    Args:
        path: A file that is made for it. Only who holds the lock may remove it.

    Yields:
        Whether it keeps other processes out too, and not the threads of this one only.

    Raises:
        OSError: If the file cannot be made, or the lock is refused.
    """
    with _turns.setdefault(os.path.realpath(path), threading.Lock()):
        descriptor, is_locked = _open_and_lock(path)
        try:
            yield is_locked
        finally:
            close_and_unlock(descriptor)


def _open_and_lock(path: str) -> tuple[int, bool]:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            taken = _lock(descriptor, block=True)
            if taken is False and sys.platform != "win32":  # which waits for ten seconds
                raise OSError(errno.EDEADLK, "Its lock is refused", path)
            if taken is None or (taken and _is_there(descriptor, path)):
                return descriptor, taken is True
        except BaseException:
            close_and_unlock(descriptor)
            raise
        close_and_unlock(descriptor)


def _is_there(descriptor: int, path: str) -> bool:
    """Whether it is still that file, and was not removed by who had its lock before."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def hold(path: str) -> Callable[[], None] | None:
    """Takes an exclusive lock for long, without waiting.

    The processes that this one forks (to read data) do not hold it: they may live a little
    longer than it does.

    Args:
        path: A file that is made for it.

    Returns:
        What gives it back and removes the file, or `None` where another process has it, or
        this one already.
    """
    key = os.getpid(), os.path.realpath(path)
    if key in _held:
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if _lock(descriptor, block=False, of_process=True) is False:
        os.close(descriptor)
        return None
    if not _is_there(descriptor, path):
        os.close(descriptor)
        return hold(path)
    _held.add(key)

    def give_back() -> None:
        _held.discard(key)
        if sys.platform != "win32":  # where an open file cannot be removed
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        os.close(descriptor)

    return give_back


def lock_created(descriptor: int, path: str) -> None:
    """Locks a file that was just created, until `close_and_unlock`.

    Args:
        descriptor: The open file.
        path: Its path.
    """
    if _lock(descriptor, block=False) is None:
        _created[descriptor] = os.path.realpath(path)


def is_locked(path: str) -> bool:
    """Whether a living process has locked a file.

    Args:
        path: The file. Where there are no locks, what another process writes to is taken for free.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        answer = _lock(descriptor, block=False)
    finally:
        close_and_unlock(descriptor)
    if answer is None:
        return os.path.realpath(path) in tuple(_created.values())
    return not answer


def close_and_unlock(descriptor: int) -> None:
    """Gives a lock back also where a process that was forked meanwhile has the file open, too.

    Closing would leave it locked for as long as that process lives, and a worker that reads data
    lives for an epoch and more. HDF5 would not open a file that is locked, either.
    https://man7.org/linux/man-pages/man2/flock.2.html
    """
    _created.pop(descriptor, None)
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):  # of a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _lock(descriptor: int, *, block: bool, of_process: bool = False) -> bool | None:
    """Takes the exclusive lock of an open file.

    Returns:
        Whether it was to be had; `None` where the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK if block else msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            take = fcntl.lockf if of_process else fcntl.flock
            take(descriptor, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
