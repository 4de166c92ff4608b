"""Where a `fit` begins that has found a snapshot, and whether anything is left to do."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

from keras_callbacks_plus.errors import CheckpointWarning, ResumeError

__all__ = ["Beginning"]

_LOGGER = logging.getLogger("keras_callbacks_plus")


@dataclass(frozen=True)
class Beginning:
    """Where a `fit` begins.

    Args:
        done: Epochs that are done.
        epochs: How many the script asks for.
        within: Whether batches of the next epoch are done, too.
        finished: Whether nothing is left to do.
    """

    done: int
    epochs: int
    within: bool
    finished: bool

    @classmethod
    def of(cls, saved: dict[str, Any], epochs: int) -> Beginning:
        """Reads it from a snapshot.

        Args:
            saved: The snapshot.
            epochs: How many the script asks for.

        Raises:
            ResumeError: If the run has begun an epoch that the script does not ask for.
        """
        done, within = saved["epoch"], saved["executions"] > 0
        if within and done >= epochs:
            raise ResumeError(
                f"The run was saved within epoch {done + 1} of {saved['epochs']}, and "
                f"epochs={epochs} was asked for, which lie behind it. Pass at least "
                f"epochs={done + 1}, or name another `backup_dir` to start afresh. Nothing was "
                "deleted."
            )
        stopped = saved["stopped"] and epochs <= saved["epochs"]
        return cls(done, epochs, within, not within and (done >= epochs or stopped))

    @property
    def first_epoch(self) -> int:
        """The first epoch that `fit` runs."""
        return self.epochs if self.finished else self.done

    @property
    def goes_beyond(self) -> bool:
        """Whether more epochs are done than the script asks for."""
        return self.done > self.epochs

    def tell(self, directory: str, *, finished_here: bool) -> None:
        """Says that nothing will be trained: aloud where the script may want something else.

        Args:
            directory: The `backup_dir`.
            finished_here: Whether a `fit` of this process has finished with it.
        """
        if self.goes_beyond:
            warnings.warn(
                f"{self.done} epochs are done and epochs={self.epochs} was asked for: nothing is "
                f"trained, and the model is the one after {self.done} epochs. The snapshots stay.",
                CheckpointWarning,
                stacklevel=4,
            )
        elif finished_here:
            warnings.warn(
                f"A `fit` with backup_dir={directory!r} had finished in this process: nothing is "
                "trained, and model and `History` are those of that `fit`. Pass more `epochs` to "
                "go on with it; give another `fit` (of another fold, say) a `backup_dir` of its "
                "own.",
                CheckpointWarning,
                stacklevel=4,
            )
        else:
            _LOGGER.info("The run had finished: nothing is trained")
