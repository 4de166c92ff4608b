"""The snapshots of one run: self-checking files, the newest two kept, read newest first."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from keras_callbacks_plus.callbacks._series import decide
from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointWarning,
    ResumeError,
)
from keras_callbacks_plus.policies import LatestN
from keras_callbacks_plus.storage import (
    BackgroundWriter,
    CheckpointRecord,
    CheckpointStore,
    ContainerPayload,
    read_container,
)

__all__ = ["FORMAT", "SERIES", "RunStore"]

FORMAT = 3

SERIES = "training_state"
_GENERATIONS = 2


class RunStore:
    """The folder of one run's snapshots.

    Args:
        directory: String, the folder.
    """

    def __init__(self, directory: str) -> None:
        self._store = CheckpointStore(directory)
        self._writer = BackgroundWriter(f"the snapshots in {directory}")

    def newest(self) -> Any | None:
        """The newest snapshot that is whole, or `None` where there is none at all.

        Raises:
            ResumeError: If there are snapshots, and all are damaged; none is removed.
        """
        for fact in self._store.recover():
            warnings.warn(fact, CheckpointWarning, stacklevel=4)
        records = self._store.records(SERIES)
        troubles = []
        for record in reversed(records):
            try:
                return _of_this_format(read_container(self._store.path_of(record)), record.path)
            except (CheckpointCorruptedError, OSError) as error:
                troubles.append(str(error))
                warnings.warn(
                    f"{error} The snapshot before it is used instead.",
                    CheckpointWarning,
                    stacklevel=4,
                )
        if not troubles:
            return None
        raise ResumeError(
            f"None of the {len(troubles)} snapshots in {self._store.directory} can be read: "
            + " ".join(troubles)
            + " Nothing was deleted. Delete the folder, or name another one, to start afresh."
        )

    def commit(
        self, tree: Any, *, epoch: int, batch: int | None, before: Callable[[], None]
    ) -> None:
        """Has a snapshot written in the background.

        Args:
            tree: The snapshot; its arrays must not change until `wait_until_finished`.
            epoch: The epoch in which training goes on.
            batch: Batches of it that are done; `None` at its beginning.
            before: Runs in the writer thread before the snapshot is committed.
        """
        facts: dict[str, Any] = {"series": SERIES, "kind": SERIES, "epoch": epoch, "batch": batch}
        facts.update(step=None, metrics={})
        payload = ContainerPayload(tree, {**facts, "time": time.time()})
        place = "" if batch is None else f"-{batch:08d}"

        def job() -> None:
            before()
            with self._store.transaction() as transaction:
                transaction.commit(f"snapshot-{epoch:06d}{place}.kcp", payload, **facts)
                transaction.decide(_newest_generations)

        self._writer.submit(job)

    def wait_until_finished(self) -> None:
        """Blocks until the last snapshot is durable; raises if it could not be written."""
        self._writer.wait_until_finished()

    def delete(self) -> None:
        """Removes the snapshots, and the folder if nothing else is in it."""
        with self._store.transaction() as transaction:
            transaction.decide(
                lambda records: {
                    r.path: (False, "the run has finished") for r in records if r.series == SERIES
                }
            )
        self._store.remove_if_empty()


def _of_this_format(tree: Any, path: str) -> Any:
    found = tree.get("format") if isinstance(tree, dict) else None
    if found == FORMAT:
        return tree
    raise ResumeError(
        f"The snapshot {path} has format {found}, and this version reads format {FORMAT}. Resume "
        "the run with the version of keras-callbacks-plus that saved it, or name another "
        "`backup_dir` to start afresh."
    )


def _newest_generations(records: tuple[CheckpointRecord, ...]) -> dict[str, tuple[bool, str]]:
    members = [r for r in records if r.series == SERIES]
    return {d.path: (d.keep, d.reason) for d in decide(LatestN(_GENERATIONS), members)}
