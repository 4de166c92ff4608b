"""Changes to a folder of checkpoints that become visible together."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from keras_callbacks_plus.storage import atomic
from keras_callbacks_plus.storage.atomic import Payload, Staged
from keras_callbacks_plus.storage.folder import Folder
from keras_callbacks_plus.storage.full_disk import record_and_remove
from keras_callbacks_plus.storage.manifest import CheckpointRecord, Manifest, Pending

__all__ = ["Transaction"]

Records = tuple[CheckpointRecord, ...]
Settle = Callable[[Records, Collection[str], CheckpointRecord], tuple[str | None, str]]
Judge = Callable[[Records], Mapping[str, tuple[bool, str]]]


class Transaction:
    """Changes to a folder that become visible together; made by `CheckpointStore.transaction`.

    The long part, writing the bytes, happens in `commit` outside of the folder's lock. The lock is
    held in `finish` only, so what depends on the other checkpoints is decided there: whether the
    new file is still wanted and what it is called, by `settle`, and then what is kept, by `decide`.

    Args:
        folder: The folder.
        series: Whose files must be as they were committed, or `None`.

    Attributes:
        facts: A sentence for each thing found that a user should know of; empty until the end.
    """

    def __init__(self, folder: Folder, series: str | None) -> None:
        self.facts: tuple[str, ...] = ()
        self._folder = folder
        self._series = series
        self._staged: Staged | None = None
        self._draft: dict[str, Any] = {}
        self._settle: Settle = lambda _records, _names, new: (new.path, "")
        self._judge: Judge = lambda _records: {}

    def commit(
        self,
        name: str,
        payload: Payload,
        *,
        series: str,
        kind: str,
        epoch: int | None,
        batch: int | None,
        step: int | None,
        metrics: Mapping[str, float],
        monitor: str | None = None,
        mode: str | None = None,
    ) -> None:
        """Writes a file, durably, under a hidden name; it gets its name at the end.

        Once in a transaction.

        Args:
            name: Its name in the folder.
            payload: Its bytes.
            series: As in `CheckpointRecord`, like the following.
            kind: What kind of file it is.
            epoch: The epoch, counted from 0.
            batch: The batch, counted from 0.
            step: The optimizer's step.
            metrics: Every scalar that was logged.
            monitor: The metric that ranks it.
            mode: Which value of that is better.
        """
        folder = self._folder
        self._staged = atomic.stage(folder.files, folder.directory, name, payload, folder.locked())
        place = {"epoch": epoch, "batch": batch, "step": step}
        ranking = {"metrics": dict(metrics), "monitor": monitor, "mode": mode}
        self._draft = {"path": name, "series": series, "kind": kind, **place, **ranking}

    def settle(self, settle: Settle) -> None:
        """Has `settle` say, when all else is known, what the new file is called.

        Args:
            settle: Takes the records, the names of all files in the folder, and the new record;
                returns its name, or `None` where it is not wanted any more, and why.
        """
        self._settle = settle

    def decide(self, decide: Judge) -> None:
        """Has `decide` say what is kept, when all records are known.

        Args:
            decide: Takes the records, the new one included, and returns `(keep, reason)` by path;
                what it does not name is kept.
        """
        self._judge = decide

    def finish(self) -> None:
        """Publishes, records, evicts, in this order. Called at the end of the `with` block."""
        folder = self._folder
        try:
            with folder.locked():
                is_new = self._staged is not None
                # where nothing is, removing may have to free the space for the manifest first
                facts, manifest = folder.put_in_order(self._series, write=is_new)
                self.facts = tuple(facts)
                if self._staged is not None:
                    manifest = self._publish(manifest, self._staged)
                manifest, gone = self._apply(manifest)
                record_and_remove(
                    functools.partial(folder.write, manifest),
                    folder.remove,
                    gone,
                    folder.manifest_path,
                    may_remove_first=not is_new,
                )
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Removes what was staged and not published."""
        staged, self._staged = self._staged, None
        if staged is not None:
            atomic.discard(self._folder.files, staged)

    def _publish(self, manifest: Manifest, staged: Staged) -> Manifest:
        folder = self._folder
        record = CheckpointRecord(
            **self._draft,
            size=staged.size,
            checksum=staged.checksum,
            blocks=staged.blocks,
            block_size=staged.block_size,
            time=folder.clock(),
            sequence=manifest.next_sequence,
        )
        names = folder.files.names(folder.directory)
        name, reason = self._settle(manifest.records, names, record)
        if name is None:
            self.discard()
            return manifest.with_lines(folder.line(record.path, "refused", reason))
        record = replace(record, path=name)
        pending = Pending(os.path.basename(staged.path), record)
        folder.write(replace(manifest, pending=pending))
        self._staged = None  # from here on, published or discarded by `publish`
        atomic.publish(folder.files, staged, folder.path_of(name))
        return replace(manifest.with_record(record), next_sequence=record.sequence + 1)

    def _apply(self, manifest: Manifest) -> tuple[Manifest, list[str]]:
        answers = self._judge(manifest.records)
        kept, gone, lines = [], [], []
        for record in manifest.records:
            keep, reason = answers.get(record.path, (True, record.kept_because))
            if not keep:
                gone.append(record.path)
                lines.append(self._folder.line(record.path, "evicted", reason))
                continue
            if reason != record.kept_because:
                lines.append(self._folder.line(record.path, "kept", reason))
                record = replace(record, kept_because=reason)
            kept.append(record)
        manifest = replace(manifest, records=tuple(kept), evicting=tuple(gone))
        return manifest.with_lines(*lines), gone
