"""Where a running `fit` is, in the optimizer's steps; and the checks of a logger's arguments."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

from keras_callbacks_plus._keras.learning_rate import LiveLearningRate
from keras_callbacks_plus.errors import InvalidArgumentError

__all__ = ["FitPosition", "check_folder", "check_seconds", "check_update_freq"]


@dataclass
class FitPosition:
    """One `fit`: what stays the same during it, and where it is."""

    steps: int | None
    steps_per_execution: int
    keras_version: tuple[int, ...]
    batches_per_step: int
    rates: LiveLearningRate | None
    began: bool = False
    step: int = 0
    batches_before: int = 0
    batches: int = 0
    started: float | None = None
    seconds: float = 0.0

    @property
    def position(self) -> int:
        """The optimizer's step: as read at the beginning of the epoch, and counted since."""
        return self.step + self.batches // self.batches_per_step

    def stop_watch(self, now: float) -> None:
        """Ends the measured part of the epoch."""
        if self.started is not None:
            self.seconds, self.started = now - self.started, None


def check_folder(log_dir: object) -> str:
    """Returns `log_dir` as a string."""
    if isinstance(log_dir, str | os.PathLike) and os.fspath(log_dir):
        path = str(os.fspath(log_dir))
        if os.path.isdir(path) or not os.path.exists(path):
            return path
    raise InvalidArgumentError(
        "log_dir",
        log_dir,
        "the path of a folder (not of a file)",
        'Pass a string such as "logs/run1".',
    )


def check_update_freq(update_freq: Any) -> Any:
    """Returns `update_freq` if it is one."""
    whole = isinstance(update_freq, int) and not isinstance(update_freq, bool)
    if update_freq in ("epoch", "batch") or (whole and update_freq > 0):
        return update_freq
    raise InvalidArgumentError(
        "update_freq",
        update_freq,
        '"epoch", "batch" or a positive integer',
        "Write 100 for the metrics of every 100th batch.",
    )


def check_seconds(flush_secs: Any) -> float:
    """Returns `flush_secs` as a float."""
    number = isinstance(flush_secs, int | float) and not isinstance(flush_secs, bool)
    if number and math.isfinite(flush_secs) and flush_secs > 0:
        return float(flush_secs)
    raise InvalidArgumentError(
        "flush_secs", flush_secs, "a positive number of seconds", "Leave it out for 10 seconds."
    )
