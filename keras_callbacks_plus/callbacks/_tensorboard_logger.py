"""`TensorBoardLogger`: charts of training and validation, without TensorFlow."""

from __future__ import annotations

import os
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.learning_rate import (
    LiveLearningRate,
    optimizers_of,
    owns_schedule,
    read,
)
from keras_callbacks_plus._keras.progress import batches_done
from keras_callbacks_plus.callbacks._arguments import check_booleans
from keras_callbacks_plus.callbacks._base import StatefulCallback
from keras_callbacks_plus.callbacks._charts import Axis, RunFolder
from keras_callbacks_plus.callbacks._fit_position import (
    FitPosition,
    check_folder,
    check_seconds,
    check_update_freq,
)
from keras_callbacks_plus.errors import CallbacksPlusWarning
from keras_callbacks_plus.events.writer import call_all
from keras_callbacks_plus.storage import LocalFileSystem

__all__ = ["TensorBoardLogger"]

_NOT_COPIED = frozenset(
    [
        *("_run_id", "_clock", "_epochs", "_steps", "_every", "_iterations", "_batches"),
        *("_resumed", "_fit", "_tags", "_told", "_model", "on_train_batch_end"),
    ]
)


class TensorBoardLogger(StatefulCallback):
    """Writes the metrics of `fit` for TensorBoard, on any backend and without TensorFlow.

    Look at them with `tensorboard --logdir logs`. The tags are those of
    `keras.callbacks.TensorBoard`:

    | folder | x-axis | tags |
    |---|---|---|
    | `train` | epoch | `epoch_<metric>`, `epoch_learning_rate`, `epoch_steps_per_second` |
    | `validation` | epoch | `epoch_<metric>`: the same tag, so the same chart as training |
    | `train/steps` | optimizer's step | `batch_<metric>`, `batch_learning_rate` |
    | `validation/steps` | optimizer's step | `evaluation_<metric>_vs_iterations` |

    The last two only where `update_freq` asks for batches. They are folders of their own because
    TensorBoard's rule for a restarted run ("forget everything from step s on") holds for a whole
    folder, and so wants one x-axis in it.

    What it guarantees:

    - *A resumed run goes on without a zig-zag.* With `BackupAndRestore` in the list, what a killed
      run had logged after the restored epoch is taken out of its own event files, and TensorBoard
      is told in the way it understands. Files of other runs are never changed.
    - *A second `fit` of the same instance goes on* where the charts end: its epochs are counted
      on, and its steps too if the optimizer is a new one. Use one instance, with one `log_dir`,
      for each run that is to be a line of its own.
    - *Steps are the optimizer's*, also under `steps_per_execution`. They are counted between the
      beginnings of epochs, where they are read; a point whose step has been written already (the
      optimizer skips steps under loss scaling) is left out.
    - *NaN and infinity are written.* An entry of `logs` that is not a number is left out, with a
      warning.
    - *Errors surface*: one of the writing thread is raised by the next hook that writes.

    A new run in a folder that holds charts of an older one (a script that is simply started again)
    warns: the older files stay as they are, and TensorBoard draws the new run in place of the
    old one from the first step of the new one on. Training that was continued by hand, with
    `initial_epoch` and a loaded model, thus goes on as expected. Two processes must not log to
    one folder at the same time.

    Args:
        log_dir: String or path, the folder of the charts. One for each run. Defaults to `"logs"`.
        update_freq: `"epoch"`, `"batch"`, or an integer n: besides the epochs, write the metrics
            of every batch, or of every n-th. As in Keras, these are averages over the epoch so
            far. Defaults to `"epoch"`, which adds nothing to the time of a batch.
        write_learning_rate: Boolean, whether the learning rate is written: of each epoch, and of
            each batch that is written where the optimizer does not own a schedule.
            Defaults to `True`.
        write_steps_per_second: Boolean, whether the speed of training, without validation, is
            written. Defaults to `False`.
        flush_secs: Float, positive, in seconds: how often a thread writes what was logged. A kill
            loses at most that; an exception, `sys.exit` and Ctrl-C lose nothing.
            Defaults to `10.0`.

    Raises:
        InvalidArgumentError: If an argument is not acceptable.
        BackgroundWriteError: If the events cannot be written.

    Example:

    >>> import keras, numpy as np, os, tempfile
    >>> import keras_callbacks_plus as kcp
    >>> folder = tempfile.mkdtemp()
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> _ = model.fit(np.ones((8, 4)), np.ones(8), validation_split=0.5, epochs=2, verbose=0,
    ...               callbacks=[kcp.TensorBoardLogger(folder)])
    >>> sorted(os.listdir(folder))
    ['train', 'validation']
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        *,
        update_freq: Literal["epoch", "batch"] | int = "epoch",
        write_learning_rate: bool = True,
        write_steps_per_second: bool = False,
        flush_secs: float = 10.0,
    ) -> None:
        super().__init__()
        check_booleans(
            write_learning_rate=write_learning_rate, write_steps_per_second=write_steps_per_second
        )
        self.log_dir = check_folder(log_dir)
        self.update_freq = check_update_freq(update_freq)
        self.write_learning_rate = write_learning_rate
        self.write_steps_per_second = write_steps_per_second
        self.flush_secs = check_seconds(flush_secs)
        self._prepare()

    def _prepare(self) -> None:
        """Sets everything that is not an argument."""
        self._run_id = uuid.uuid4().hex[:12]
        self._clock = time.time
        self._epochs = self._axis("train", "validation")
        self._steps = self._axis("train/steps", "validation/steps")
        self._every = 1 if self.update_freq == "batch" else self.update_freq
        self._iterations = 0
        self._batches = 0
        self._resumed = False
        self._fit: FitPosition | None = None
        self._tags: dict[str, str] = {}
        self._told: set[str] = set()
        if self._every != "epoch":
            # Not overridden in the class: a batch hook costs Keras its asynchronous dispatch.
            self.on_train_batch_end = self._batch_ended

    def _axis(self, *names: str) -> Axis:
        files = LocalFileSystem()
        # By `self._clock` at the time of the call, so that it can be replaced.
        folders = {
            name: RunFolder(
                os.path.join(self.log_dir, name), files, self.flush_secs, lambda: self._clock()
            )
            for name in names
        }
        return Axis(folders)

    def __getstate__(self) -> dict[str, Any]:
        """A copy is a fresh callback with the same arguments: no model, no files, no thread."""
        return {k: v for k, v in self.__dict__.items() if k not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._model = None
        self._prepare()

    # ---------------------------------------------------------------- hooks

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Notes what stays the same during this `fit`."""
        model = self.model
        inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self._fit = FitPosition(
            steps=(self.params or {}).get("steps"),
            steps_per_execution=model.steps_per_execution,
            keras_version=compat.keras_version(),
            batches_per_step=getattr(inner, "gradient_accumulation_steps", None) or 1,
            rates=self._live_rates(model),
        )
        scope = FitScope.of(self)
        if scope is not None:
            scope.on_failure("close", lambda _error: self.close())

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reads the optimizer's step, and finds the place on the x-axes in the first epoch."""
        fit = self._running()
        fit.batches_before, fit.batches = self._batches, 0
        if self._every != "epoch" or self.write_steps_per_second:
            fit.step = self._read_iterations()
            fit.started, fit.seconds = self._clock(), 0.0
        if not fit.began:
            fit.began = True
            self._begin(epoch, fit.step)
        self._iterations = fit.step

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stops the watch: validation is not training."""
        if self._fit is not None:
            self._fit.stop_watch(self._clock())

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes validation against the optimizer's step, if batches were asked for."""
        if self._fit is None or self._every == "epoch":  # None: an `evaluate` of its own
            return
        values = {f"evaluation_{k}_vs_iterations": v for k, v in self._numbers(logs).items()}
        self._steps.write("validation/steps", self._run_id, self._fit.position, values)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the epoch: training and validation under the same tags."""
        fit = self._running()
        fit.stop_watch(self._clock())
        training = self._epoch_rates() if self.write_learning_rate else {}
        validation = {}
        for name, value in self._numbers(logs).items():  # a rate in `logs` is the one trained with
            if name.startswith("val_"):
                validation["epoch_" + name[len("val_") :]] = value
            else:
                training["epoch_" + name] = value
        if self.write_steps_per_second and fit.seconds > 0:
            steps = self._read_iterations() - fit.step
            training["epoch_steps_per_second"] = steps / fit.seconds
        for folder, values in (("train", training), ("validation", validation)):
            if values:
                self._epochs.write(folder, self._run_id, epoch, values)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Makes everything durable and closes the files."""
        self._iterations = self._read_iterations()
        self._resumed = False
        self._fit = None
        self.close()

    def _batch_ended(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """`on_train_batch_end`, where batches were asked for. Does not touch `self.model`, which
        on JAX would put the whole state back into the variables at every batch.
        """
        fit = self._running()
        before = self._batches
        fit.batches = batches_done(
            batch,
            steps=fit.steps,
            steps_per_execution=fit.steps_per_execution,
            keras_version=fit.keras_version,
        )
        self._batches = fit.batches_before + fit.batches
        if self._batches // self._every == before // self._every:
            return
        tags = self._tags
        values = {}
        for name, value in (logs or {}).items():
            if isinstance(value, float):  # Keras has made floats of all numbers
                values[tags.get(name) or tags.setdefault(name, f"batch_{name}")] = value
        if fit.rates is not None:
            values.update(_by_optimizer("batch", fit.rates.optimizers, fit.rates.read))
        self._steps.write("train/steps", self._run_id, fit.position, values)

    # ---------------------------------------------------------------- state

    def get_state(self) -> dict[str, Any]:
        """How far the charts are written."""
        return {
            "run": self._run_id,
            "epochs": self._epochs.get_state(),
            "steps": self._steps.get_state(),
            "iterations": self._iterations,
            "batches": self._batches,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the charts back to a state: what this run logged after it is taken out.

        Args:
            state: What `get_state` returned.
        """
        self._run_id = state["run"]
        self._epochs.set_state(state["epochs"], self._run_id)
        self._steps.set_state(state["steps"], self._run_id)
        self._iterations = state["iterations"]
        self._batches = state["batches"]
        self._resumed = True
        if self._fit is not None:  # within an epoch, of which there may be no batch left
            self._fit.batches = self._batches - self._fit.batches_before

    def wait_until_finished(self) -> None:
        """Blocks until everything that was logged is durable."""
        call_all([self._epochs.flush, self._steps.flush])

    def close(self) -> None:
        """Makes everything durable and closes the files. The next hook that writes opens new ones,
        which TensorBoard draws as one line with the old.
        """
        call_all([self._epochs.close, self._steps.close])

    # ---------------------------------------------------------------- parts

    def _running(self) -> FitPosition:
        if self._fit is None:  # a training loop of one's own may not call on_train_begin
            self.on_train_begin()
        assert self._fit is not None
        return self._fit

    def _begin(self, epoch: int, iterations: int) -> None:
        """Finds the place on the x-axes."""
        resumed, self._resumed = self._resumed, False
        same_optimizer = 0 < iterations >= self._iterations
        self._epochs.begin(epoch, goes_on=resumed)
        self._steps.begin(iterations + 1, goes_on=resumed or same_optimizer)
        axes = [self._epochs] if self._every == "epoch" else [self._epochs, self._steps]
        taken = [] if resumed else [path for axis in axes for path in axis.taken()]
        if taken:
            warnings.warn(
                f"There are charts of an earlier run in {', '.join(taken)}. They stay on the disk, "
                "and TensorBoard draws this run in their place. To see both, give each run a "
                f'`log_dir` of its own, such as "{os.path.join(self.log_dir, "run2")}"; to go on '
                "with the earlier one, resume it with `BackupAndRestore`.",
                CallbacksPlusWarning,
                stacklevel=2,
            )

    def _read_iterations(self) -> int:
        iterations = getattr(self.model.optimizer, "iterations", None)
        return self._batches if iterations is None else int(compat.to_numpy(iterations))

    def _live_rates(self, model: Any) -> LiveLearningRate | None:
        """The rate at any batch, unless it is not wanted or the optimizer owns a schedule."""
        if self._every == "epoch" or not self.write_learning_rate:
            return None
        optimizers = optimizers_of(model.optimizer)
        settable = all(hasattr(o, "learning_rate") and not owns_schedule(o) for o in optimizers)
        return LiveLearningRate(model) if settable else None

    def _epoch_rates(self) -> dict[str, float]:
        optimizers = optimizers_of(self.model.optimizer)
        if not all(hasattr(optimizer, "learning_rate") for optimizer in optimizers):
            return {}
        return _by_optimizer("epoch", optimizers, lambda index: read(optimizers[index]))

    def _numbers(self, logs: Mapping[str, Any] | None) -> dict[str, float]:
        """The numbers of `logs`; says once what is not a number."""
        numbers = {}
        for name, value in (logs or {}).items():
            if isinstance(value, int | float):
                numbers[name] = float(value)
            elif name not in self._told:
                self._told.add(name)
                warnings.warn(
                    f"{name!r} is not written to TensorBoard: it is not a number but a "
                    f"{type(value).__qualname__}. Reduce it to one in the metric's `result()`.",
                    CallbacksPlusWarning,
                    stacklevel=3,
                )
        return numbers


def _by_optimizer(
    axis: str, optimizers: Sequence[Any], rate: Callable[[int], float]
) -> dict[str, float]:
    """The rates by tag, named as Keras names them."""
    if len(optimizers) == 1:
        return {f"{axis}_learning_rate": rate(0)}
    return {f"{axis}_learning_rate_{o.name}": rate(i) for i, o in enumerate(optimizers)}
