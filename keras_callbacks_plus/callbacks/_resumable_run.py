"""One `fit` under backup: when a snapshot is taken, what is in it, and how it is put back."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from keras_callbacks_plus._keras import building, compat, held_parts, training_state
from keras_callbacks_plus._keras import logs as log_values
from keras_callbacks_plus._keras.callback_state import CallbackStates
from keras_callbacks_plus._keras.fast_forward import FastForward
from keras_callbacks_plus._keras.fingerprint import fingerprint
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.progress import batches_done
from keras_callbacks_plus._keras.random_state import capture_random_state, restore_random_state
from keras_callbacks_plus._keras.restoration import Restoration
from keras_callbacks_plus._keras.run_data import RunData
from keras_callbacks_plus.callbacks._beginning import Beginning
from keras_callbacks_plus.callbacks._other_writers import wait_for_others
from keras_callbacks_plus.callbacks._preemption import Preemption
from keras_callbacks_plus.callbacks._run_store import FITS_BEFORE, FORMAT, STEPS_BEFORE, RunStore
from keras_callbacks_plus.errors import StorageError
from keras_callbacks_plus.policies import Progress, Trigger

__all__ = ["ResumableRun", "RunSettings"]

_LOGGER = logging.getLogger("keras_callbacks_plus")


@dataclass(frozen=True)
class RunSettings:
    """What the callback asks of a run.

    Args:
        trigger: When a snapshot is due.
        delete_at_end: Whether the snapshots go when `fit` has finished cleanly.
        check: Compares a saved fingerprint with the one of this run.
        tell_inexact: Says why a resume would not be exact, once per cause.
        stopping: Told why `fit` is being left, when it is.
    """

    trigger: Trigger
    delete_at_end: bool
    check: Callable[[dict[str, Any], dict[str, Any]], None]
    tell_inexact: Callable[[Iterable[str]], None]
    stopping: Callable[[str], None]


class ResumableRun:
    """One `fit` under backup.

    Args:
        scope: The running `fit`.
        params: Keras's parameters of the callbacks.
        others: The callbacks whose state is kept.
        store: The snapshots.
        settings: What the callback asks for.
        preemption: When to leave before the end.
    """

    def __init__(
        self,
        scope: FitScope,
        params: dict[str, Any],
        others: list[Any],
        store: RunStore,
        settings: RunSettings,
        preemption: Preemption,
    ) -> None:
        self._scope = scope
        self._model = scope.model
        self._params = params
        self._others = others
        self._store = store
        self._settings = settings
        self._preemption = preemption
        self._within_epochs = settings.trigger.unit != "epochs" or preemption.wanted
        self._rates = training_state.configured_rates(scope.model)
        self._steps_before = max(training_state.iterations(scope.model), default=0)
        self._states: CallbackStates | None = None
        self._data = RunData(scope)
        self._resumed: dict[str, Any] | None = None
        self._restoration: Restoration | None = None
        self._first_epoch: int | None = None
        self._copies = training_state.ModelCopies(scope.model)
        self._facts: dict[str, Any] | None = None
        self._beginning: Beginning | None = None
        self._last_loss: float | None = None  # until an epoch has ended
        self._epoch = 0
        self._start: dict[str, Any] = {}
        self._executions = 0
        self._batches_before = 0
        self._batches = 0
        self._acted = Progress(seconds=time.monotonic())

    # ---------------------------------------------------------------- the beginning

    def begin(self) -> None:
        """In `on_train_begin`: everything that must be known before the first epoch."""
        scope = self._scope
        self._settings.tell_inexact(self._data.why_inexact())
        self._settings.tell_inexact(held_parts.not_kept(self._model))
        self._resumed = resumed = self._store.newest()
        if resumed is not None:
            self._restoration = restoration = Restoration(scope, resumed, self._rates)
            restoration.build()
            now = self._fingerprint()
            if not restoration.fits and compat.backend() == "tensorflow":
                now.pop("variables", None)  # some are yet to be made
            self._settings.check(resumed["fingerprint"], now)
            self._steps_before = resumed["fingerprint"].get(STEPS_BEFORE, self._steps_before)
            self._first_epoch = resumed["first_epoch"]
            self._beginning = beginning = Beginning.of(resumed, self._params["epochs"])
            first = beginning.first_epoch
            # Only then will `fit` read it for certain: nobody's `on_train_begin` can fail any more.
            scope.at("after_train_begin", lambda _: compat.set_initial_epoch(self._model, first))
            if beginning.finished:  # `fit` runs no epoch, and ends by finalizing the variables
                beginning.tell(self._store.directory, finished_here=self._store.finished_here)
                restoration.put_back_finished()
            elif beginning.within:
                self._pass_over(resumed, restoration)
            elif not restoration.fits:
                restoration.complete_in_first_step()
        scope.at("before_epoch_begin", self._epoch_begins)
        scope.at("after_epoch_begin", self._epoch_began, last=True)
        if self._within_epochs:
            scope.at("after_train_batch_begin", self._batch_began, last=True)
            scope.at("after_train_batch_end", self._batch_ended, last=True)
        scope.at("after_epoch_end", self._epoch_ended, last=True)
        scope.at("before_train_end", self._train_ends)
        scope.at("after_train_end", self._train_ended, last=True)
        scope.on_failure("close", self._failed)

    def _pass_over(self, resumed: dict[str, Any], restoration: Restoration) -> None:
        """Has the executions of the epoch that are done passed over."""

        def before_data() -> None:
            state = resumed["start"]["random_at_data"]
            restore_random_state(state)
            self._data.first_taken(state)

        def arrived() -> None:
            restore_random_state(resumed["random"], of_python=not self._data.drawn_ahead)
            self._model.stop_training = resumed["stopped"]

        FastForward(
            self._scope,
            resumed["executions"],
            logs=resumed["logs"],
            seeks=self._data.seekable,
            before_data=before_data,
            put_back=restoration.put_back_within,
            between=self._leave_at_once,
            arrived=arrived,
        ).begin()

    def _epoch_begins(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Before any callback's `on_epoch_begin`: the first time, the state is put back."""
        self._epoch = epoch
        self._batches_before += self._batches
        self._executions = self._batches = 0
        resumed = self._resumed
        if self._states is None:
            self._store.hold()
            self._scope.at_close(self._store.release)
            self._scope.at_close(training_state.rates_left_noted(self._model, self._rates))
            self._preemption.catch(self._scope)
            compat.set_initial_epoch(self._model, None)
            self._states = CallbackStates(self._others)
            self._settings.tell_inexact(self._states.why_unknown())
            self._settings.tell_inexact(self._data.watch())
            if resumed is None:
                self._first_epoch = epoch
                if self._model.built:  # a kill in the first epoch keeps these initial weights
                    building.build_optimizer(self._model)
                    self._snapshot(epoch, stopped=False)
            else:
                self._put_back(resumed)
        if resumed is not None and resumed["start"] is not None:
            self._start = dict(resumed["start"])
        elif self._within_epochs:
            self._start = {
                "callbacks": self._states.capture()[0],
                "iterations": training_state.iterations(self._model),
            }

    def _put_back(self, resumed: dict[str, Any]) -> None:
        """Everything as it was at the beginning of the epoch; within one, the model is ahead."""
        assert self._states is not None
        assert self._restoration is not None
        start = resumed["start"]
        self._batches_before = resumed["batches"] - resumed["batches_of_epoch"]
        self._restoration.put_back_at_epoch()
        if start is not None:
            training_state.assign_iterations(self._model, start["iterations"])
        self._states.restore((start or resumed)["callbacks"], _names(resumed))
        self._data.restore(resumed)
        if start is None:
            restore_random_state(resumed["random"])  # last: what came before may have drawn

    def _epoch_began(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """After every callback's `on_epoch_begin`, before the epoch's data."""
        assert self._states is not None
        resumed, self._resumed = self._resumed, None
        pulls = self._model.steps_per_execution
        if resumed is not None and resumed["start"] is not None:
            self._executions = resumed["executions"]
            self._batches = resumed["batches_of_epoch"]
            assert self._restoration is not None
            self._restoration.put_back_at_epoch()
            self._states.restore(resumed["callbacks"], _names(resumed))
            self._data.seek(epoch, (self._executions - 1) * pulls)
            restore_random_state(resumed["start"]["random"])
        else:
            self._data.seek(epoch, 0)
            if self._within_epochs:
                held, lost = self._data.capture_input()
                self._tell_lost(lost)
                self._start["input"] = held
                self._start["random"] = capture_random_state()
        if resumed is not None:
            self._acted = Progress(seconds=time.monotonic())
            _LOGGER.info("Resumed in epoch %d after %d batches", epoch, resumed["batches_of_epoch"])

    # ---------------------------------------------------------------- snapshots

    def _batch_began(self, batch: int, logs: Any = None) -> None:
        """Before the first batch is taken from the data: its order may be drawn then."""
        if self._executions == 0:
            self._start["random_at_data"] = capture_random_state()

    def _batch_ended(self, batch: int, logs: Any = None) -> None:
        """After every callback's `on_train_batch_end`."""
        before = self._batches_before + self._batches
        self._executions += 1
        self._batches = batches_done(
            batch,
            steps=self._params.get("steps"),
            steps_per_execution=self._model.steps_per_execution,
        )
        now = Progress(batches=self._batches_before + self._batches, seconds=time.monotonic())
        leaving = self._preemption.reason()
        due = self._settings.trigger.unit != "epochs" and self._settings.trigger.due(
            before=Progress(batches=before, seconds=self._acted.seconds), now=now
        )
        if not due and leaving is None:
            return
        self._acted = now
        self._scope.flush_batch_hooks()
        self._snapshot(self._epoch, stopped=bool(self._model.stop_training), logs=logs)
        self._leave(leaving)

    def _epoch_ended(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """After every callback's `on_epoch_end`, `History` included."""
        self._last_loss = log_values.scalar(logs, "loss") or 0.0
        stopped = bool(self._model.stop_training)
        last = epoch + 1 >= self._params["epochs"]
        now = time.monotonic()
        due = self._settings.trigger.due(
            before=Progress(epochs=epoch, seconds=self._acted.seconds),
            now=Progress(epochs=epoch + 1, seconds=now),
        )
        leaving = None if stopped or last else self._preemption.reason()
        self._batches_before += self._batches
        self._executions = self._batches = 0
        if due or stopped or last or leaving is not None:
            self._acted = Progress(seconds=now)
            self._snapshot(epoch + 1, stopped=stopped)
        self._leave(leaving)

    def _leave(self, reason: str | None) -> None:
        if reason is None:
            return
        try:
            self._store.wait_until_committed()
        except StorageError as error:
            self._settings.stopping(f"{reason}; NOT saved: {error}")
            raise
        self._say(f"{reason}; saved in epoch {self._epoch} after {self._batches} batches")
        self._preemption.leave()

    def _leave_at_once(self) -> None:
        """While batches are passed over, which may take long: all that was done is saved."""
        caught = self._preemption.signals()
        if caught is not None:
            self._say(f"{caught} while batches were passed over; the last snapshot stays")
            self._preemption.leave()

    def _say(self, text: str) -> None:
        self._settings.stopping(text)
        _LOGGER.warning("Training is being left: %s. Start the script again to go on.", text)

    def _snapshot(self, epoch: int, *, stopped: bool, logs: Any = None) -> None:
        """Copies the state now, and has it written in the background."""
        assert self._states is not None
        within = self._executions > 0
        self._store.wait_until_finished()  # its memory is used again
        variables = self._copies.take()
        callbacks, lost = self._states.capture()
        held, lost_of_input = (self._start["input"], []) if within else self._data.capture_input()
        validation, lost_of_validation = self._data.capture_validation()
        self._tell_lost([*lost, *lost_of_input, *lost_of_validation])
        tree = {
            "format": FORMAT,
            "time": time.time(),
            "epoch": epoch,
            "epochs": self._params["epochs"],
            "first_epoch": self._first_epoch,
            "executions": self._executions,
            "batches_of_epoch": self._batches,
            "batches": self._batches_before + self._batches,
            "stopped": stopped,
            "logs": training_state.plain_logs(logs) if within else None,
            "model": variables,
            "names": training_state.variable_names(self._model),
            "metrics": training_state.capture_metrics(self._model) if within else None,
            "build_config": building.how_it_was_built(self._model),
            "rates": self._rates,
            "random": capture_random_state(),
            "input": held,
            "validation": validation,
            "callbacks": callbacks,
            "start": dict(self._start) if within else None,
            "fingerprint": self._fingerprint(),
        }
        self._store.commit(
            tree,
            epoch=epoch,
            batch=self._batches if within else None,
            before=lambda: wait_for_others(self._others),
        )

    def _tell_lost(self, names: Iterable[str]) -> None:
        self._settings.tell_inexact(
            f"The state of {name} is not kept: give the object `get_state` and `set_state`, or "
            "hold it in plain data."
            for name in names
        )

    def _fingerprint(self) -> dict[str, Any]:
        """As of when all of it was first there: a restarted script begins with the same."""
        arguments = self._data.arguments
        facts = self._facts or fingerprint(self._scope, self._params, self._others, arguments)
        if self._model.built and getattr(self._model.optimizer, "built", True):
            self._facts = facts
        before = {FITS_BEFORE: self._store.fits_before, STEPS_BEFORE: self._steps_before}
        return {**before, **facts}

    # ---------------------------------------------------------------- the end

    def _train_ends(self, logs: dict[str, Any] | None = None) -> None:
        """Before any `on_train_end`: a finished run that was started again gets its state here."""
        beginning = self._beginning
        if beginning is not None and beginning.finished and self._resumed is not None:
            states = CallbackStates(self._others)
            states.restore(self._resumed["callbacks"], _names(self._resumed))
            restore_random_state(self._resumed["random"])
            losses = self._model.history.history.get("loss")
            if not beginning.goes_beyond:  # such a run has got farther, and is kept
                self._last_loss = losses[-1] if losses else 0.0
        compat.set_initial_epoch(self._model, None)

    def _train_ended(self, logs: dict[str, Any] | None = None) -> None:
        """After every `on_train_end`: the run is over, and was not cut short."""
        self._store.wait_until_committed()
        self._preemption.release()  # from here on, a signal finds the handler that was there before
        late = self._preemption.signals()
        if late is not None:  # the script may go on to what takes long: that is for the next start
            self._say(f"{late}; the run has ended, and is saved")
            return
        loss = self._last_loss
        if self._settings.delete_at_end and loss is not None and math.isfinite(loss):
            self._store.delete()
        else:
            self._store.keep_finished()

    def _failed(self, error: BaseException) -> None:
        """`fit` is being left by an exception: what was committed stays."""
        compat.set_initial_epoch(self._model, None)
        of_storage = isinstance(error, StorageError)
        caught = self._preemption.signals()
        if of_storage:
            self._preemption.forgo()  # to be started again would not help
            if caught is not None:
                self._settings.stopping(f"{caught}; NOT saved: {error}")
        self._store.wait_until_finished()
        self._preemption.release()
        late = self._preemption.signals()
        if late is not None and not of_storage:
            self._say(f"{late} while `fit` failed with {error!r}; the last snapshot stays")


def _names(resumed: dict[str, Any]) -> list[str]:
    names: list[str] = resumed["fingerprint"]["callbacks"]
    return names
