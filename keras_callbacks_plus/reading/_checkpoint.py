"""One checkpoint, as a user holds it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointNotFoundError,
    InvalidArgumentError,
)
from keras_callbacks_plus.storage import (
    CheckpointRecord,
    CheckpointStore,
    is_url,
    private_folder,
)

__all__ = ["SNAPSHOT", "Checkpoint"]

SNAPSHOT = "training_state"  # the kind of what `BackupAndRestore` writes
_LOG = logging.getLogger("keras_callbacks_plus")


class Checkpoint:
    """One committed file and what is known of it; found in a `Checkpoints`.

    Loading reads the file twice: first to compare it with its checksum, so that a damaged one is
    an error that names its bytes and never a model that is subtly wrong. From an object store it is
    fetched once, to a temporary file that is compared on the way and removed when it is loaded.

    Attributes:
        path: String, the file, with its folder; a URL where that is one.
        name: String, the file's name in its folder.
        series: String, the callback's `filepath` without its folder: what it belongs to.
        kind: `"model"`, `"weights"` or `"training_state"` (a snapshot of `BackupAndRestore`).
        epoch: Integer or `None`, the epoch it was saved in, counted from 0.
        batch: Integer or `None`, the batch it was saved after, counted from 0; `None` at the end
            of an epoch.
        step: Integer or `None`, the optimizer's step.
        metrics: Mapping from names to floats, everything that was logged.
        size: Integer, bytes.
        time: Float, when it was committed, in seconds since 1970.
        sequence: Integer, its place in the order of commits to the folder.
        kept_because: String, what the retention policy said last.
        monitor: String or `None`, the metric that its callback ranks by.
        mode: `"min"`, `"max"` or `None`, which value of it is better.
    """

    def __init__(self, store: CheckpointStore, record: CheckpointRecord) -> None:
        self._store = store
        self._record = record
        self.path: str = store.path_of(record)
        self.name: str = record.path
        self.series: str = record.series
        self.kind: str = record.kind
        self.epoch: int | None = record.epoch
        self.batch: int | None = record.batch
        self.step: int | None = record.step
        self.metrics: Mapping[str, float] = MappingProxyType(dict(record.metrics))
        self.size: int = record.size
        self.time: float = record.time
        self.sequence: int = record.sequence
        self.kept_because: str = record.kept_because
        self.monitor: str | None = record.monitor
        self.mode: str | None = record.mode

    @property
    def record(self) -> CheckpointRecord:
        """The line of the manifest, with the checksums."""
        return self._record

    def verify(self) -> None:
        """Reads the file, and compares it with what was committed.

        Raises:
            CheckpointCorruptedError: If a byte differs, or the file is gone; it names the file, the
                first range of bytes that is wrong, and the byte, where one alone explains it.
            CheckpointNotFoundError: If a training has replaced or evicted it since it was listed.
        """
        self._verify()

    def _verify(self, copy_to: str | None = None) -> None:
        try:
            self._store.verify(self._record, copy_to=copy_to)
        except CheckpointCorruptedError as error:
            if any(r.sequence == self.sequence for r in self._store.records()):
                raise
            raise CheckpointNotFoundError(
                f"{self.path} is no longer the checkpoint that was listed: it was replaced or "
                f"evicted since. Call `checkpoints({self._store.directory!r})` again.",
                self.path,
            ) from error

    def load_model(self, **kwargs: Any) -> Any:
        """Verifies the file, then loads the model with `keras.models.load_model`.

        Args:
            **kwargs: Passed to Keras: `custom_objects`, `compile`, `safe_mode`.

        Returns:
            The model.

        Raises:
            CheckpointCorruptedError: If the file is damaged; nothing is loaded.
            InvalidArgumentError: If it does not hold a whole model.
            UnsupportedKerasError: If Keras is not installed, or too old.
        """
        if self.kind == "weights":
            raise InvalidArgumentError(
                "load_model",
                self.path,
                "called for a whole model, and this file has only weights",
                "Build the model, and call `load_weights(model)`.",
            )
        self._check_is_of_a_model("load_model")
        from keras_callbacks_plus._keras import loading

        with self._verified() as path:
            return loading.load_model(path, **kwargs)

    def load_weights(self, model: Any, **kwargs: Any) -> None:
        """Verifies the file, then loads its weights into a model with `model.load_weights`.

        Args:
            model: A model of the same architecture.
            **kwargs: Passed to Keras: `skip_mismatch`.

        Raises:
            CheckpointCorruptedError: If the file is damaged; the model is as it was.
            InvalidArgumentError: If it holds no weights that Keras could read.
            UnsupportedKerasError: If Keras is not installed, or too old.
        """
        self._check_is_of_a_model("load_weights")
        from keras_callbacks_plus._keras import loading

        with self._verified() as path:
            loading.load_weights(model, path, **kwargs)

    def _check_is_of_a_model(self, method: str) -> None:
        if self.kind == SNAPSHOT:
            raise InvalidArgumentError(
                method,
                self.path,
                "called for a file of ModelCheckpoint, and this is a snapshot of BackupAndRestore",
                "Build the model, and `fit` it with that callback: it takes up the training.",
            )

    @contextlib.contextmanager
    def _verified(self) -> Iterator[str]:
        """A file of this machine with the bytes that were committed; of an object it is a copy."""
        with contextlib.ExitStack() as until_loaded:
            copy = None
            if is_url(self.path):
                folder = until_loaded.enter_context(private_folder())
                copy = os.path.join(folder, self.name)
            self._verify(copy)
            _LOG.info("Verified %s bytes of %s; loading it.", f"{self.size:,}", self.path)
            yield copy or self.path

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_folder, (self._store.directory, self._record)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Checkpoint):
            return NotImplemented
        return self.path == other.path and self._record == other._record

    def __hash__(self) -> int:
        return hash((self.path, self.sequence))

    def __repr__(self) -> str:
        place = "" if self.epoch is None else f", epoch={self.epoch}"
        if self.batch is not None:
            place += f", batch={self.batch}"
        metrics = ", ".join(f"{name!r}: {value:.5g}" for name, value in self.metrics.items())
        return f"<Checkpoint {self.path!r}{place}, metrics={{{metrics}}}>"


def _of_folder(directory: str, record: CheckpointRecord) -> Checkpoint:
    """For pickle, which could not take over what the store holds."""
    return Checkpoint(CheckpointStore(directory), record)
