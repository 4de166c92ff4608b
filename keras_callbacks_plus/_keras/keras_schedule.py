"""A schedule of this package in the form that a Keras optimizer takes."""

from __future__ import annotations

from typing import Any

import keras

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules import Schedule, deserialize, serialize

__all__ = ["KerasSchedule", "as_keras_schedule"]


@keras.saving.register_keras_serializable(package="keras_callbacks_plus")
class KerasSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of this package as a Keras `LearningRateSchedule`; see `as_keras_schedule`.

    Args:
        schedule: The schedule, or what `keras_callbacks_plus.schedules.serialize` made of it.
    """

    def __init__(self, schedule: Schedule | dict[str, Any]) -> None:
        super().__init__()
        self.schedule = deserialize(schedule) if isinstance(schedule, dict) else schedule

    def __call__(self, step: Any) -> Any:
        """The rate at a step, a float32 scalar tensor."""
        rate = self.schedule.formula(keras.ops.cast(step, "float32"), keras.ops)
        return keras.ops.cast(rate, "float32")

    def get_config(self) -> dict[str, Any]:
        """The schedule as plain data."""
        return {"schedule": serialize(self.schedule)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KerasSchedule) and self.schedule == other.schedule

    def __hash__(self) -> int:
        return hash((KerasSchedule, self.schedule))

    def __repr__(self) -> str:
        return f"as_keras_schedule({self.schedule!r})"


def as_keras_schedule(schedule: Schedule) -> KerasSchedule:
    """Makes a schedule that an optimizer takes as its `learning_rate`, on every backend.

    Inside the optimizer a schedule is part of the compiled step: it costs nothing per batch and
    works with any `steps_per_execution`. In exchange no callback can set the rate. The values are
    those of the schedule in single precision. It is saved and loaded with the model, once
    `keras_callbacks_plus.callbacks` has been imported.

    Keras asks for an instance of its own class, which a schedule of this package is not, because
    that one works without Keras.

    Args:
        schedule: A schedule of `keras_callbacks_plus.schedules`.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Raises:
        InvalidArgumentError: If `schedule` is not one of this package.

    Example:

    >>> import keras
    >>> import keras_callbacks_plus as kcp
    >>> schedule = kcp.schedules.Warmup(kcp.schedules.CosineDecay(0.5, 900), warmup_steps=2)
    >>> optimizer = keras.optimizers.SGD(learning_rate=as_keras_schedule(schedule))
    >>> float(optimizer.learning_rate)
    0.0
    >>> _ = optimizer.iterations.assign(1)
    >>> float(optimizer.learning_rate)
    0.25
    """
    if not isinstance(schedule, Schedule):
        raise InvalidArgumentError(
            "schedule",
            schedule,
            "a schedule of `keras_callbacks_plus.schedules`",
            "A schedule of Keras goes into the optimizer as it is.",
        )
    return KerasSchedule(schedule)
