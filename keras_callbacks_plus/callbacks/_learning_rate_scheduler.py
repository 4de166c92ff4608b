"""Sets the learning rate from a function of the epoch, or from a schedule, step by step."""

from __future__ import annotations

import inspect
import math
from numbers import Real
from typing import Any, Literal

import keras

from keras_callbacks_plus._keras import learning_rate
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.keras_schedule import KerasSchedule
from keras_callbacks_plus._keras.learning_rate import LiveLearningRate
from keras_callbacks_plus._keras.messages import print_msg
from keras_callbacks_plus.callbacks._base import StatefulCallback
from keras_callbacks_plus.errors import InvalidArgumentError, UnsupportedLearningRateError
from keras_callbacks_plus.schedules import Schedule

__all__ = ["LearningRateScheduler"]

_KerasLearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule


class LearningRateScheduler(keras.callbacks.LearningRateScheduler, StatefulCallback):
    """Sets the learning rate at every epoch from a function, or at every batch from a schedule.

    A drop-in superset of `keras.callbacks.LearningRateScheduler`. Use it where the rate must stay
    settable (by `ReduceLROnPlateau`, say); otherwise a schedule inside the optimizer does the same
    at no cost per batch: `keras.optimizers.Adam(learning_rate=kcp.as_keras_schedule(schedule))`.

    With a schedule, the clock is the optimizer's own step: the count that Keras gives a schedule
    inside the optimizer. So the rate goes on, and does not start again, in the next epoch, in a
    second `fit` and in a resumed run, and each batch is trained with exactly the rate of its step.
    With `gradient_accumulation_steps` that count is of batches, not of updates. A model that is
    compiled anew, or whose optimizer was not restored, starts at step 0, whatever `initial_epoch`
    says. Under a `LossScaleOptimizer`, which skips steps, the count is read from the device at
    every batch, and each batch then waits for the one before it.

    What is not possible, and raises when training begins: to set the rate of an optimizer that
    owns a schedule, and to set it at every batch with `steps_per_execution` above 1.

    Args:
        schedule: What gives the rate: a function of the epoch (integer, from 0), or of the epoch
            and the current rate (float), that returns a number; or any schedule of
            `keras_callbacks_plus.schedules`; or any
            `keras.optimizers.schedules.LearningRateSchedule`.
        verbose: Integer. 0: quiet, 1: a message at every epoch. Defaults to 0.
        update_freq: `"epoch"` or `"batch"`: when the rate is set. Defaults to `None`: `"epoch"`
            for a function and `"batch"` for a schedule. A function that is called at every batch
            gets the optimizer's step in place of the epoch; a schedule that is called at every
            epoch gets the optimizer's step at the beginning of that epoch.

    Raises:
        InvalidArgumentError: If an argument is not as described, or the function returns something
            that is not a finite number.
        UnsupportedLearningRateError: When training begins, if the rate cannot be set as asked.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_callbacks_plus as kcp
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.1), loss="mse")
    >>> schedule = kcp.schedules.Warmup(kcp.schedules.LinearDecay(0.5, 4), warmup_steps=4)
    >>> history = model.fit(
    ...     np.ones((8, 3)), np.ones((8, 1)), batch_size=2, epochs=2, verbose=0,
    ...     callbacks=[kcp.LearningRateScheduler(schedule)],
    ... )
    >>> history.history["learning_rate"]  # of the last batch of each epoch: steps 3 and 7
    [0.375, 0.125]
    """

    def __init__(
        self,
        schedule: Any,
        verbose: int = 0,
        *,
        update_freq: Literal["epoch", "batch"] | None = None,
    ) -> None:
        if not callable(schedule) or isinstance(schedule, type):
            raise InvalidArgumentError(
                "schedule",
                schedule,
                "a function of the epoch, or a schedule",
                "For a fixed rate, write `kcp.schedules.Constant(0.001)`; an instance is needed, "
                "not a class.",
            )
        if update_freq not in (None, "epoch", "batch"):
            raise InvalidArgumentError(
                "update_freq",
                update_freq,
                "'epoch', 'batch' or None",
                "Leave it out: a function is then called at every epoch, a schedule at every "
                "batch.",
            )
        super().__init__(schedule, verbose)
        self._of_step = isinstance(schedule, Schedule | _KerasLearningRateSchedule)
        self._passes_rate = not self._of_step and _takes_two(schedule)
        self.update_freq = update_freq or ("batch" if self._of_step else "epoch")
        self._live: LiveLearningRate | None = None
        self._step: int | None = None
        self._unannounced: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that the rate can be set as asked, and reads the optimizer's step."""
        scope = FitScope.of(self) if self.update_freq == "batch" else None
        self._live = LiveLearningRate(self.model, scope)
        self._step = None
        steps_per_execution = self.model.steps_per_execution
        if self.update_freq == "batch" and steps_per_execution > 1:
            raise UnsupportedLearningRateError(
                "LearningRateScheduler cannot set a rate for every batch, because the model was "
                f"compiled with steps_per_execution={steps_per_execution}: a callback has no say "
                "within an execution. Pass the schedule to the optimizer instead, as in "
                "`keras.optimizers.Adam(learning_rate=kcp.as_keras_schedule(schedule))`, and leave "
                "this callback out; or compile with `steps_per_execution=1`; or set "
                '`update_freq="epoch"`.'
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the rate of the epoch, or of its first batch."""
        live = self._running()
        # The count of batches is put right here once per epoch: an input that ends without warning
        # begins a batch that is then not trained.
        self._step = live.step()
        self._unannounced = epoch
        if self.update_freq == "epoch":
            self._update(self._step if self._of_step else epoch)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the rate of the batch."""
        if self.update_freq == "epoch":
            return
        live = self._running()
        if self._step is None or live.may_skip_steps:
            self._step = live.step()
        self._update(self._step)
        self._step += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the rate in force to the logs, under Keras's names."""
        if logs is None:
            return
        optimizer = self.model.optimizer
        if hasattr(optimizer, "optimizers"):
            for part in optimizer.optimizers:
                logs[f"learning_rate_{part.name}"] = learning_rate.read(part)
        else:
            logs["learning_rate"] = learning_rate.read(optimizer)

    def get_state(self) -> dict[str, Any]:
        """An empty state: the rate and the step are the optimizer's, and are kept with it."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Makes the callback read the optimizer's step again.

        Args:
            state: What `get_state` returned.
        """
        self._step = None

    # ---------------------------------------------------------------- parts

    def _running(self) -> LiveLearningRate:
        if self._live is None:  # a training loop of one's own may not call on_train_begin
            self._live = LiveLearningRate(self.model)
        return self._live

    def _update(self, clock: int) -> None:
        live = self._running()
        epoch, self._unannounced = self._unannounced, None
        for index, optimizer in enumerate(live.optimizers):
            rate = _check_rate(self._rate_at(clock, index))
            live.assign(rate, index)
            if self.verbose > 0 and epoch is not None:
                whose = f"{optimizer.name} " if live.is_split else ""
                print_msg(
                    f"\nEpoch {epoch + 1}: LearningRateScheduler setting {whose}"
                    f"learning rate to {rate}."
                )

    def _rate_at(self, clock: int, index: int) -> Any:
        schedule = self.schedule
        if isinstance(schedule, KerasSchedule):
            schedule = schedule.schedule
        if isinstance(schedule, _KerasLearningRateSchedule):
            return schedule(keras.ops.convert_to_tensor(clock, "int32"))
        if self._passes_rate:
            return schedule(clock, self._running().read(index))
        return schedule(clock)


def _takes_two(function: Any) -> bool:
    """Whether to pass the current rate.

    Keras calls with two arguments and, on a `TypeError`, with one, which hides every `TypeError`
    of the function itself; the signature says it without a call.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have none
        return False
    try:
        signature.bind(0, 0.1)
    except TypeError:
        return False
    return True


def _check_rate(rate: Any) -> float:
    value = rate if isinstance(rate, Real) else _scalar(rate)
    if value is None or isinstance(rate, bool) or not math.isfinite(value):
        raise InvalidArgumentError(
            "schedule",
            rate,
            "a function or schedule whose output is a finite number",
            "The output of the `schedule` function should be a float: check what it returns.",
        )
    return float(value)


def _scalar(value: Any) -> float | None:
    """The number in a scalar array or tensor, else `None`."""
    if not keras.ops.is_tensor(value) and not hasattr(value, "__array__"):
        return None
    array = learning_rate.to_number(value)
    return float(array) if array.shape == () else None
