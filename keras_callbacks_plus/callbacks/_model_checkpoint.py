"""`ModelCheckpoint`: the k best or the k latest, atomic, durable and remembered."""

from __future__ import annotations

import math
import time
import weakref
from typing import Any, Literal

import keras

from keras_callbacks_plus._keras import compat, messages
from keras_callbacks_plus._keras import logs as log_values
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.progress import batches_done
from keras_callbacks_plus.callbacks._arguments import (
    check_booleans,
    check_choice,
    check_number,
    refuse_removed,
    refuse_twins,
)
from keras_callbacks_plus.callbacks._base import StatefulCallback
from keras_callbacks_plus.callbacks._checkpoint_name import CheckpointName, check_keep
from keras_callbacks_plus.callbacks._model_series import ModelSeries, policy_of, step_of
from keras_callbacks_plus.errors import FitScopeError
from keras_callbacks_plus.policies import Monitor, Progress, RetentionPolicy, Trigger

__all__ = ["ModelCheckpoint"]


class ModelCheckpoint(StatefulCallback, keras.callbacks.ModelCheckpoint):
    """Saves the model or its weights: the k best, the k latest, or every one.

    A superset of `keras.callbacks.ModelCheckpoint`: the same arguments in the same order with the
    same meaning, and the same public attributes. The files are ordinary Keras files.

    What it guarantees beyond Keras's:

    - *Atomic and durable*: a file appears under its name only when all of its bytes are on the
      disk. A kill, a full disk or an error at any moment leaves every older file as it was, and a
      new file is committed before an old one is removed.
    - *Remembered*: `checkpoints.json` beside the files records epoch, step, all metrics, size and
      checksum of each. A new process goes on with its ranking: a better file is never replaced by
      a worse one, and files that it does not name are never removed.
    - *Never fooled*: a metric that is missing, NaN, or infinite on the wrong side is never best.
    - *In the background*: `fit` waits only while the variables are copied. An error of the writer
      thread is raised on the next hook, and at the end.

    A second `fit` of the same instance with the same model goes on with the ranking; with another
    model (a fold of cross-validation) it starts a new one, and leaves the older files in place
    unless the new ones have the same names.

    Args:
        filepath: String or path, ending in `.keras` (or `.h5`), or in `.weights.h5` with
            `save_weights_only=True`. The file's name may hold `{epoch}`, `{batch}` and the names
            of metrics. A URL such as `"s3://bucket/run/{epoch:02d}.keras"` names an object store
            (extra `remote`), where one training at a time may write to a folder.
        monitor: String, name of the metric. Defaults to `"val_loss"`.
        verbose: 0 or 1; 1 prints a line for each decision. Defaults to `0`.
        save_best_only: Boolean, whether only a model that is among the best is saved.
            Defaults to `False`.
        save_weights_only: Boolean, whether only the weights are saved. Defaults to `False`.
        mode: One of `"auto"`, `"min"`, `"max"`. Defaults to `"auto"`.
        save_freq: `"epoch"`, an integer (batches), or a string with a unit: `"2 epochs"`,
            `"500 batches"`, `"10 min"`. Defaults to `"epoch"`.
        initial_value_threshold: Float or `None`, with `save_best_only`: only models better than
            this are saved. Defaults to `None`.
        max_to_keep: Integer or `None`. The number of files to keep: the best ones with
            `save_best_only=True`, else the latest. `None`, the default, behaves as Keras.
        keep: A retention policy instead of a number, such as
            `policies.BestN(3) | policies.LatestN(1)`. Defaults to `None`.
        min_delta: Float, smallest difference that makes a model better than the best.
            Defaults to `0.0`.
        save_on_background: Boolean, whether a thread does the writing. Defaults to `True`.
        save_on_train_end: Boolean, whether to save the model as `fit` returns it, too, unless it
            was saved at that very step. With `save_best_only` the file's name begins with
            `last-`, so that it never replaces the best. Defaults to `False`.
        save_on_exception: Boolean, the same where `fit` is left by an exception or Ctrl-C: the
            model as it was after the last complete step. Defaults to `False`.
        on_save_error: `"raise"`, or `"warn"` to go on training when a file cannot be written (a
            full disk, say); the next one is tried again. Defaults to `"raise"`.

    With `save_best_only` and a `save_freq` in batches or time, a metric of the batch logs is
    compared as it stands there (Keras's running mean over the epoch); a validation metric is the
    one of the last validation.

    Attributes:
        best: The best value so far, or `None`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.
        MissingExtraError: If `filepath` is a URL, and what writes there is not installed.
        StorageError: If a file cannot be written; every older one is intact.

    Example:

    >>> import keras, numpy as np, os, tempfile
    >>> import keras_callbacks_plus as kcp
    >>> folder = tempfile.mkdtemp()
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> checkpoint = kcp.ModelCheckpoint(
    ...     os.path.join(folder, "{epoch:02d}.keras"), monitor="loss",
    ...     save_best_only=True, max_to_keep=2)
    >>> _ = model.fit(np.ones((8, 4)), np.ones(8), epochs=4, verbose=0, callbacks=[checkpoint])
    >>> sorted(f for f in os.listdir(folder) if f.endswith(".keras"))
    ['03.keras', '04.keras']
    """

    def __init__(
        self,
        filepath: Any,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: Literal["auto", "min", "max"] = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
        *,
        max_to_keep: int | None = None,
        keep: RetentionPolicy | None = None,
        min_delta: float = 0.0,
        save_on_background: bool = True,
        save_on_train_end: bool = False,
        save_on_exception: bool = False,
        on_save_error: Literal["raise", "warn"] = "raise",
        **removed: Any,
    ) -> None:
        refuse_removed(removed)
        check_booleans(
            save_best_only=save_best_only,
            save_weights_only=save_weights_only,
            save_on_background=save_on_background,
            save_on_train_end=save_on_train_end,
            save_on_exception=save_on_exception,
        )
        check_number("initial_value_threshold", initial_value_threshold, optional=True)
        keras.callbacks.Callback.__init__(self)
        self._name = CheckpointName.parse(filepath, weights_only=save_weights_only)
        self.filepath = str(filepath)
        self.monitor = monitor
        self.mode = log_values.check_mode(mode)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.initial_value_threshold = initial_value_threshold
        self.max_to_keep = max_to_keep
        self.keep = keep
        self.min_delta = min_delta
        self.save_on_background = save_on_background
        self.save_on_train_end = save_on_train_end
        self.save_on_exception = save_on_exception
        self.on_save_error = check_choice("on_save_error", on_save_error, ("raise", "warn"))
        self.best = initial_value_threshold
        self._trigger = Trigger.parse(save_freq, argument="save_freq")
        check_keep(keep, max_to_keep, self._name, self.filepath, self._trigger.unit)
        log_values.monitor_of(None, monitor, "min", min_delta, required=True)
        self.monitor_op: Any = None
        self._decision: Monitor | None = None
        self._series: ModelSeries | None = None
        self._trained: weakref.ref[Any] | None = None
        self._epoch = 0
        self._batches = 0
        self._batches_of_epoch = 0
        self._first_step = 0
        self._last = Progress()
        self._validated: dict[str, float] = {}
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a fresh callback: no model, no thread, no open folder."""
        fresh = {"_series": None, "_trained": None, "_model": None}
        return {**self.__dict__, **fresh}

    # ---- hooks

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the folder, and takes up the ranking that its manifest holds."""
        same_model = self._trained is None or self._trained() is self._model
        self._trained = weakref.ref(self._model)
        if self._series is None:
            self._series = ModelSeries(
                self._name,
                weights_only=self.save_weights_only,
                on_background=self.save_on_background,
                on_error=self.on_save_error,
            )
        self._series.open(same_model=same_model)
        self._decision = None
        self._warned = False
        self.best = self.initial_value_threshold
        self._batches = self._batches_of_epoch = 0
        self._last = Progress(seconds=time.monotonic())
        self._resolve(required=False)
        scope = FitScope.of(self)
        self._validated = {}
        if scope is not None:
            refuse_twins(self, "_name", scope.callbacks)
        if scope is not None:
            if self.save_on_train_end:
                scope.at("after_train_end", lambda *_, **__: self._save_last("the end of fit"))
            if self.save_on_exception:
                scope.on_failure("save", lambda error: self._save_last(repr(error)))
            scope.on_failure("close", lambda _error: self._finish())
        on_batches = self._trigger.unit != "epochs"
        if scope is None and (on_batches or self.save_on_train_end or self.save_on_exception):
            raise FitScopeError(
                f"save_freq={self.save_freq!r}, save_on_train_end={self.save_on_train_end} and "
                f"save_on_exception={self.save_on_exception} look into `fit`, and this hook was "
                'not called by `fit`. Use save_freq="epoch" alone in a training loop of your own.'
            )
        if scope is not None and on_batches:
            scope.at("after_train_batch_end", self._batch_ended)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch
        self._first_step = step_of(self._model) or 0
        self._batches_of_epoch = 0

    @compat.unused_hook
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: saves by batches are made after all callbacks have run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if `save_freq` counts epochs and the model is worth it."""
        self._see_failures()
        values = log_values.scalars(logs)
        self._validated.update({k: v for k, v in values.items() if k.startswith("val_")})
        before, now = Progress(epochs=epoch), Progress(epochs=epoch + 1)
        if self._trigger.unit == "epochs" and self._trigger.due(before=before, now=now):
            self._consider(epoch, None, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until the last file is durable."""
        self._finish()

    def wait_until_finished(self) -> None:
        """Blocks until every save is durable; raises if one could not be written."""
        if self._series is not None:
            self._series.wait_until_finished()

    # ---- parts

    def _finish(self) -> None:
        self._see_failures()
        assert self._series is not None
        self._series.wait_until_finished()
        self._see_failures()

    def _see_failures(self) -> None:
        """Raises what a save has raised, or takes note that it failed, as `on_save_error` says."""
        assert self._series is not None
        if self._series.has_failed() and self._decision is not None:
            self._take_best(self._decision)  # what was not written is not the best

    def _take_best(self, monitor: Monitor) -> None:
        assert self._series is not None
        best = self._series.best(monitor)
        better = monitor.is_better(best, self.initial_value_threshold)
        self.best = best if better else self.initial_value_threshold

    def _batch_ended(self, batch: int, logs: Any = None) -> None:
        self._see_failures()
        done = batches_done(
            batch,
            steps=self.params.get("steps"),
            steps_per_execution=self._model.steps_per_execution,
        )
        self._batches += done - self._batches_of_epoch
        self._batches_of_epoch = done
        now = Progress(epochs=self._epoch, batches=self._batches, seconds=time.monotonic())
        if self._trigger.due(before=self._last, now=now):
            self._last = now
            self._consider(self._epoch, done - 1, logs)

    def _resolve(self, *, required: bool) -> Monitor | None:
        """The comparison, as soon as the metric's direction is known; then the best so far."""
        if self._decision is None and self.save_best_only:
            self._decision = log_values.monitor_of(
                self._model, self.monitor, self.mode, self.min_delta, required=required
            )
            if self._decision is not None:
                self.monitor_op = compat.monitor_op(self._decision.mode)
                self._take_best(self._decision)
        return self._decision

    def _policy(self) -> RetentionPolicy:
        monitor = self._decision
        if monitor is None and self.keep is not None:
            monitor = log_values.monitor_of(
                self._model, self.monitor, self.mode, self.min_delta, required=True
            )
        return policy_of(self.keep, self.max_to_keep, self.save_best_only, monitor)

    def _consider(self, epoch: int, batch: int | None, logs: Any) -> None:
        """Decides whether this model is worth a file, and saves it."""
        metrics = log_values.scalars(logs)
        if batch is not None:
            metrics = {**self._validated, **metrics}
        name = self._worth_it(self._name.format(epoch, batch, metrics), epoch, batch, metrics)
        if name is not None:
            self._save(name, epoch, batch, metrics)

    def _save_last(self, occasion: str) -> None:
        """Saves the model where `fit` ends, whatever its score."""
        assert self._series is not None
        step = step_of(self._model)
        if step == self._series.saved_step:
            return
        epoch, batch = self._epoch, max(0, (step or 0) - self._first_step - 1)
        name = self._name.format(epoch, batch, self._validated, missing=math.nan)
        if self.save_best_only:
            name = f"last-{name}"
        placed = self._series.place(self._policy(), name, epoch, batch, step, {}, forced=True)
        assert placed is not None
        self._say(f"\nEpoch {epoch + 1}: saving model to {placed} at {occasion}")
        self._save(placed, epoch, batch, {})  # nobody has measured this model
        self._finish()

    def _save(self, name: str, epoch: int, batch: int | None, metrics: dict[str, float]) -> None:
        assert self._series is not None
        monitor = self._decision
        if monitor is None and self.monitor in metrics:
            monitor = log_values.monitor_of(self._model, self.monitor, self.mode, required=False)
        self._series.save(self._model, self._policy(), name, epoch, batch, metrics, monitor)
        value = metrics.get(self.monitor)
        if self._decision is not None and self._decision.is_better(value, self.best):
            self.best = value
        self._see_failures()

    def _worth_it(
        self, name: str, epoch: int, batch: int | None, metrics: dict[str, float]
    ) -> str | None:
        """The name to save this model under, or `None`; says which."""
        assert self._series is not None
        value = metrics.get(self.monitor)
        before = "None" if self.best is None else f"{self.best:.5f}"
        monitor = None
        if self.save_best_only:
            if value is None:
                what = f"Can save best model only with {self.monitor} available; nothing was saved."
                self._warned = self._warned or log_values.warn_missing(what, metrics)
                return None
            monitor = self._resolve(required=True)
            assert monitor is not None
            worth = monitor.is_better(value, self.initial_value_threshold)
            if self.max_to_keep is None and self.keep is None:
                worth = worth and monitor.is_better(value, self.best)
            if not worth:
                self._say(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {before}")
                return None
        step = step_of(self._model)
        placed = self._series.place(self._policy(), name, epoch, batch, step, metrics)
        path = self._name.path_of(placed or name)
        if placed is None:
            what = f"{self.monitor} did not improve from {before}"
        elif monitor is None:
            what = f"saving model to {path}"
        elif monitor.is_better(value, self.best):
            what = f"{self.monitor} improved from {before} to {value:.5f}, saving model to {path}"
        else:
            what = f"{self.monitor} is {value:.5f}, saving to {path}"
        self._say(f"\nEpoch {epoch + 1}: {what}")
        return placed

    def _say(self, message: str) -> None:
        if self.verbose > 0:
            messages.print_msg(message)

    # ---------------------------------------------------------------- state

    def get_state(self) -> dict[str, Any]:
        """The best value and the progress; the ranking itself is in the manifest."""
        return {
            "best": self.best,
            "batches": self._batches,
            "batches_of_epoch": self._batches_of_epoch,
            "last": [self._last.epochs, self._last.batches],
            "validated": dict(self._validated),
            "saved_step": None if self._series is None else self._series.saved_step,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` returned.

        Args:
            state: What `get_state` returned.
        """
        self.best = state["best"]
        self._batches = state["batches"]
        self._batches_of_epoch = state["batches_of_epoch"]
        self._validated = dict(state["validated"])
        if self._series is not None:
            self._series.saved_step = state["saved_step"]
        epochs, batches = state["last"]
        self._last = Progress(epochs=epochs, batches=batches, seconds=time.monotonic())
