"""Removing files where the disk is so full that not even the manifest can be written first."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from keras_callbacks_plus.errors import StorageError

__all__ = ["record_and_remove"]

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def record_and_remove(
    write: Callable[[], None],
    remove: Callable[[str], None],
    names: Sequence[str],
    manifest: str,
    *,
    may_remove_first: bool,
) -> None:
    """Writes the manifest, then removes the files that it does not list any more.

    The other way round where the disk is full and nothing new is to be kept: the manifest needs
    space that only the removing gives. Then a kill in between leaves lines whose files are gone,
    which the next commit takes off the list, as it does with what a hand has removed. A file that
    is to stay is not touched either way.

    Args:
        write: Writes the manifest.
        remove: Deletes a file.
        names: What to delete.
        manifest: Where the manifest is, for the error.
        may_remove_first: Whether nothing new is to be kept.

    Raises:
        StorageError: If the files are gone and the manifest could not be written even so.
        OSError: If the manifest could not be written; then no file was removed.
    """
    try:
        write()
    except OSError as error:
        if not (may_remove_first and names and error.errno in _FULL):
            raise
    else:
        for name in names:
            remove(name)
        return
    for name in names:
        remove(name)
    try:
        write()
    except OSError as error:
        raise StorageError(
            f"The disk is full: {', '.join(names)} {'was' if len(names) == 1 else 'were'} removed, "
            f"and {manifest} could not be written even so ({error}), and still lists them. Free "
            "some space; the next save, or `kcp rm`, puts that in order.",
            manifest,
        ) from error
