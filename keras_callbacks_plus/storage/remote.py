"""Object stores through fsspec: the same promises, kept in the store's own way."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections.abc import Hashable, Iterator
from functools import cached_property
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError, MissingExtraError, StorageError

__all__ = ["RemoteFileSystem", "Session"]

# Scheme -> the package that speaks it. Of these it is known that an object appears under its key
# when its upload is completed and not before, and that an upload which is never completed is
# invisible: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html,
# https://cloud.google.com/storage/docs/consistency,
# https://learn.microsoft.com/rest/api/storageservices/put-block-list
_DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "memory": "fsspec",
}
_SMALL = 8 << 20  # bytes up to which one request is simpler, and no slower, than an upload in parts


class Session:
    """What the writers of one process share: who writes where, and what they last saw there."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self.seen: dict[str, frozenset[str]] = {}

    def lock(self, path: str) -> threading.Lock:
        """The lock of a path."""
        with self._guard:
            return self._locks.setdefault(path, threading.Lock())


_THIS_PROCESS = Session()


class RemoteFileSystem:
    """An object store; only it knows that there nothing is renamed, and an upload is a name.

    A file that was created is an upload under its final key, which nobody sees; `rename` completes
    it and `remove` aborts it. There is no lock: the writers of one process take turns, and what
    another process writes to a watched file is noticed before it is replaced.

    Args:
        url: The folder, such as `"s3://bucket/run"`.
        session: What is shared with the other writers. Defaults to that of this process.

    Raises:
        InvalidArgumentError: If it is not known of the scheme that an object appears whole.
        MissingExtraError: If fsspec or the scheme's package is not installed.
    """

    def __init__(self, url: str, *, session: Session = _THIS_PROCESS) -> None:
        self._url = url
        self._scheme = url.partition("://")[0].lower()
        self._session = session
        self._numbers = itertools.count()
        self._paths: dict[int, str] = {}
        self._uploads: dict[str, _Upload] = {}
        self._made = False
        _check_scheme(self._scheme, url)

    @cached_property
    def _driver(self) -> Any:
        """The fsspec file system. Making it may ask for credentials, so it is made on first use."""
        from fsspec.core import url_to_fs

        with _translated("open", self._url):
            return url_to_fs(self._url)[0]

    # ---------------------------------------------------------------- looking

    def join(self, folder: str, name: str) -> str:
        """See `FileSystem`."""
        return f"{folder.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str]:
        """See `FileSystem`."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """See `FileSystem`. Always asks the store: fsspec would remember an old answer."""
        with _translated("list", folder):
            self._driver.invalidate_cache()
            try:
                found = self._driver.ls(folder, detail=True)
            except FileNotFoundError:
                return {}
        return {str(f["name"]).rstrip("/").rpartition("/")[2]: f["size"] or 0 for f in found}

    def exists(self, path: str) -> bool:
        """See `FileSystem`. Not fsspec's `exists`, which takes every error for a no."""
        if path in self._uploads:
            return True
        with _translated("look for", path):
            self._driver.invalidate_cache()
            try:
                self._driver.info(path)
            except FileNotFoundError:
                return False
        return True

    def read(self, path: str, size: int) -> Iterator[bytes]:
        """See `FileSystem`. What is small comes in one request: the manifest is replaced while it
        is read, and a driver that asks twice finds that the object has changed.
        """
        with _translated("read", path, missing=True):
            self._driver.invalidate_cache()
            if self._driver.info(path)["size"] <= size:
                yield self._driver.cat_file(path)
                return
            with self._driver.open(path, "rb") as file:
                while data := file.read(size):
                    yield data

    def version(self, path: str) -> Hashable | None:  # noqa: ARG002 - asking takes as long as reading
        """See `FileSystem`."""
        return None

    # ---------------------------------------------------------------- changing

    def make_folder(self, path: str) -> None:
        """See `FileSystem`. There are no folders; that there is no bucket is said early."""
        if self._made or self._scheme not in ("s3", "s3a"):
            return
        bucket = path.partition("://")[2].partition("/")[0]
        with _translated("write to", path), contextlib.suppress(PermissionError):
            self._driver.info(bucket)  # some may write to a bucket and not look at it
        self._made = True

    def create(self, path: str, final_path: str) -> int:
        """See `FileSystem`."""
        descriptor = next(self._numbers)
        small = None if self._scheme == "memory" else _SMALL
        watched = final_path in self._session.seen
        self._paths[descriptor] = path
        self._uploads[path] = _Upload(self._driver, final_path, small=small, checksum=watched)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        """See `FileSystem`. Where an upload has parts, each is sent as soon as it is full."""
        upload = self._uploads[self._paths[descriptor]]
        with _translated("write", upload.key):
            upload.write(data)
        return len(data)

    def sync(self, descriptor: int) -> None:
        """See `FileSystem`. Nothing to do: `rename` returns when the store has all bytes."""

    def start_sync(self, descriptor: int, offset: int, count: int) -> None:
        """See `FileSystem`. Nothing to do: what is full is on its way already."""

    def close(self, descriptor: int) -> None:
        """See `FileSystem`."""
        self._paths.pop(descriptor, None)

    def rename(self, source: str, target: str) -> None:
        """See `FileSystem`. Completes an upload; an object that is there already is copied.

        Raises:
            StorageError: If another process has written the watched file `target`, or if an upload
                in parts, whose key cannot be changed any more, is to have another.
        """
        upload = self._uploads.get(source)
        if upload is None:
            with _translated("copy", source):
                self._driver.cp_file(source, target)
            self.remove(source)
            return
        self._refuse_if_changed(target)
        upload.rename(target)
        if upload.checksum is not None:  # until the store has answered, either may be there
            self._saw(target, self._session.seen[target] | {upload.checksum})
        with _translated("write", target):
            upload.complete()
        if upload.checksum is not None:
            self._saw(target, {upload.checksum})
        del self._uploads[source]

    def sync_folder(self, path: str) -> None:
        """See `FileSystem`. Nothing to do: a key is durable when its object is."""

    def remove(self, path: str) -> None:
        """See `FileSystem`."""
        upload = self._uploads.pop(path, None)
        with _translated("remove", path, missing=True):
            if upload is not None:
                upload.abort()
                return
            if path in self._session.seen:
                self._saw(path, self._session.seen[path] | {_ABSENT})
            self._driver.rm_file(path)
        if path in self._session.seen:
            self._saw(path, {_ABSENT})

    def remove_folder(self, path: str) -> None:
        """See `FileSystem`. Nothing to do: a folder without objects is not there."""

    # ---------------------------------------------------------------- alone

    def is_locked(self, path: str) -> bool:
        """See `FileSystem`. Only this process sees an upload that is not complete."""
        return path in self._uploads

    @contextlib.contextmanager
    def lock(self, path: str) -> Iterator[bool]:
        """See `FileSystem`. Keeps this process's writers apart; others are noticed by `watch`."""
        with self._session.lock(path):
            yield True

    def watch(self, path: str, *, afresh: bool) -> None:
        """See `FileSystem`."""
        with self._session.lock(path):  # no writer has begun before it has watched
            if afresh or path not in self._session.seen:
                self._saw(path, {self._checksum(path)})

    def _saw(self, path: str, checksums: set[str] | frozenset[str]) -> None:
        self._session.seen[path] = frozenset(checksums)

    def _refuse_if_changed(self, path: str) -> None:
        seen = self._session.seen.get(path)
        if seen is None or self._checksum(path) in seen:
            return
        raise StorageError(
            f"{path} was changed by another process since this one read it. An object store has no "
            "lock, so one training at a time may write to a folder there. Give each training a "
            "folder of its own; or end the other one, and start `fit` again to go on from what is "
            "there. Nothing was overwritten.",
            path,
        )

    def _checksum(self, path: str) -> str:
        digest = hashlib.sha256()
        try:
            for data in self.read(path, _SMALL):
                digest.update(data)
        except FileNotFoundError:
            return _ABSENT
        return digest.hexdigest()


_ABSENT = ""


class _Upload:
    """An object on its way: in memory while it is small, then in parts that the store holds."""

    def __init__(self, driver: Any, key: str, *, small: int | None, checksum: bool) -> None:
        self.key = key
        self._driver = driver
        self._small = small
        self._held = bytearray()
        self._file: Any = None
        self._digest = hashlib.sha256() if checksum else None

    @property
    def checksum(self) -> str | None:
        """Of what was written so far, where it was asked for."""
        return None if self._digest is None else self._digest.hexdigest()

    def write(self, data: memoryview) -> None:
        if self._digest is not None:
            self._digest.update(data)
        if self._file is not None:
            self._file.write(data)
        elif self._small is None or len(self._held) + len(data) <= self._small:
            self._held += data
        else:
            self._file = self._driver.open(self.key, "wb", autocommit=False)
            self._file.write(memoryview(self._held))
            self._held = bytearray()
            self._file.write(data)

    def rename(self, key: str) -> None:
        if key != self.key and self._file is not None:
            raise StorageError(
                f"{self.key} is taken: somebody wrote it while this process was uploading it. It "
                "is left as it is, and the upload is given up; the next save takes another name.",
                self.key,
            )
        self.key = key

    def complete(self) -> None:
        if self._file is None:
            self._driver.pipe_file(self.key, bytes(self._held))
        else:
            self._file.close()
            self._file.commit()

    def abort(self) -> None:
        if self._file is None:
            return
        try:
            self._file.discard()
        finally:
            self._file.closed = True  # or its finalizer would try to complete it


def _check_scheme(scheme: str, url: str) -> None:
    driver = _DRIVERS.get(scheme)
    if driver is None:
        raise InvalidArgumentError(
            "filepath",
            url,
            "a path, or a URL of an object store: " + ", ".join(f"{s}://" for s in _DRIVERS),
            "Of other places it is not known that a file appears there only when it is whole. "
            "Write to a folder of this machine, and copy from there.",
        )
    try:
        from fsspec import get_filesystem_class

        get_filesystem_class(scheme)
    except ImportError as error:
        needed = "" if driver == "fsspec" else f" {driver}"
        raise MissingExtraError(
            f"Writing to {scheme}:// needs fsspec{needed and ' and' + needed}: {error}. "
            f'Install with: pip install "keras-callbacks-plus[remote]"{needed}',
            "remote",
        ) from error


_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (PermissionError, "These credentials may not do that: check them, and the bucket's policy."),
    (FileNotFoundError, "Create the bucket first, or correct its name."),
)


@contextlib.contextmanager
def _translated(verb: str, path: str, *, missing: bool = False) -> Iterator[None]:
    """Raises a `StorageError` in place of whatever the driver raises, which becomes its cause.

    The drivers raise the errors of their own HTTP libraries, which have no class in common.

    Args:
        verb: What is being done, as in "Could not write ...".
        path: The key concerned.
        missing: Whether the caller knows what to do about a `FileNotFoundError`.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        if missing and isinstance(error, FileNotFoundError):
            raise
        hint = next((text for kind, text in _HINTS if isinstance(error, kind)), "")
        hint = hint or "Objects written before are as they were."
        raise StorageError(
            f"Could not {verb} {path}: {type(error).__name__}: {error}. {hint}", path
        ) from error
