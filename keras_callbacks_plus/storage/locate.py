"""A path or a URL -> where it is: which file system, which folder, which name in it."""

from __future__ import annotations

import os
import re

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.storage.filesystem import FileSystem, LocalFileSystem
from keras_callbacks_plus.storage.remote import RemoteFileSystem

__all__ = ["check_url", "filesystem_for", "is_url", "split_path"]

_URL = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+(::[^/]*)?://")  # one letter alone is a Windows drive
_COLLAPSED = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+:[/\\][^/\\]")


def is_url(path: str) -> bool:
    """Whether a path names an object store, as in `"s3://bucket/run"`.

    Args:
        path: What the user gave.
    """
    return _URL.match(path) is not None


def filesystem_for(path: str) -> FileSystem:
    """The file system that a path is on. It is not touched yet.

    Args:
        path: A path of this machine, or a URL.

    Raises:
        InvalidArgumentError: If the URL is of a kind that cannot be written safely.
        MissingExtraError: If what is needed to write there is not installed.
    """
    return RemoteFileSystem(path) if is_url(path) else LocalFileSystem()


def check_url(argument: str, path: str | os.PathLike[str]) -> None:
    """Raises where a path object has made one slash of the two of a URL.

    Args:
        argument: Name of the argument, for the error.
        path: A path of this machine, or a URL.

    Raises:
        InvalidArgumentError: If it is a URL that lost a slash.
    """
    text = str(os.fspath(path))
    if not isinstance(path, str) and _COLLAPSED.match(text):
        scheme, _, rest = text.partition(":")
        raise InvalidArgumentError(
            argument,
            path,
            "a string where it is a URL, because a path object makes one slash of two",
            f'Write "{scheme}://{rest.lstrip("/")}".',
        )


def split_path(argument: str, path: str | os.PathLike[str]) -> tuple[str, str]:
    """The folder and the name in it.

    Args:
        argument: Name of the argument, for the errors.
        path: A path of this machine, or a URL.

    Raises:
        InvalidArgumentError: If it is a URL that lost a slash, or has no folder.
    """
    check_url(argument, path)
    text = str(os.fspath(path))
    if not is_url(text):
        return os.path.split(text)
    folder, _, name = text.rpartition("/")
    if folder.endswith(("//", ":/")) or not folder:
        raise InvalidArgumentError(
            argument, text, "a URL with a bucket or folder", f'Write "{folder}/bucket/{name}".'
        )
    return folder, name
