"""From the model in memory to a committed file of a series, and what happens when that fails."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.learning_rate import to_number
from keras_callbacks_plus._keras.model_files import ModelFileWriter
from keras_callbacks_plus.callbacks._checkpoint_name import CheckpointName
from keras_callbacks_plus.callbacks._series import Candidate, Series, place
from keras_callbacks_plus.errors import CheckpointWarning, StorageError
from keras_callbacks_plus.policies import BestN, KeepAll, LatestN, Monitor, RetentionPolicy

__all__ = ["ModelSeries", "policy_of", "step_of"]


class ModelSeries:
    """The files that one `ModelCheckpoint` keeps of a model.

    Args:
        name: Folder and template of the names.
        weights_only: Boolean, whether the files hold the weights only.
        on_background: Boolean, whether a writer thread does the writing.
        on_error: `"raise"`, or `"warn"` to go on when a file cannot be written.

    Attributes:
        saved_step: The optimizer's step of the last save, or `None`.
    """

    def __init__(
        self,
        name: CheckpointName,
        *,
        weights_only: bool,
        on_background: bool,
        on_error: Literal["raise", "warn"],
    ) -> None:
        self.saved_step: int | None = None
        self._name = name
        self._weights_only = weights_only
        self._on_error = on_error
        self._failed = False
        self._told: set[str] = set()
        self._files: ModelFileWriter | None = None
        kind = "weights" if weights_only else "model"
        self._series = Series(name.directory, name.template, kind, on_background=on_background)

    def open(self, *, same_model: bool) -> None:
        """At the start of a `fit`: puts the folder in order.

        Args:
            same_model: Whether the ranking goes on; with another model it starts anew.
        """
        self._series.recover()
        self.saved_step = None
        if not same_model:
            self._series.start_over()
            self._files = None

    def best(self, monitor: Monitor) -> float | None:
        """The best value of the metric among the files, or `None`."""
        return self._series.best(monitor)

    def place(
        self,
        policy: RetentionPolicy,
        name: str,
        epoch: int,
        batch: int | None,
        step: int | None,
        metrics: Mapping[str, float],
        *,
        forced: bool = False,
    ) -> str | None:
        """The name a model would be saved under now, or `None` if a policy would not keep it."""
        candidate = self._candidate(name, epoch, batch, step, metrics)
        taken = self._series.is_taken
        place_ = place(policy, self._series.members(), candidate, taken, forced=forced)
        if place_ is not None and taken(name) and name not in self._told:
            self._told.add(name)
            warnings.warn(
                f"{self._name.path_of(name)} is there and is not one of "
                f"these checkpoints: it is left as it is, and {place_} is written instead.",
                CheckpointWarning,
                stacklevel=5,
            )
        return place_

    def save(
        self,
        model: Any,
        policy: RetentionPolicy,
        name: str,
        epoch: int,
        batch: int | None,
        metrics: Mapping[str, float],
        monitor: Monitor | None,
    ) -> None:
        """Takes the model as it is now, and has it committed under `name`.

        `monitor` is what it is ranked by, for whoever reads it back; `None` if that is not known.
        """
        self.wait_until_finished()  # at most one copy of the model is held
        if self._files is None:
            self._files = ModelFileWriter(
                model,
                weights_only=self._weights_only,
                legacy_h5=not self._weights_only and name.endswith(".h5"),
            )
        candidate = self._candidate(name, epoch, batch, step_of(model), metrics)
        with self._errors_as_asked():
            if monitor is not None:
                candidate = replace(candidate, monitor=monitor.name, mode=monitor.mode)
            payload = self._files.capture(candidate.carried(self._series))
            self.saved_step = candidate.step
            self._series.save(replace(candidate, size=payload.size_hint), payload, policy)

    def has_failed(self) -> bool:
        """Whether a file could not be written since this was last asked; errors are raised here.

        With `on_error="raise"` it raises instead, and with `"warn"` it has warned.
        """
        with self._errors_as_asked():
            self._series.raise_if_failed()
        failed, self._failed = self._failed, False
        return failed

    def wait_until_finished(self) -> None:
        """Blocks until every save is durable."""
        with self._errors_as_asked():
            self._series.wait_until_finished()

    def _candidate(
        self,
        name: str,
        epoch: int,
        batch: int | None,
        step: int | None,
        metrics: Mapping[str, float],
    ) -> Candidate:
        number = self._series.next_sequence()
        return Candidate(name, epoch, batch, step, metrics, 0, time.time(), number)

    @contextlib.contextmanager
    def _errors_as_asked(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            self._failed = True
            self.saved_step = None
            if self._on_error == "raise":
                raise
            warnings.warn(f"{error} Training goes on.", CheckpointWarning, stacklevel=4)


def policy_of(
    keep: RetentionPolicy | None, max_to_keep: int | None, best_only: bool, monitor: Monitor | None
) -> RetentionPolicy:
    """The retention policy that `ModelCheckpoint`'s arguments say.

    Args:
        keep: The argument; a policy that ranks takes `monitor` where it has none.
        max_to_keep: The argument.
        best_only: Whether the number is of the best, or of the latest.
        monitor: The comparison; needed for the best.
    """
    if keep is not None:
        bind = getattr(keep, "bind", None)
        bound: RetentionPolicy = bind(monitor) if callable(bind) else keep
        return bound
    if max_to_keep is None:
        return KeepAll()
    return BestN(max_to_keep, monitor) if best_only else LatestN(max_to_keep)


def step_of(model: Any) -> int | None:
    """How many steps the model's optimizer has made, or `None` without one."""
    compat.recover_state_after_failure(model)
    step = getattr(getattr(model, "optimizer", None), "iterations", None)
    return None if step is None else int(to_number(step))
