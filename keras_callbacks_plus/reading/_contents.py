"""What a folder holds by now: its manifest, or what the files say where that is lost."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointNotFoundError,
    CheckpointWarning,
    ManifestError,
)
from keras_callbacks_plus.reading._checkpoint import Checkpoint
from keras_callbacks_plus.storage import (
    MANIFEST,
    CheckpointRecord,
    CheckpointStore,
    check_url,
    filesystem_for,
    is_url,
    rebuilt_records,
)

__all__ = ["Contents"]

_HINTS = 5  # folders that a message names
_ATTEMPTS = 20  # a training may change the folder while it is read


class Contents:
    """What is in a folder, or in the like of it in an object store.

    Args:
        directory: String or path.

    Attributes:
        store: The checkpoints in it.
        is_rebuilt: Boolean, whether the manifest was lost when it was last read.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        check_url("directory", directory)
        self.store = CheckpointStore(directory)
        self.is_rebuilt = False
        self._path = self.store.directory

    def read(self) -> tuple[Checkpoint, ...]:
        """The checkpoints, oldest first.

        Raises:
            CheckpointNotFoundError: If there is no such folder.
            ManifestError: If the manifest is damaged and no file carries a record of its own, or it
                is of a newer format.
        """
        self._check_is_there()
        damage = None
        try:
            records = self.store.records()
        except ManifestError as error:
            if error.is_newer:
                raise
            damage, records = error, ()
        self.is_rebuilt = False
        if damage is not None or not (records or self.store.has_file(MANIFEST)):
            records = self._rebuilt(damage)
        return tuple(Checkpoint(self.store, record) for record in records)

    def now(self, suspect: Checkpoint, items: tuple[Checkpoint, ...]) -> tuple[Checkpoint, ...]:
        """What it holds by now, a commit included that has replaced a file a moment ago.

        Args:
            suspect: The one that was found to be not what it should be.
            items: What was there when it was looked for.
        """
        if self.is_rebuilt:
            return items
        pending = self.store.pending()
        now = self.read()
        if pending is not None and pending.path == suspect.name and suspect in now:
            coming = Checkpoint(self.store, pending)
            try:
                coming.verify()
            except CheckpointCorruptedError:
                return now
            return (*(c for c in now if c != suspect), coming)
        return now

    def first_whole(
        self,
        order: Callable[[tuple[Checkpoint, ...]], list[Checkpoint]],
        items: tuple[Checkpoint, ...],
        then: str,
    ) -> Checkpoint:
        """The first that verifies; starts again where a training changes the folder meanwhile.

        Args:
            order: Which of some checkpoints come into question, and in which order.
            items: What was there when it was listed.
            then: What is taken in place of a damaged one, for the warning.

        Raises:
            CheckpointNotFoundError: If none is whole.
        """
        for attempt in range(_ATTEMPTS):
            troubles: list[str] = []
            for candidate in order(items):
                try:
                    self.store.verify(candidate.record)
                except CheckpointCorruptedError as error:
                    now = self.now(candidate, items)
                    if now != items and attempt < _ATTEMPTS - 1:
                        items = now
                        break
                    troubles.append(str(error))
                    continue
                for trouble in troubles:
                    text = f"{trouble} Taking {then}: {candidate.path}."
                    warnings.warn(text, CheckpointWarning, stacklevel=4)
                return candidate
            else:
                break
        raise CheckpointNotFoundError(
            f"None of the {len(troubles)} checkpoints in {self._path} that come into question "
            f"is whole: {' '.join(troubles)}",
            self._path,
        )

    def verify_manifest(self) -> None:
        """Raises unless every byte of the manifest is as it was written, and it is not lost.

        Raises:
            ManifestError: If it is damaged, or gone.
        """
        self.store.verify_manifest()
        if self.is_rebuilt:
            path = self.store.manifest_path
            raise ManifestError(
                f"{path} is gone. The files that are listed carry a record of their "
                "own, and are what that says; what else there was is not known.",
                path,
            )

    def elsewhere(self) -> str:
        """Where else there are some: not far below, so that a search of a home folder ends."""
        if is_url(self._path):
            return ""
        here = Path(self._path)
        found = itertools.chain(here.glob(f"*/{MANIFEST}"), here.glob(f"*/*/{MANIFEST}"))
        below = sorted(str(path.parent) for path in itertools.islice(found, _HINTS))
        return f" There are some in {', '.join(below)}." if below else ""

    def _check_is_there(self) -> None:
        if is_url(self._path):
            if not filesystem_for(self._path).exists(self._path):
                raise CheckpointNotFoundError(f"There is nothing in {self._path}.", self._path)
        elif not os.path.isdir(self._path):
            raise CheckpointNotFoundError(f"There is no folder {self._path}.", self._path)

    def _rebuilt(self, damage: ManifestError | None) -> tuple[CheckpointRecord, ...]:
        """What the files say of themselves. Nothing is changed: that is for who writes here."""
        told: list[str] = []
        records = rebuilt_records(filesystem_for(self._path), self._path, told.append)
        if not records and damage is not None:
            raise damage
        self.is_rebuilt = bool(records)
        if records:
            what = f"{self.store.manifest_path} is gone." if damage is None else str(damage)
            told.append(
                f"{what} Listed is each checkpoint that carries a record of its own and is what "
                f"the checksum in it says ({len(records)}). The next `fit` with ModelCheckpoint in "
                "this folder writes the manifest anew."
            )
        for fact in told:
            warnings.warn(fact, CheckpointWarning, stacklevel=5)
        return records
