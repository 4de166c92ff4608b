"""An error of the system, turned into one that says what to do."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from keras_callbacks_plus.errors import StorageError

__all__ = ["explained"]

_IN_USE = (
    "Another program has the file open, such as a virus scanner or one that synchronizes the "
    "folder: close it, or choose another folder. Older checkpoints are as they were."
)
_HINTS = {
    errno.EBUSY: _IN_USE,
    errno.ETXTBSY: _IN_USE,
    errno.EAGAIN: _IN_USE,
    errno.ENOSPC: "The disk is full: free some space (`kcp rm DIR --keep POLICY` can, even so), "
    "or keep fewer checkpoints. Older checkpoints are as they were.",
    errno.EACCES: "This user may not write there: choose another folder or change its permissions. "
    "(On Windows and network drives: or another program has the file open.)",
    errno.EPERM: "This user may not write there: choose another folder or change its permissions.",
    errno.EROFS: "The file system is read-only: choose another folder.",
    errno.ENOTDIR: "A file is in the way: choose another folder.",
    errno.ESTALE: "The network folder has changed: see that it is mounted again.",
    errno.EIO: "The disk or the network failed: look after it. Older checkpoints are as they were.",
    errno.EEXIST: "A file is in the way: choose another folder.",
}


@contextlib.contextmanager
def explained(verb: str, path: str) -> Iterator[None]:
    """Raises a `StorageError` in place of an `OSError`, which becomes its cause.

    Args:
        verb: What is being done, as in "Could not write to ...".
        path: The folder concerned.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "Older checkpoints are as they were.")
        raise StorageError(f"Could not {verb} {path}: {error}. {hint}", path) from error
