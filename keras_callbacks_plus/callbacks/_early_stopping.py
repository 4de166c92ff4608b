"""`EarlyStopping`: stops when a metric has stopped improving, and ends with the best weights."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import keras
import numpy as np

from keras_callbacks_plus._keras import best_weights, compat, messages
from keras_callbacks_plus._keras import logs as log_values
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus.callbacks._arguments import check_booleans, check_number
from keras_callbacks_plus.callbacks._base import StatefulCallback
from keras_callbacks_plus.errors import InvalidArgumentError, MissingMetricWarning
from keras_callbacks_plus.policies import Patience, PatienceState, StopReason

__all__ = ["EarlyStopping"]


class EarlyStopping(StatefulCallback, keras.callbacks.EarlyStopping):
    """Stops training when a metric has stopped improving, and can end with the best weights.

    A superset of `keras.callbacks.EarlyStopping`: the same arguments in the same order with the
    same meaning, and the same public attributes. Change the import, and nothing else.

    What it guarantees beyond Keras's:

    - With `restore_best_weights=True` the model holds the best weights after `fit` *however* it
      ended: out of patience, at the last epoch, stopped by another callback, by an exception in
      the data, the step or any hook, or by Ctrl-C (which on JAX would otherwise lose the model).
    - NaN, and infinity on the wrong side, are never the best; an improvement always resets `wait`.
    - With `use_ema=True` in the optimizer, weights and moving averages are restored as the pair of
      the best epoch. A `fit` that ends without an exception then ends as every Keras `fit` does,
      with the averages (of the best epoch) as the weights.
    - `wait`, `best` and the best weights survive a restart with `BackupAndRestore`.

    What it does not do: the optimizer's other state (its step, Adam's moments) stays that of the
    last batch, as in Keras.

    Args:
        monitor: String, name of the metric. Defaults to `"val_loss"`.
        min_delta: Float, smallest change that counts as an improvement. Defaults to `0`.
        patience: Integer, epochs without improvement after which training stops. Defaults to `0`.
        verbose: Integer, 0 or 1; 1 prints a line when training stops and when weights are restored.
            Defaults to `0`.
        mode: One of `"auto"`, `"min"`, `"max"`. Defaults to `"auto"`.
        baseline: Float or `None`, a value to be reached: `wait` is reset by an improvement only
            once the baseline is beaten. Defaults to `None`.
        restore_best_weights: Boolean, whether the model ends with the weights of the best epoch.
            Defaults to `False`.
        start_from_epoch: Integer, epochs before the metric is looked at. Defaults to `0`.
        min_delta_mode: `"absolute"`, or `"relative"` for `min_delta * abs(best)`.
            Defaults to `"absolute"`.
        stopping_threshold: Float or `None`, stop as soon as the metric is this good.
        divergence_threshold: Float or `None`, stop as soon as the metric is this bad.
        check_finite: Boolean, stop as soon as the metric is NaN or infinite. Defaults to `False`.

    Attributes:
        best: The best value so far, or `None`.
        best_epoch: The epoch it was seen in, counted from 0.
        wait: Epochs since then.
        stopped_epoch: The epoch in which this callback stopped the training, or 0.
        stop_reason: Why it did, as a `policies.StopReason`, or `None`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable, or the direction of `monitor` is
            not known in `mode="auto"`.

    Example:

    >>> import keras, numpy as np
    >>> import keras_callbacks_plus as kcp
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> stop = kcp.EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)
    >>> history = model.fit(np.ones((8, 4)), np.ones(8), epochs=3, verbose=0, callbacks=[stop])
    >>> stop.best == min(history.history["loss"])
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: Literal["auto", "min", "max"] = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        *,
        min_delta_mode: Literal["absolute", "relative"] = "absolute",
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_finite: bool = False,
    ) -> None:
        check_booleans(restore_best_weights=restore_best_weights, check_finite=check_finite)
        check_number("min_delta", min_delta)
        keras.callbacks.Callback.__init__(self)
        self.monitor = _metric_name(monitor)
        self.mode = log_values.check_mode(mode)
        self.min_delta = abs(min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.min_delta_mode = min_delta_mode
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.check_finite = check_finite
        self.monitor_op: Any = None
        self._criterion: Patience | None = None
        self._checked_arguments()
        self._start_over()

    def _checked_arguments(self) -> None:
        """Raises for bad arguments now, whatever the direction turns out to be."""
        monitor = log_values.monitor_of(
            None, self.monitor, "min", self.min_delta, self.min_delta_mode, required=True
        )
        assert monitor is not None
        self._patience_for(monitor)

    def _patience_for(self, monitor: Any) -> Patience:
        return Patience(
            monitor,
            self.patience,
            baseline=self.baseline,
            start_from=self.start_from_epoch,
            stopping_threshold=self.stopping_threshold,
            divergence_threshold=self.divergence_threshold,
            check_finite=self.check_finite,
        )

    def _start_over(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[Any] | None = None
        self.stop_reason: StopReason | None = None
        self._best_averages: list[Any] = []
        self._warned = False
        self._seen = False

    # ---------------------------------------------------------------- hooks

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts over, so that an instance may be used for several `fit` calls."""
        self._start_over()
        self._criterion = None
        self._resolve(required=False)
        scope = FitScope.of(self)
        if scope is not None and self.restore_best_weights:
            scope.on_failure("restore", lambda _error: self._restore(ended_well=False))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares the metric with the best, and stops when patience has run out."""
        value = self._value(logs)
        if value is None:
            return
        criterion = self._resolve(required=True)
        assert criterion is not None
        self._seen = True
        before = PatienceState(best=self.best, best_at=self.best_epoch, wait=self.wait)
        state, verdict = criterion.update(before, value, at=epoch)
        if verdict.improved and self.restore_best_weights:
            self.best_weights = best_weights.copy_weights(self.model)
            self._best_averages = best_weights.copy_averages(self.model)
        self.best, self.wait = state.best, state.wait
        self.best_epoch = self.best_epoch if state.best_at is None else state.best_at
        if verdict.stop:
            self.stopped_epoch = epoch
            self.stop_reason = verdict.reason
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the best weights, if asked."""
        if self.stop_reason is not None and self.verbose > 0:
            messages.print_msg(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights:
            self._restore(ended_well=True)

    # ---------------------------------------------------------------- parts

    def _resolve(self, *, required: bool) -> Patience | None:
        if self._criterion is None:
            built = bool(getattr(self._model, "built", False)) and compat.metrics_built(self._model)
            monitor = log_values.monitor_of(
                self._model,
                self.monitor,
                self.mode,
                self.min_delta,
                self.min_delta_mode,
                required=required or built,
            )
            if monitor is not None:
                self.monitor_op = compat.monitor_op(monitor.mode)
                self._criterion = self._patience_for(monitor)
        return self._criterion

    def _value(self, logs: dict[str, Any] | None) -> float | None:
        value = log_values.scalar(logs, self.monitor)
        if value is None and not self._warned:
            self._warned = True
            log_values.warn_missing(
                f"Early stopping conditioned on metric `{self.monitor}` which is not available; "
                "epochs without it are not counted.",
                logs,
            )
        return value

    def _restore(self, *, ended_well: bool) -> None:
        if self.best_weights is None:
            if self._seen:
                warnings.warn(
                    f"No epoch had a usable `{self.monitor}` (it was NaN, or infinite on the wrong "
                    "side), so there is no best epoch to restore: the weights are the last ones.",
                    MissingMetricWarning,
                    stacklevel=2,
                )
            return
        if self.verbose > 0:
            messages.print_msg(
                f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}."
            )
        best_weights.restore(
            self.model, self.best_weights, self._best_averages, finalize=ended_well
        )

    # ---------------------------------------------------------------- state

    def get_state(self) -> dict[str, Any]:
        """The patience counters and the best weights (copies)."""
        return {
            "wait": self.wait,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "stop_reason": None if self.stop_reason is None else self.stop_reason.name,
            # never changed in place: each improvement makes a new list
            "best_weights": None if self.best_weights is None else list(self.best_weights),
            "best_averages": list(self._best_averages),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` returned.

        Args:
            state: What `get_state` returned.
        """
        self.wait = state["wait"]
        self.best = state["best"]
        self.best_epoch = state["best_epoch"]
        self.stopped_epoch = state["stopped_epoch"]
        reason = state["stop_reason"]
        self.stop_reason = None if reason is None else StopReason[reason]
        weights = state["best_weights"]
        self.best_weights = None if weights is None else [np.array(w) for w in weights]
        self._best_averages = [np.array(a) for a in state["best_averages"]]


def _metric_name(monitor: object) -> str:
    if isinstance(monitor, str) and monitor:
        return monitor
    raise InvalidArgumentError(
        "monitor",
        monitor,
        "the name of a logged metric",
        'Pass a string such as "val_loss"; `History.history` of a short `fit` lists the names.',
    )
