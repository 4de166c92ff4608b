"""`BackupAndRestore`: a `fit` that was killed goes on as if nothing had happened."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable
from typing import Any, Literal

import keras

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.callback_state import is_progress_bar
from keras_callbacks_plus._keras.fingerprint import differences
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus.callbacks._arguments import check_booleans
from keras_callbacks_plus.callbacks._preemption import EXIT_STATUS, Preemption, check_signals
from keras_callbacks_plus.callbacks._resumable_run import ResumableRun, RunSettings
from keras_callbacks_plus.callbacks._run_store import FITS_BEFORE, STEPS_BEFORE, RunStore
from keras_callbacks_plus.errors import (
    FitScopeError,
    InexactResumeWarning,
    InvalidArgumentError,
    ResumeError,
    RunMismatchError,
)
from keras_callbacks_plus.policies import Trigger, parse_duration
from keras_callbacks_plus.storage import is_url, split_path

__all__ = ["BackupAndRestore"]


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

    A snapshot within an epoch (`save_freq` in batches or minutes, a preemption) goes on at the very
    next batch: arrays, `tf.data`, `PyDataset` and PyTorch's `DataLoader` are replayed to that place
    without training, which costs what reading the batches costs; `kcp.resumable(...)` begins there.

    What it cannot make exact is said at the start of `fit` with the way to make it so
    (`on_inexact`): an input with state of its own, TensorFlow's shuffling without
    `keras.utils.set_random_seed`, a callback that holds what may change unseen.

    Args:
        backup_dir: String or path, folder of the snapshots: one for each `fit` of a script. A
            second process is refused while one trains.
        save_freq: `"epoch"`, an integer (batches), or a string with a unit: `"5 epochs"`,
            `"500 batches"`, `"10 min"`. The end of the run is saved in any case.
            Defaults to `"epoch"`.
        double_checkpoint: Boolean, accepted for Keras's sake: two snapshots are always kept.
        delete_checkpoint: Boolean, whether the snapshots are removed when `fit` has finished
            cleanly, with a loss that is neither NaN nor infinite. With `False`, a finished script
            that is run again trains nothing and returns its `History`; more `epochs` continue it.
            Defaults to `True`.
        save_before_preemption: `True` for `SIGTERM`, or a list of signals such as
            `["SIGTERM", "SIGUSR1"]`. At the end of the batch in which one arrives (of the epoch,
            during validation; of the run, in its last epoch) a snapshot is made durable, the
            handler that was there before is called, and the process is left with `SystemExit(75)`,
            which tells a scheduler to start it again. `SIGINT` (Ctrl-C), if listed, stays a
            `KeyboardInterrupt`; a signal that the process ignores stays ignored.
            Defaults to `False`.
        max_time: String such as `"3h50min"`, counted from the making of the callback: when it is
            used up, a snapshot is made and the process left in the same way. Defaults to `None`.
        on_mismatch: What to do where the run that starts is not the one that was saved (another
            backend, version, model, optimizer, batch size, number of steps, list of callbacks):
            `"raise"`, `"warn"` (and resume all the same) or `"ignore"`. A learning rate that the
            script has changed is taken over, and more `epochs` are trained. Defaults to `"raise"`.
        on_inexact: What to do where the resumed run cannot be guaranteed to be exact: `"warn"` or
            `"raise"`. Defaults to `"warn"`.

    Attributes:
        stop_reason: String, why `fit` was left before its end, or `None`.
        exit_status: Integer, what the process ends with then: 75, `EX_TEMPFAIL`.

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

    exit_status = EXIT_STATUS

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = False,
        delete_checkpoint: bool = True,
        *,
        save_before_preemption: Any = False,
        max_time: str | None = None,
        on_mismatch: Literal["raise", "warn", "ignore"] = "raise",
        on_inexact: Literal["warn", "raise"] = "warn",
    ) -> None:
        check_booleans(double_checkpoint=double_checkpoint, delete_checkpoint=delete_checkpoint)
        keras.callbacks.Callback.__init__(self)
        self.backup_dir = _folder(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self.on_mismatch = _one_of("on_mismatch", on_mismatch, ("raise", "warn", "ignore"))
        self.on_inexact = _one_of("on_inexact", on_inexact, ("warn", "raise"))
        self._trigger = Trigger.parse(save_freq, argument="save_freq")
        self.save_before_preemption = save_before_preemption
        self.max_time = max_time
        self.stop_reason: str | None = None
        self._signals = check_signals(save_before_preemption)
        self._deadline = self._counted_from_now()
        self._store: RunStore | None = None
        self._told: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a fresh callback: it takes the arguments and leaves the running `fit`."""
        return {**self.__dict__, "_store": None, "_model": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Another process has another clock."""
        self.__dict__.update(state)
        self._deadline = self._counted_from_now()

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
        others = [c for c in scope.callbacks if not isinstance(c, BackupAndRestore)]
        if len(others) != len(scope.callbacks) - 1:
            raise InvalidArgumentError(
                "callbacks",
                [type(c).__name__ for c in scope.callbacks],
                "a list with one BackupAndRestore",
                "Two would restore over each other: remove one.",
            )
        others = [c for c in others if not is_progress_bar(c)]  # `verbose` may change
        self.stop_reason = None
        self._told.clear()
        self._store = RunStore(self.backup_dir)
        settings = RunSettings(
            self._trigger,
            self.delete_checkpoint,
            self._check_fingerprint,
            self._tell_inexact,
            self._stopping,
        )
        preemption = Preemption(self._signals, self._deadline, time.monotonic)
        ResumableRun(scope, self.params, others, self._store, settings, preemption).begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: the snapshot is taken after all callbacks have run."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: the state is put back before any callback runs."""

    @compat.unused_hook
    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Nothing: the snapshot is taken after all callbacks have run."""

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Nothing: what is left to do is done after all callbacks have run."""

    def wait_until_finished(self) -> None:
        """Blocks until the last snapshot is durable; raises if it could not be written."""
        if self._store is not None:
            self._store.wait_until_finished()

    # ---------------------------------------------------------------- parts

    def _counted_from_now(self) -> float | None:
        if self.max_time is None:
            return None
        return time.monotonic() + parse_duration(self.max_time)

    def _stopping(self, reason: str) -> None:
        self.stop_reason = reason

    def _check_fingerprint(self, saved: dict[str, Any], now: dict[str, Any]) -> None:
        """Compares the run that starts with the one that was saved."""
        if now[STEPS_BEFORE] > saved.get(STEPS_BEFORE, 0):  # the same model, trained on meanwhile
            now = {**now, STEPS_BEFORE: saved.get(STEPS_BEFORE, 0)}
        lines = differences(saved, now)
        if not lines or self.on_mismatch == "ignore":
            return
        shared = any(line.startswith((FITS_BEFORE, STEPS_BEFORE)) for line in lines)
        message = (
            f"The run that is starting is not the one saved in {self.backup_dir}:\n- "
            + "\n- ".join(lines)
            + ("\nGive each `fit` of a script a `backup_dir` of its own." if shared else "")
            + "\nMake the script the same as it was, use another `backup_dir` for a new run, or "
            'pass on_mismatch="warn" to resume all the same.'
        )
        if self.on_mismatch == "raise":
            raise RunMismatchError(message, lines)
        warnings.warn(message, InexactResumeWarning, stacklevel=2)

    def _tell_inexact(self, causes: Iterable[str]) -> None:
        """Says once why the resumed run may differ, or raises."""
        for cause in causes:
            if cause in self._told:
                continue
            self._told.add(cause)
            message = f"Resuming this run would not be exact. {cause}"
            if self.on_inexact == "raise":
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
        "backup_dir",
        backup_dir,
        "the path of a folder",
        'Empty `backup_dir` argument passed: pass a string such as "runs/a/backup".',
    )


def _one_of(argument: str, value: str, choices: tuple[str, ...]) -> str:
    if value in choices:
        return value
    names = ", ".join(f'"{choice}"' for choice in choices)
    raise InvalidArgumentError(argument, value, f"one of {names}", f'Use "{choices[0]}".')
