"""`ModelCheckpoint`: the k best or the k latest, atomic, durable and remembered."""

from __future__ import annotations

import logging
from typing import Any, Literal

import keras

from keras_callbacks_plus._keras import compat, messages
from keras_callbacks_plus._keras import logs as log_values
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.progress import batches_done
from keras_callbacks_plus.callbacks._arguments import check_booleans, check_choice, check_number
from keras_callbacks_plus.callbacks._base import StatefulCallback
from keras_callbacks_plus.callbacks._checkpoint_arguments import (
    check_together,
    policy_of,
    ranks,
    refuse_removed,
    refuse_twins,
)
from keras_callbacks_plus.callbacks._checkpoint_messages import what_is_done, what_is_there
from keras_callbacks_plus.callbacks._checkpoint_name import CheckpointName
from keras_callbacks_plus.callbacks._model_series import ModelSeries, Moment, Outlook, step_of
from keras_callbacks_plus.callbacks._save_times import SaveTimes
from keras_callbacks_plus.errors import FitScopeError
from keras_callbacks_plus.policies import (
    Monitor,
    RetentionPolicy,
    Selection,
    Trigger,
    monitors_of,
)

__all__ = ["ModelCheckpoint"]

_LOGGER = logging.getLogger("keras_callbacks_plus")


class ModelCheckpoint(StatefulCallback, keras.callbacks.ModelCheckpoint):
    """Saves the model or its weights: the k best, the k latest, or every one.

    A superset of `keras.callbacks.ModelCheckpoint`: the same arguments in the same order with the
    same meaning, and the same public attributes. The files are ordinary Keras files.

    What it guarantees beyond Keras's:

    - *Atomic and durable*: a file appears under its name only when all of its bytes are on the
      disk. A kill, a full disk or an error at any moment leaves every older file as it was, and a
      new file is committed before an old one is removed.
    - *Remembered*: `checkpoints.json` beside the files records epoch, step, all metrics, size and
      checksum of each. A new process goes on with its ranking. With `save_best_only=True` a better
      file is never replaced by a worse one, also where two trainings write to one folder: what is
      kept is decided when a file is written. What the record does not name, or names with another
      size, is somebody else's: it is neither removed nor replaced.
    - *Never fooled*: a metric that is missing, NaN, or infinite on the wrong side is never best.
    - *In the background*: `fit` waits only while the variables are copied; the file is written
      slowly until somebody waits. An error is raised on the next hook, and at the end.

    A second training of the same `filepath` goes on with the ranking: in a new process, with the
    same model, or with one that was trained before (`load_model`). In one process, *another model
    that has not been trained yet* (a fold of cross-validation) starts a new one, whether the
    instance is new or not; older files stay unless the new ones have the same names. A run that
    `BackupAndRestore` resumes goes on with its own. `verbose=1` says what is taken up.

    Args:
        filepath: String or path, ending in `.keras` (or `.h5`), or in `.weights.h5` with
            `save_weights_only=True`. The file's name may hold `{epoch}`, `{batch}` and the names
            of metrics. A URL such as `"s3://bucket/run/{epoch:02d}.keras"` names an object store
            (extra `remote`), where one training at a time may write to a folder.
        monitor: String, name of the metric. Defaults to `"val_loss"`.
        verbose: 0 or 1; 1 prints a line for each decision. Defaults to `0`.
        save_best_only: Boolean, whether only a model that is among the best is saved: among those
            that `max_to_keep` or a policy that ranks keeps; else, one that is better than all
            before. Defaults to `False`.
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
        min_delta: Float, with `save_best_only`: a model must be better by more than this than
            each one that is to go because of it. Defaults to `0.0`.
        save_on_background: Boolean, whether a thread does the writing. Defaults to `True`.
        save_on_train_end: Boolean, whether to save the model as `fit` returns it, if it was trained
            and not saved as it is. The name begins with `last-` with `save_best_only`, and where
            that step was saved with other weights, to replace nothing. Defaults to `False`.
        save_on_exception: Boolean, the same where `fit` is left by an exception or Ctrl-C: the
            model as it was after the last complete step. Defaults to `False`.
        on_save_error: `"raise"`, or `"warn"` to go on training when a file cannot be written (a
            full or read-only disk, say), and try the next one again. Defaults to `"raise"`.

    With `save_best_only` and a `save_freq` in batches or time, a metric of the batch logs is
    compared as it stands there (Keras's running mean over the epoch); a validation metric is the
    one of the last validation.

    Attributes:
        best: The best value among the files that are kept, or `initial_value_threshold`.

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
        trigger = Trigger.parse(save_freq, argument="save_freq")
        check_together(self, self._name, trigger.unit)
        log_values.monitor_of(None, monitor, "min", min_delta, required=True)
        self.monitor_op: Any = None
        self._decision: Monitor | None = None
        self._series: ModelSeries | None = None
        self._times = SaveTimes(trigger)
        self._validated: dict[str, float] = {}
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a fresh callback: no model, no thread, no open folder."""
        return {**self.__dict__, "_series": None, "_model": None}

    # ---- hooks

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the folder, and takes up the ranking that its manifest holds."""
        if self._series is None:
            self._series = ModelSeries(
                self._name,
                weights_only=bool(self.save_weights_only),
                on_background=bool(self.save_on_background),
                on_error=self.on_save_error,
            )
        self._watch_fit()
        self._series.begin(self._model)
        self._decision = None
        self._warned = False
        self._validated = {}
        self.best = self.initial_value_threshold
        self._times.begin()
        self._resolve(required=False)
        said = what_is_there(
            self._series.count(), self._name.directory, self.monitor, self._decision, self.best
        )
        if said is not None:
            _LOGGER.info(said)
            self._say(said)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the epoch."""
        self._times.begin_epoch(epoch, step_of(self._model))

    @compat.unused_hook
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: saves by batches are made after all callbacks have run."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, if `save_freq` counts epochs and the model is worth it."""
        self._see_outcomes()
        values = log_values.scalars(logs)
        self._validated.update({k: v for k, v in values.items() if k.startswith("val_")})
        if self._times.due_after_epoch(epoch):
            self._consider(epoch, None, values)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits until the last file is durable."""
        if not self.save_on_train_end:  # which still compares the model with its last copy
            self._finish()

    def wait_until_finished(self) -> None:
        """Blocks until every save is durable; raises if one could not be written."""
        if self._series is not None:
            self._series.wait_until_finished()

    # ---- the running fit

    def _watch_fit(self) -> None:
        scope = FitScope.of(self)
        if scope is None:
            inside = self.save_on_train_end or self.save_on_exception
            if self._times.within_epochs or inside:
                raise FitScopeError(
                    f"save_freq={self.save_freq!r}, save_on_train_end={self.save_on_train_end} and "
                    f"save_on_exception={self.save_on_exception} look into `fit`, and this hook "
                    'was not called by `fit`. Use save_freq="epoch" alone in a training loop of '
                    "your own."
                )
            return
        others = [getattr(c, "_name", None) for c in scope.callbacks if c is not self]
        refuse_twins(self, self._name, others)
        if self.save_on_train_end:
            scope.at("after_train_end", lambda *_, **__: self._save_last("the end of fit"))
        if self.save_on_exception:
            scope.on_failure("save", lambda error: self._save_last(repr(error)))
        scope.on_failure("close", lambda _error: self._finish())
        if self._times.within_epochs:
            scope.at("after_train_batch_end", self._batch_ended)

    def _batch_ended(self, batch: int, logs: Any = None) -> None:
        self._see_outcomes()
        done = batches_done(
            batch,
            steps=self.params.get("steps"),
            steps_per_execution=self._model.steps_per_execution,
        )
        if self._times.due_after_batches(done):
            values = {**self._validated, **log_values.scalars(logs)}
            self._consider(self._times.epoch, done - 1, values)

    def _finish(self) -> None:
        assert self._series is not None
        self._series.close()
        self._see_outcomes()

    def _see_outcomes(self) -> None:
        """Raises what a save has raised, or takes note of how it ended, as `on_save_error` says."""
        assert self._series is not None
        if self._series.is_surprised() and self._decision is not None:
            self._take(self._series.best(self._decision))  # what was not written is not the best

    # ---- what is worth a file

    def _resolve(self, *, required: bool) -> Monitor | None:
        """The comparison, as soon as the metric's direction is known; then the best so far."""
        assert self._series is not None
        if self._decision is None and ranks(self.keep, bool(self.save_best_only)):
            self._decision = log_values.monitor_of(
                self._model, self.monitor, self.mode, self.min_delta, required=required
            )
            if self._decision is not None:
                self.monitor_op = compat.monitor_op(self._decision.mode)
                self._take(self._series.take_up(self._decision))
        return self._decision

    def _take(self, best: float | None) -> None:
        assert self._decision is not None
        better = self._decision.is_better(best, self.initial_value_threshold)
        self.best = best if better else self.initial_value_threshold

    def _selection(self) -> Selection:
        monitor = self._resolve(required=True)
        best_only = bool(self.save_best_only)
        policy = policy_of(self.keep, self.max_to_keep, best_only, monitor)
        return Selection(policy, monitor if best_only else None, self.initial_value_threshold)

    def _consider(self, epoch: int, batch: int | None, metrics: dict[str, float]) -> None:
        """Decides whether this model is worth a file, and saves it."""
        name = self._name.format(epoch, batch, metrics, self._validated)
        if self.save_best_only and self.monitor not in metrics:
            self._warn_missing(self.monitor, "nothing was saved", metrics)
            return
        selection = self._selection()
        for monitor in monitors_of(selection.policy):
            if monitor.name not in metrics:
                what = f"{self.keep!r} cannot rank this model"
                self._warn_missing(monitor.name, what, metrics)
        step = step_of(self._model)
        outlook = self._foresee(selection, Moment(name, epoch, batch, step, metrics))
        if outlook is None:
            return
        if self._decision is not None:
            self._take(outlook.best)
        path = self._name.path_of(outlook.placement.path or name)
        said = what_is_done(outlook, path, self.monitor, self._decision, self.best)
        self._say(f"Epoch {epoch + 1}: {said}")
        if outlook.placement.path is not None:
            self._save(selection, outlook)

    def _warn_missing(self, name: str, so: str, metrics: dict[str, float]) -> None:
        what = f"{name} was not logged, so {so}."
        self._warned = self._warned or log_values.warn_missing(what, metrics)

    def _save_last(self, occasion: str) -> None:
        """Saves the model where `fit` ends, whatever its score, if it was trained at all."""
        assert self._series is not None
        self.wait_until_finished()
        step, times = step_of(self._model), self._times
        if not times.has_trained(step) or self._series.holds(self._model, step):
            self._finish()
            return
        batch = max(0, (step or 0) - times.first_step - 1)
        name = self._name.format_unmeasured(times.epoch, batch, self._validated)
        if self.save_best_only or step == self._series.saved_step is not None:
            name = f"last-{name}"
        selection = self._selection()
        moment = Moment(name, times.epoch, batch, step, {})  # nobody has measured this model
        outlook = self._foresee(selection, moment, forced=True)
        if outlook is not None:
            path = self._name.path_of(str(outlook.placement.path))
            self._say(f"Epoch {times.epoch + 1}: saving model to {path} at {occasion}")
            self._save(selection, outlook, forced=True)
        self._finish()

    def _foresee(
        self, selection: Selection, moment: Moment, *, forced: bool = False
    ) -> Outlook | None:
        assert self._series is not None
        monitor = self._decision
        if monitor is None and self.monitor in moment.metrics:
            monitor = log_values.monitor_of(self._model, self.monitor, self.mode, required=False)
        return self._series.foresee(selection, moment, monitor, forced=forced)

    def _save(self, selection: Selection, outlook: Outlook, *, forced: bool = False) -> None:
        assert self._series is not None
        self._series.save(self._model, selection, outlook, forced=forced)
        if self._decision is not None:
            self._take(outlook.best_after(self._decision))
        self._see_outcomes()

    def _say(self, message: str) -> None:
        if self.verbose > 0:
            messages.print_msg(f"\n{message}")

    # ---- state

    def get_state(self) -> dict[str, Any]:
        """The best value and the progress; the ranking itself is in the manifest."""
        return {
            "best": self.best,
            "validated": dict(self._validated),
            "times": self._times.get_state(),
            "series": None if self._series is None else self._series.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` returned.

        Args:
            state: What `get_state` returned.
        """
        self.best = state["best"]
        self._validated = dict(state["validated"])
        self._times.set_state(state["times"])
        if self._series is not None and state["series"] is not None:
            self._series.set_state(state["series"])
            if self._decision is not None:
                self._take(self._series.best(self._decision))
