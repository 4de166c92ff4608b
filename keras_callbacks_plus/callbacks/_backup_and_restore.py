"""`BackupAndRestore`: a `fit` that was killed goes on as if nothing had happened."""

from __future__ import annotations

import logging
import math
import os
import warnings
from typing import Any, Literal

import keras

from keras_callbacks_plus._keras import compat, training_state
from keras_callbacks_plus._keras import logs as log_values
from keras_callbacks_plus._keras.callback_state import CallbackStates
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.random_state import capture_random_state, restore_random_state
from keras_callbacks_plus.callbacks._run_store import RunStore
from keras_callbacks_plus.errors import (
    FitScopeError,
    InexactResumeWarning,
    InvalidArgumentError,
    ResumeError,
    RunMismatchError,
)
from keras_callbacks_plus.policies import Progress, Trigger
from keras_callbacks_plus.storage import is_url, split_path

__all__ = ["BackupAndRestore"]

_LOGGER = logging.getLogger("keras_callbacks_plus")


class BackupAndRestore(keras.callbacks.BackupAndRestore):
    """Keeps everything a `fit` is, so that a killed one goes on where it was, bit for bit.

    Kill the process, run the same script again: weights, optimizer, `History`, early stopping,
    kept checkpoints and charts end as those of a run that was never interrupted. A superset of
    `keras.callbacks.BackupAndRestore`, which keeps weights, optimizer and the epoch's number.

    What is kept, in one file per snapshot with a checksum, written in the background and committed
    by one rename: all variables of model and optimizer (seed generators of dropout and
    augmentation layers, moving averages and loss scale included), the global random generators of
    Python, NumPy, Keras and the backend, the order of the data, `History`, and the state of every
    callback in the list, wherever this one stands in it. The newest two snapshots are kept; a
    damaged one is passed over with a warning.

    This version saves and resumes at the ends of epochs: a `fit` killed in the middle of an epoch
    trains that epoch again from its exact beginning.

    What it cannot make exact is said at the start of `fit` with the way to make it so
    (`on_inexact`): an input with state of its own, TensorFlow's shuffling without
    `keras.utils.set_random_seed`, a callback whose state is not plain data.

    Args:
        backup_dir: String or path, folder of the snapshots. One for each run.
        save_freq: `"epoch"` or a string such as `"5 epochs"`. Defaults to `"epoch"`.
        double_checkpoint: Boolean, accepted for Keras's sake: two snapshots are always kept.
        delete_checkpoint: Boolean, whether the snapshots are removed when `fit` has finished
            cleanly. With `False`, a finished script that is run again trains nothing and returns
            its `History`; more `epochs` continue it. Defaults to `True`.
        on_mismatch: What to do where the run that starts is not the one that was saved (another
            backend, model, optimizer, number of steps, list of callbacks): `"raise"`, `"warn"` (and
            resume all the same) or `"ignore"`. Defaults to `"raise"`.
        on_inexact: What to do where the resumed run cannot be guaranteed to be exact: `"warn"` or
            `"raise"`. Defaults to `"warn"`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.
        RunMismatchError: At the start of `fit`, as `on_mismatch` says.
        ResumeError: If snapshots are there and none of them can be read; none is deleted.
        StorageError: If a snapshot cannot be written; the older ones are intact.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> import keras_callbacks_plus as kcp
    >>> keras.utils.set_random_seed(1)
    >>> folder = tempfile.mkdtemp()
    >>> def run(epochs):
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     backup = kcp.BackupAndRestore(folder, delete_checkpoint=False)
    ...     data = np.ones((8, 4)), np.ones(8)
    ...     return model.fit(*data, epochs=epochs, verbose=0, callbacks=[backup])
    >>> _ = run(epochs=2)
    >>> run(epochs=3).epoch
    [0, 1, 2]
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
        *,
        on_mismatch: Literal["raise", "warn", "ignore"] = "raise",
        on_inexact: Literal["warn", "raise"] = "warn",
    ) -> None:
        keras.callbacks.Callback.__init__(self)
        self.backup_dir = _folder(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self.on_mismatch = _one_of("on_mismatch", on_mismatch, ("raise", "warn", "ignore"))
        self.on_inexact = _one_of("on_inexact", on_inexact, ("warn", "raise"))
        self._trigger = Trigger.parse(save_freq, argument="save_freq")
        if self._trigger.unit != "epochs":
            raise InvalidArgumentError(
                "save_freq",
                save_freq,
                '"epoch" or a number of epochs such as "5 epochs"',
                "Snapshots in the middle of an epoch are not in this version.",
            )
        self._run: _Run | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a fresh callback: it takes the arguments and leaves the running `fit`."""
        return {**self.__dict__, "_run": None, "_model": None}

    def set_model(self, model: Any) -> None:
        """Keras's: sets the model; refuses one that is not a Keras 3 model."""
        compat.require_keras_model(model)
        self._model = model

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Reads the newest snapshot and makes `fit` start where it was taken."""
        scope = FitScope.of(self)
        if scope is None:
            raise FitScopeError(
                "BackupAndRestore was not called by `fit`, so there is no position to resume at. "
                "Use it in `model.fit(..., callbacks=[...])`; in a training loop of your own, save "
                "what the loop needs yourself."
            )
        self._run = _Run(self, scope)
        self._run.begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: the snapshot is taken after all callbacks have run."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: the state is put back before any callback runs."""

    @compat.unused_hook
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Nothing: what is left to do is done after all callbacks have run."""

    def wait_until_finished(self) -> None:
        """Blocks until the last snapshot is durable; raises if it could not be written."""
        if self._run is not None:
            self._run.store.wait_until_finished()


class _Run:
    """One `fit` under backup: its snapshots, and where it was resumed."""

    def __init__(self, owner: BackupAndRestore, scope: FitScope) -> None:
        self.owner = owner
        self.scope = scope
        self.model = scope.model
        self.others = [c for c in scope.callbacks if not isinstance(c, BackupAndRestore)]
        if len(self.others) != len(scope.callbacks) - 1:
            raise InvalidArgumentError(
                "callbacks",
                [type(c).__name__ for c in scope.callbacks],
                "a list with one BackupAndRestore",
                "Two would restore over each other: remove one.",
            )
        self.store = RunStore(owner.backup_dir)
        self.states: CallbackStates | None = None
        self.resumed: dict[str, Any] | None = None
        self.first_epoch: int | None = None
        self.buffers: dict[str, list[Any]] | None = None
        self.finished = False
        self.told: set[str] = set()
        self.last_loss = 0.0

    def begin(self) -> None:
        """In `on_train_begin`: everything that must be known before the first epoch."""
        self.tell_inexact(training_state.why_inexact(self.scope))
        self.resumed = self.store.newest()
        if self.resumed is not None:
            training_state.ensure_built(self.model, self.resumed["build_config"])
            self.check_fingerprint(self.resumed)
            epochs = self.owner.params["epochs"]
            start = self.resumed["epoch"]
            self.first_epoch = self.resumed["first_epoch"]
            self.finished = start >= epochs or (
                self.resumed["stopped"] and epochs <= self.resumed["epochs"]
            )
            compat.set_initial_epoch(self.model, epochs if self.finished else start)
            if self.finished:  # `fit` runs no epoch, and ends by finalizing the variables
                training_state.assign_model(self.model, self.resumed["model"])
        scope = self.scope
        scope.at("before_epoch_begin", self.epoch_begins)
        scope.at("after_epoch_end", self.epoch_ended)
        scope.at("before_train_end", self.train_ends)
        scope.at("after_train_end", self.train_ended)
        scope.on_failure("close", self.failed)

    def epoch_begins(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Before any callback's `on_epoch_begin`: the first time, the state is put back."""
        if self.states is not None:
            return
        compat.set_initial_epoch(self.model, None)
        self.states = CallbackStates(self.others)
        if self.resumed is None:
            self.first_epoch = epoch
            if self.model.built:  # so that a kill in the first epoch keeps these initial weights
                training_state.ensure_built(self.model, None)  # the optimizer, on TensorFlow
                self.snapshot(epoch, stopped=False)
            return
        training_state.assign_model(self.model, self.resumed["model"])
        self.restore_callbacks()
        iterator = self.scope.epoch_iterator
        if self.resumed["adapter_epoch"] is not None:
            compat.set_adapter_epoch(iterator, self.resumed["adapter_epoch"])
        compat.advance_dataset(iterator, epoch - self.resumed["first_epoch"])
        restore_random_state(self.resumed["random"])  # last: whatever came before may have drawn
        _LOGGER.info("Resumed at the beginning of epoch %d from %s", epoch, self.owner.backup_dir)
        self.resumed = None

    def epoch_ended(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """After every callback's `on_epoch_end`, `History` included."""
        self.last_loss = log_values.scalar(logs, "loss") or 0.0
        stopped = bool(self.model.stop_training)
        last = epoch + 1 >= self.owner.params["epochs"]
        due = self.owner._trigger.due(
            before=Progress(epochs=epoch, batches=0, seconds=0.0),
            now=Progress(epochs=epoch + 1, batches=0, seconds=0.0),
        )
        if due or stopped or last:
            self.snapshot(epoch + 1, stopped=stopped)

    def train_ends(self, logs: dict[str, Any] | None = None) -> None:
        """Before any `on_train_end`: a finished run that was started again gets its state here."""
        if self.finished and self.resumed is not None:
            self.states = CallbackStates(self.others)
            self.restore_callbacks()
            restore_random_state(self.resumed["random"])
        compat.set_initial_epoch(self.model, None)

    def train_ended(self, logs: dict[str, Any] | None = None) -> None:
        """After every `on_train_end`: the run is over, and was not cut short."""
        self.store.wait_until_finished()
        if self.owner.delete_checkpoint and math.isfinite(self.last_loss):
            self.store.delete()

    def failed(self, error: BaseException) -> None:
        """`fit` is being left by an exception: what was committed stays."""
        compat.set_initial_epoch(self.model, None)
        self.store.wait_until_finished()

    def restore_callbacks(self) -> None:
        """Puts back the state of every callback in the list."""
        assert self.states is not None
        assert self.resumed is not None
        self.states.restore(self.resumed["callbacks"])

    def snapshot(self, epoch: int, *, stopped: bool) -> None:
        """Copies the state now, and has it written in the background."""
        assert self.states is not None
        self.store.wait_until_finished()  # its memory is used again
        self.buffers = training_state.capture_model(self.model, self.buffers)
        callbacks, lost = self.states.capture()
        self.tell_inexact(
            f"The state of {name} is not kept: give the callback `get_state` and `set_state`."
            for name in lost
        )
        tree = {
            "format": training_state.FORMAT,
            "epoch": epoch,
            "epochs": self.owner.params["epochs"],
            "first_epoch": self.first_epoch,
            "stopped": stopped,
            "model": self.buffers,
            "build_config": training_state.build_config(self.model),
            "random": capture_random_state(),
            "adapter_epoch": compat.adapter_epoch(self.scope.epoch_iterator),
            "callbacks": callbacks,
            "fingerprint": self.fingerprint(),
        }
        self.store.commit(tree, epoch=epoch, before=self.wait_for_the_others)

    def wait_for_the_others(self) -> None:
        """A snapshot must not promise files that other callbacks have yet to write."""
        for callback in self.others:
            wait = getattr(callback, "wait_until_finished", None)
            if callable(wait):
                wait()

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for another run to be the continuation of this one."""
        return training_state.fingerprint(self.scope, self.owner.params, self.others)

    def check_fingerprint(self, saved: dict[str, Any]) -> None:
        """Compares the run that starts with the one that was saved."""
        lines = training_state.differences(saved["fingerprint"], self.fingerprint())
        if not lines or self.owner.on_mismatch == "ignore":
            return
        message = (
            f"The run that is starting is not the one saved in {self.owner.backup_dir}:\n- "
            + "\n- ".join(lines)
            + "\nMake the script the same as it was, use another `backup_dir` for a new run, or "
            'pass on_mismatch="warn" to resume all the same.'
        )
        if self.owner.on_mismatch == "raise":
            raise RunMismatchError(message, lines)
        warnings.warn(message, InexactResumeWarning, stacklevel=2)

    def tell_inexact(self, causes: Any) -> None:
        """Says once why the resumed run may differ, or raises."""
        for cause in causes:
            if cause in self.told:
                continue
            self.told.add(cause)
            message = f"Resuming this run would not be exact. {cause}"
            if self.owner.on_inexact == "raise":
                raise ResumeError(message)
            warnings.warn(message, InexactResumeWarning, stacklevel=2)


def _folder(backup_dir: object) -> str:
    if isinstance(backup_dir, str | os.PathLike) and os.fspath(backup_dir):
        path = str(os.fspath(backup_dir))
        if not is_url(path):
            split_path("backup_dir", backup_dir)  # a URL that a path object has taken a slash from
            return path
        raise InvalidArgumentError(
            "backup_dir",
            backup_dir,
            "a folder that this machine mounts",
            "Snapshots are read and locked as local files. Name such a folder, and copy it to the "
            'object store from there; `ModelCheckpoint` does write to "s3://..." by itself.',
        )
    raise InvalidArgumentError(
        "backup_dir", backup_dir, "the path of a folder", 'Pass a string such as "runs/a/backup".'
    )


def _one_of(argument: str, value: str, choices: tuple[str, ...]) -> str:
    if value in choices:
        return value
    names = ", ".join(f'"{choice}"' for choice in choices)
    raise InvalidArgumentError(argument, value, f"one of {names}", f'Use "{choices[0]}".')
