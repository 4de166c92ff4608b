"""`ModelCheckpoint`: the k best or the k latest, atomic, durable and remembered."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from typing import Any, Literal

import keras

from keras_callbacks_plus._keras import compat, messages
from keras_callbacks_plus._keras import logs as log_values
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.learning_rate import to_number
from keras_callbacks_plus._keras.model_files import ModelFileWriter
from keras_callbacks_plus._keras.progress import batches_done
from keras_callbacks_plus.callbacks._base import StatefulCallback
from keras_callbacks_plus.callbacks._checkpoint_name import CheckpointName, check_keep
from keras_callbacks_plus.callbacks._series import Candidate, Series, decide
from keras_callbacks_plus.errors import (
    FitScopeError,
    MissingMetricWarning,
)
from keras_callbacks_plus.policies import (
    BestN,
    KeepAll,
    LatestN,
    Monitor,
    Progress,
    RetentionPolicy,
    Trigger,
)

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
            of metrics.
        monitor: String, name of the metric. Defaults to `"val_loss"`.
        verbose: Integer, 0 or 1; 1 prints a line for each decision. Defaults to `0`.
        save_best_only: Boolean, whether only a model that is among the best is saved.
            Defaults to `False`.
        save_weights_only: Boolean, whether only the weights are saved. Defaults to `False`.
        mode: One of `"auto"`, `"min"`, `"max"`. Defaults to `"auto"`.
        save_freq: `"epoch"`, an integer (batches), or a string with a unit: `"2 epochs"`,
            `"500 batches"`, `"10 min"`. Defaults to `"epoch"`.
        initial_value_threshold: Float or `None`, with `save_best_only`: only models better than
            this are saved. Defaults to `None`.
        max_to_keep: Integer or `None`. The number of files to keep: the best ones with
            `save_best_only=True`, else the latest ones. `None` behaves as Keras.
            Defaults to `None`.
        keep: A retention policy instead of a number, such as
            `policies.BestN(3) | policies.LatestN(1)`. Defaults to `None`.
        min_delta: Float, smallest difference that makes a model better than the best.
            Defaults to `0.0`.
        save_on_background: Boolean, whether a thread does the writing. Defaults to `True`.

    Attributes:
        best: The best value so far, or `None`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.
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
    ) -> None:
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
        self.best = initial_value_threshold
        self._trigger = Trigger.parse(save_freq, argument="save_freq")
        check_keep(keep, max_to_keep, self._name, self.filepath)
        log_values.monitor_of(None, monitor, "min", min_delta, required=True)
        self._decision: Monitor | None = None
        self._series: Series | None = None
        self._files: ModelFileWriter | None = None
        self._trained: weakref.ref[Any] | None = None
        self._epoch = 0
        self._batches = 0
        self._batches_of_epoch = 0
        self._last = Progress()
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a fresh callback: no model, no thread, no open folder."""
        fresh = {"_series": None, "_files": None, "_trained": None, "_model": None}
        return {**self.__dict__, **fresh}

    # ---------------------------------------------------------------- hooks

    def set_model(self, model: Any) -> None:
        """Keras's: sets the model; refuses one that is not a Keras 3 model."""
        compat.require_keras_model(model)
        super().set_model(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the folder, and takes up the ranking that its manifest holds."""
        same_model = self._trained is None or self._trained() is self._model
        self._trained = weakref.ref(self._model)
        if self._series is None:
            kind = "weights" if self.save_weights_only else "model"
            self._series = Series(
                self._name.directory,
                self._name.template,
                kind,
                on_background=self.save_on_background,
            )
        self._series.recover()
        if not same_model:
            self._series.start_over()
            self._files = None
        self._decision = None
        self._warned = False
        self.best = self.initial_value_threshold
        self._batches = self._batches_of_epoch = 0
        self._last = Progress(seconds=time.monotonic())
        self._resolve(required=False)
        scope = FitScope.of(self)
        if scope is not None:
            scope.on_failure("close", lambda _error: self._finish())
        if self._trigger.unit != "epochs":
            if scope is None:
                raise FitScopeError(
                    f"save_freq={self.save_freq!r} counts batches of `fit`, and this hook was not "
                    'called by `fit`. Use save_freq="epoch" in a training loop of your own.'
                )
            scope.at("after_train_batch_end", self._batch_ended)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self._epoch = epoch
        self._batches_of_epoch = 0

    @compat.unused_hook
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: saves by batches are made after all callbacks have run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if `save_freq` counts epochs and the model is worth it."""
        assert self._series is not None
        self._series.raise_if_failed()
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

    # ---------------------------------------------------------------- parts

    def _finish(self) -> None:
        assert self._series is not None
        self._series.wait_until_finished()

    def _batch_ended(self, batch: int, logs: Any = None) -> None:
        assert self._series is not None
        self._series.raise_if_failed()
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
                assert self._series is not None
                best = self._series.best(self._decision)
                if self._decision.is_better(best, self.initial_value_threshold):
                    self.best = best
        return self._decision

    def _policy(self) -> RetentionPolicy:
        if self.keep is not None:
            bind = getattr(self.keep, "bind", None)
            monitor = self._decision or log_values.monitor_of(
                self._model, self.monitor, self.mode, self.min_delta, required=True
            )
            return bind(monitor) if callable(bind) else self.keep
        if self.max_to_keep is None:
            return KeepAll()
        if not self.save_best_only:
            return LatestN(self.max_to_keep)
        return BestN(self.max_to_keep, self._decision)

    def _consider(self, epoch: int, batch: int | None, logs: Any) -> None:
        """Decides whether this model is worth a file, and saves it."""
        assert self._series is not None
        metrics = log_values.scalars(logs)
        name = self._name.format(epoch, batch, metrics)
        if not self._is_worth_it(name, epoch, batch, metrics):
            return
        self._series.wait_until_finished()  # at most one copy of the model is held
        if self._files is None:
            self._files = ModelFileWriter(
                self._model,
                weights_only=self.save_weights_only,
                legacy_h5=not self.save_weights_only and name.endswith(".h5"),
            )
        payload = self._files.capture()
        step = getattr(self._model.optimizer, "iterations", None)
        candidate = Candidate(
            path=name,
            epoch=epoch,
            batch=batch,
            step=None if step is None else int(to_number(step)),
            metrics=metrics,
            size=payload.size_hint,
            time=time.time(),
            sequence=self._series.next_sequence(),
        )
        self._series.save(candidate, payload, self._policy())
        value = metrics.get(self.monitor)
        if self._decision is not None and self._decision.is_better(value, self.best):
            self.best = value

    def _is_worth_it(
        self, name: str, epoch: int, batch: int | None, metrics: dict[str, float]
    ) -> bool:
        path = os.path.join(self._name.directory, name)
        if not self.save_best_only:
            self._say(f"\nEpoch {epoch + 1}: saving model to {path}")
            return True
        monitor = self._resolve(required=True)
        assert monitor is not None
        assert self._series is not None
        value = metrics.get(self.monitor)
        if value is None:
            self._warn_of_missing(metrics)
            return False
        before = "None" if self.best is None else f"{self.best:.5f}"
        worth = monitor.is_better(value, self.initial_value_threshold)
        if worth and self.max_to_keep is None and self.keep is None:
            worth = monitor.is_better(value, self.best)
        elif worth:
            worth = self._would_keep(name, epoch, batch, metrics)
        if not worth:
            self._say(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {before}")
        elif monitor.is_better(value, self.best):
            self._say(
                f"\nEpoch {epoch + 1}: {self.monitor} improved from {before} to {value:.5f}, "
                f"saving model to {path}"
            )
        else:
            self._say(f"\nEpoch {epoch + 1}: {self.monitor} is {value:.5f}, saving to {path}")
        return worth

    def _would_keep(
        self, name: str, epoch: int, batch: int | None, metrics: dict[str, float]
    ) -> bool:
        assert self._series is not None
        members = [m for m in self._series.members() if m.path != name]
        candidate = Candidate(
            name, epoch, batch, None, metrics, 0, time.time(), self._series.next_sequence()
        )
        return decide(self._policy(), [*members, candidate])[-1].keep

    def _warn_of_missing(self, metrics: dict[str, float]) -> None:
        if self._warned:
            return
        self._warned = True
        warnings.warn(
            f"Can save best model only with {self.monitor} available; nothing was saved. "
            f"Available metrics are: {', '.join(sorted(metrics))}.",
            MissingMetricWarning,
            stacklevel=2,
        )

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
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` returned.

        Args:
            state: What `get_state` returned.
        """
        self.best = state["best"]
        self._batches = state["batches"]
        self._batches_of_epoch = state["batches_of_epoch"]
        epochs, batches = state["last"]
        self._last = Progress(epochs=epochs, batches=batches, seconds=time.monotonic())
