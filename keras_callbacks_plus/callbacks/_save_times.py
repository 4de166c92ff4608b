"""When a model is saved: how far a `fit` has come, and what `save_freq` makes of it."""

from __future__ import annotations

import time
from typing import Any

from keras_callbacks_plus.policies import Progress, Trigger

__all__ = ["SaveTimes"]


class SaveTimes:
    """Counts the epochs and batches of one `fit`.

    Args:
        trigger: What `save_freq` says.

    Attributes:
        epoch: The epoch that is running, counted from 0.
        first_step: The optimizer's step at its beginning.
    """

    def __init__(self, trigger: Trigger) -> None:
        self._trigger = trigger
        self.epoch = 0
        self.first_step = 0
        self._has_begun = False
        self._step_before: int | None = None
        self._has_ended = False
        self._batches = 0
        self._batches_of_epoch = 0
        self._last = Progress()

    @property
    def within_epochs(self) -> bool:
        """Whether saves fall between two batches."""
        return self._trigger.unit != "epochs"

    def begin(self) -> None:
        """At the beginning of a `fit`."""
        self.epoch = self.first_step = 0
        self._has_begun = self._has_ended = False
        self._batches = self._batches_of_epoch = 0
        self._last = Progress(seconds=time.monotonic())

    def begin_epoch(self, epoch: int, step: int | None) -> None:
        """At the beginning of an epoch.

        Args:
            epoch: Its number, counted from 0.
            step: The optimizer's step.
        """
        if not self._has_begun:
            self._has_begun, self._step_before = True, step
        self.epoch = epoch
        self.first_step = step or 0
        self._batches_of_epoch = 0

    def has_trained(self, step: int | None) -> bool:
        """Whether this `fit` has changed the model, as far as that can be known.

        Args:
            step: The optimizer's step now, or `None` without one.
        """
        if self._has_ended:
            return True
        return self._has_begun and (step is None or step != self._step_before)

    def due_after_epoch(self, epoch: int) -> bool:
        """Whether to save at the end of an epoch.

        Args:
            epoch: Its number, counted from 0.
        """
        self._has_ended = True
        before, now = Progress(epochs=epoch), Progress(epochs=epoch + 1)
        return not self.within_epochs and self._trigger.due(before=before, now=now)

    def due_after_batches(self, done: int) -> bool:
        """Whether to save between two batches.

        Args:
            done: How many batches of the epoch are done.
        """
        self._batches += done - self._batches_of_epoch
        self._batches_of_epoch = done
        now = Progress(epochs=self.epoch, batches=self._batches, seconds=time.monotonic())
        due = self._trigger.due(before=self._last, now=now)
        if due:
            self._last = now
        return due

    def get_state(self) -> dict[str, Any]:
        """What a resumed `fit` needs to go on counting."""
        return {
            "batches": self._batches,
            "batches_of_epoch": self._batches_of_epoch,
            "last": [self._last.epochs, self._last.batches],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` returned.

        Args:
            state: What `get_state` returned.
        """
        self._batches = state["batches"]
        self._batches_of_epoch = state["batches_of_epoch"]
        epochs, batches = state["last"]
        self._last = Progress(epochs=epochs, batches=batches, seconds=time.monotonic())
