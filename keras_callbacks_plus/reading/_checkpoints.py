"""A folder of checkpoints, as a user asks it: the best, the latest, all, and what to prune."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from keras_callbacks_plus._terminal import format_table
from keras_callbacks_plus.errors import (
    CheckpointNotFoundError,
    InvalidArgumentError,
)
from keras_callbacks_plus.policies import Decision, Monitor, RetentionPolicy
from keras_callbacks_plus.reading import _planning
from keras_callbacks_plus.reading._checkpoint import SNAPSHOT, Checkpoint
from keras_callbacks_plus.reading._contents import Contents
from keras_callbacks_plus.reading._ranking import Mode, best_first, monitor_of, recorded_monitor
from keras_callbacks_plus.reading._table import table_of
from keras_callbacks_plus.storage import CheckpointRecord, LedgerLine

__all__ = ["Checkpoints", "checkpoints"]

_SHOWN = 30  # rows of a `repr`


def checkpoints(directory: str | os.PathLike[str]) -> Checkpoints:
    """The checkpoints of a folder that `ModelCheckpoint` writes, as they are now.

    Only the manifest is read; it needs neither Keras nor a backend. Where the manifest is lost or
    damaged, the files are read, and listed by the record that each carries, with a
    `CheckpointWarning`; nothing is changed.

    Args:
        directory: String or path, the folder; or a URL, such as `"s3://bucket/run"`.

    Returns:
        A `Checkpoints`; an empty one where the folder has none.

    Raises:
        CheckpointNotFoundError: If there is no such folder.
        ManifestError: If the manifest is damaged and no file carries a record, or it is of a newer
            format.

    Example:

    >>> import keras, numpy as np, os, tempfile
    >>> import keras_callbacks_plus as kcp
    >>> folder = tempfile.mkdtemp()
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> saving = kcp.ModelCheckpoint(os.path.join(folder, "{epoch:02d}.keras"), monitor="loss")
    >>> _ = model.fit(np.ones((8, 4)), np.ones(8), epochs=3, verbose=0, callbacks=[saving])
    >>> saved = kcp.checkpoints(folder)
    >>> len(saved), saved.latest().name, sorted(saved[0].metrics)
    (3, '03.keras', ['loss'])
    >>> best = saved.best().load_model()
    """
    return Checkpoints(directory)


class Checkpoints(Sequence[Checkpoint]):
    """The checkpoints of a folder, oldest first; made by `checkpoints(directory)`.

    A sequence of `Checkpoint`s, and a table in a notebook. It is what the manifest said when it
    was made: make another one to see what has been saved since.

    Args:
        directory: String or path, the folder, or a URL.

    Attributes:
        directory: String, the folder.
        is_rebuilt: Boolean, whether the manifest was lost, so that what is listed is what the files
            say of themselves.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._contents = Contents(directory)
        self._store = self._contents.store
        self.directory = self._store.directory
        self._items = self._contents.read()
        self.is_rebuilt = self._contents.is_rebuilt

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.directory, self._items, self.is_rebuilt)

    # ---------------------------------------------------------------- a sequence

    @overload
    def __getitem__(self, index: int) -> Checkpoint: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Checkpoint]: ...
    def __getitem__(self, index: int | slice) -> Checkpoint | Sequence[Checkpoint]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Checkpoint]:
        return iter(self._items)

    @property
    def series(self) -> tuple[str, ...]:
        """The series in the folder: the file names of its callbacks, with their placeholders."""
        return tuple(dict.fromkeys(c.series for c in self._items))

    @property
    def ledger(self) -> tuple[LedgerLine, ...]:
        """The last 1,000 decisions, oldest first: `time`, `path`, `action` and `reason` of each.

        It is read when it is asked for.
        """
        return self._store.ledger()

    @property
    def why_empty(self) -> str:
        """What there is to say where there are none: whether there are some further down."""
        return f"There are no checkpoints recorded in {self.directory}.{self._contents.elsewhere()}"

    # ---------------------------------------------------------------- questions

    def best(
        self,
        monitor: str | Monitor | None = None,
        mode: Mode = "auto",
        *,
        series: str | None = None,
    ) -> Checkpoint:
        """The best checkpoint that is whole.

        The file is verified. A damaged or missing one is skipped with a `CheckpointWarning` that
        names its bytes, and the next best is taken. Of equal ones the first saved is best.

        Args:
            monitor: String, name of a metric (or a `policies.Monitor`). Defaults to `None`: the
                metric that the callback ranks by, or `"val_loss"` where the manifest is of a
                version that did not say.
            mode: `"min"`, `"max"` or `"auto"`: as the callback has it, or by the metric's name.
                Defaults to `"auto"`.
            series: String, only this one of `Checkpoints.series`. Defaults to `None`, all.

        Raises:
            CheckpointNotFoundError: If there is none, none has a value that ranks, or all that
                have are damaged.
            MissingMetricError: If no checkpoint has the metric; it lists those there are.
            InvalidArgumentError: If an argument is not acceptable, or the metric's direction is
                not known.
        """

        def ranked(members: Sequence[Checkpoint]) -> list[Checkpoint]:
            comparison = monitor_of(members, monitor, mode)
            found = best_first(members, comparison)
            if not found:
                raise CheckpointNotFoundError(
                    f"No checkpoint in {self.directory} has a value of {comparison.name!r} that "
                    "ranks: all are missing, NaN or infinite. Name another metric as `monitor`, "
                    "or take `latest()`.",
                    self.directory,
                )
            return found

        return self._first_whole(ranked, series, "the next best")

    def latest(self, *, series: str | None = None) -> Checkpoint:
        """The newest checkpoint that is whole.

        The file is verified, and a damaged or missing one skipped, as in `best`.

        Args:
            series: String, only this one of `Checkpoints.series`. Defaults to `None`, all.

        Raises:
            CheckpointNotFoundError: If there is none, or all are damaged.
            InvalidArgumentError: If there is no such series.
        """

        def newest_first(members: Sequence[Checkpoint]) -> list[Checkpoint]:
            return sorted(members, key=lambda c: -c.sequence)

        return self._first_whole(newest_first, series, "the one before")

    def of(self, series: str | None) -> tuple[Checkpoint, ...]:
        """Those of one series, oldest first.

        Args:
            series: String, one of `Checkpoints.series`, or `None` for all.

        Raises:
            CheckpointNotFoundError: If there is no checkpoint at all.
            InvalidArgumentError: If there is no such series.
        """
        members = self._members(self._items, series)
        return self._items if series is None else tuple(members)

    def monitor(
        self,
        monitor: str | Monitor | None = None,
        mode: Mode = "auto",
        *,
        series: str | None = None,
    ) -> Monitor:
        """What `best` ranks by, given the same arguments.

        Args:
            monitor: As in `best`.
            mode: As in `best`.
            series: As in `best`.

        Raises:
            CheckpointNotFoundError: If there is no checkpoint at all.
            MissingMetricError: As in `best`.
            InvalidArgumentError: As in `best`.
        """
        return monitor_of(self._members(self._items, series), monitor, mode)

    def recorded_best(self) -> Checkpoint | None:
        """The best as the manifest has it, for a table; it is not verified.

        Returns:
            The checkpoint, or `None` where the manifest does not say what to rank by.
        """
        monitor = recorded_monitor(self._items)
        ranked = best_first(self._items, monitor) if monitor is not None else []
        return ranked[0] if ranked else None

    def verify(self) -> None:
        """Verifies the manifest and every file.

        Raises:
            ManifestError: If the manifest is damaged, or lost: without it nobody knows what there
                was.
            CheckpointCorruptedError: If a file is; the first one found.
        """
        self.verify_manifest()
        for checkpoint in self._items:
            checkpoint.verify()

    def verify_manifest(self) -> None:
        """Verifies the manifest only.

        Raises:
            ManifestError: As in `verify`.
        """
        self._contents.verify_manifest()

    # ---------------------------------------------------------------- removing

    def plan(self, keep: RetentionPolicy, *, series: str | None = None) -> tuple[Decision, ...]:
        """What a retention policy would keep and evict, and why; nothing is changed.

        Each series is decided on its own. A `BestN` without a monitor takes what `best` would.
        Snapshots of `BackupAndRestore` are kept, unless `series` names them.

        Args:
            keep: A retention policy, such as `policies.BestN(3) | policies.LatestN(1)`.
            series: String, only this one; the others are kept. Defaults to `None`, all.

        Returns:
            A `policies.Decision` for each checkpoint, in their order: `path`, `keep`, `reason`.

        Raises:
            InvalidArgumentError: If `keep` is not a policy, or there is no such series.
            MissingMetricError: If it ranks by a metric that is not in the series.

        Example:

        >>> import tempfile
        >>> import keras_callbacks_plus as kcp
        >>> kcp.checkpoints(tempfile.mkdtemp()).plan(kcp.policies.LatestN(2))
        ()
        """
        if series is not None:
            self.of(series)
        return _planning.plan(self._items, keep, series)

    def prune(self, keep: RetentionPolicy, *, series: str | None = None) -> tuple[Decision, ...]:
        """Removes what `plan` says would go, and nothing else.

        What was saved since this object was made stays. A file that the manifest does not name is
        never touched, and at least one file that stays is verified first: pruning never leaves
        damaged ones only.

        Args:
            keep: As in `plan`.
            series: As in `plan`.

        Returns:
            What `plan` returned.

        Raises:
            InvalidArgumentError: If nothing would be left of a series, as well as for what `plan`
                raises it for. Nothing is removed.
            CheckpointCorruptedError: If all that would stay of a series are damaged. Nothing is
                removed.
            StorageError: If the folder cannot be written.
        """
        decisions = self.plan(keep, series=series)
        _planning.check(self._items, decisions)
        self._evict(_planning.evicted(self._items, decisions))
        return decisions

    def remove(self, *checkpoints: Checkpoint | str) -> tuple[Checkpoint, ...]:
        """Removes the named checkpoints, and nothing else; also the last one, and the best.

        What a training has saved under the same name since this object was made stays.

        Args:
            checkpoints: Members of this sequence, or their names.

        Returns:
            Those that were removed, oldest first.

        Raises:
            InvalidArgumentError: If one is not in this sequence. Nothing is removed.
            StorageError: If the folder cannot be written.
        """
        going = _planning.named(self._items, checkpoints, self.directory)
        gone = self._evict({(c.name, c.sequence): "removed by hand" for c in going})
        return tuple(c for c in going if (c.name, c.sequence) in gone)

    # ---------------------------------------------------------------- parts

    def _evict(self, reasons: Mapping[tuple[str, int], str]) -> set[tuple[str, int]]:
        """Removes by name and sequence, and not what was saved under a name since."""
        gone: set[tuple[str, int]] = set()

        def judge(records: tuple[CheckpointRecord, ...]) -> dict[str, tuple[bool, str]]:
            gone.update({(r.path, r.sequence) for r in records} & reasons.keys())
            return {path: (False, reasons[path, sequence]) for path, sequence in gone}

        if reasons:
            with self._store.transaction() as transaction:
                transaction.decide(judge)
        self._items = self._contents.read()
        self.is_rebuilt = self._contents.is_rebuilt
        return gone

    def _members(self, items: Sequence[Checkpoint], series: str | None) -> list[Checkpoint]:
        """Those of a series; without one, all but snapshots, where there is anything else."""
        if not items:
            raise CheckpointNotFoundError(self.why_empty, self.directory)
        if series is None:
            return [c for c in items if c.kind != SNAPSHOT] or list(items)
        members = [c for c in items if c.series == series]
        if not members:
            there = ", ".join(repr(name) for name in dict.fromkeys(c.series for c in items))
            raise InvalidArgumentError(
                "series", series, "one of those in the folder", f"There are: {there}."
            )
        return members

    def _first_whole(
        self,
        order: Callable[[Sequence[Checkpoint]], list[Checkpoint]],
        series: str | None,
        then: str,
    ) -> Checkpoint:
        return self._contents.first_whole(
            lambda items: order(self._members(items, series)), self._items, then
        )

    # ---------------------------------------------------------------- looks

    def _title(self) -> str:
        count = len(self._items)
        return f"{count} checkpoint{'' if count == 1 else 's'} in {self.directory}"

    def __repr__(self) -> str:
        if not self._items:
            return self._title()
        shown = self._items[-_SHOWN:]
        table = table_of(shown)
        more = len(self._items) - len(shown)
        tail = f"\n(the newest {len(shown)} of {len(self._items)})" if more else ""
        return f"{self._title()}\n{format_table(table.columns, table.rows)}{tail}"

    def _repr_html_(self) -> str:
        return table_of(self._items, self.recorded_best()).to_html(self._title())


def _restored(directory: str, items: tuple[Checkpoint, ...], is_rebuilt: bool) -> Checkpoints:
    """For pickle and `copy`: what was listed, whatever the folder holds by now."""
    found = Checkpoints.__new__(Checkpoints)
    found._contents = Contents(directory)
    found._store = found._contents.store
    found.directory = directory
    found._items = items
    found.is_rebuilt = found._contents.is_rebuilt = is_rebuilt
    return found
