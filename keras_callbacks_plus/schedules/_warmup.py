"""A warmup in front of any schedule."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, get_args

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules._base import Schedule, check_schedule
from keras_callbacks_plus.schedules._checks import check_number, check_steps
from keras_callbacks_plus.schedules._ops import Operations

__all__ = ["Warmup", "WarmupShape"]

WarmupShape = Literal["linear", "cosine", "exponential", "constant"]


@dataclasses.dataclass(frozen=True)
class Warmup(Schedule):
    """Rises to where a schedule begins, and then runs that schedule from *its* step 0.

    Early steps at the full rate can spoil a run, above all with large batches
    ([Goyal et al., 2017](https://arxiv.org/abs/1706.02677)) and with Adam. `decay_steps` of the
    inner schedule stays what it says: the warmup comes before it, and is not taken from it.

    With `w = step / warmup_steps`, from `a = warmup_from` to `b = schedule(0)`:
    `"linear"`: `a + (b - a) * w`; `"cosine"`: `a + (b - a) * (1 - cos(pi * w)) / 2`;
    `"exponential"`: `a * (b / a) ** w`; `"constant"`: `a`, then a jump to `b`.

    Args:
        schedule: The schedule to run after the warmup.
        warmup_steps: Integer, at least 0. The step at which `schedule` begins.
        warmup_from: Float, at least 0 (above 0 if exponential). The rate at step 0. Defaults to 0,
            with which the first step changes nothing.
        shape: One of `"linear"`, `"cosine"`, `"exponential"`, `"constant"`. Defaults to `"linear"`.

    Raises:
        InvalidArgumentError: If an argument is out of range, or the shape is exponential and one
            of the two rates is 0.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> schedule = kcp.schedules.Warmup(kcp.schedules.LinearDecay(1.0, 4), warmup_steps=2)
    >>> [schedule(step) for step in range(7)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    schedule: Schedule
    warmup_steps: int
    warmup_from: float = 0.0
    shape: WarmupShape = "linear"

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        self._store(
            warmup_steps=check_steps("warmup_steps", self.warmup_steps, at_least=0),
            warmup_from=check_number("warmup_from", self.warmup_from),
        )
        if self.shape not in get_args(WarmupShape):
            raise InvalidArgumentError(
                "shape",
                self.shape,
                f"one of {', '.join(map(repr, get_args(WarmupShape)))}",
                "Leave it out for a linear warmup.",
            )
        if self.shape == "exponential":
            if self.warmup_from == 0:
                raise InvalidArgumentError(
                    "warmup_from",
                    self.warmup_from,
                    'above 0 with shape="exponential"',
                    "A factor cannot lead away from 0: set it to a small rate, such as 1e-6.",
                )
            if self.schedule(0) == 0:
                raise InvalidArgumentError(
                    "schedule",
                    self.schedule,
                    'a schedule that begins above 0 with shape="exponential"',
                    'Use shape="linear", or a schedule whose rate at step 0 is above 0.',
                )

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        if self.warmup_steps == 0:
            return self.schedule.formula(step, ops)
        after = self.schedule.formula(ops.maximum(step - self.warmup_steps, 0.0), ops)
        done = ops.minimum(step, float(self.warmup_steps)) / self.warmup_steps
        return ops.where(step < self.warmup_steps, self._rise(done, ops), after)

    def _rise(self, done: Any, ops: Operations) -> Any:
        start, target = self.warmup_from, self.schedule(0)
        if self.shape == "constant":
            return start + 0.0 * done
        if self.shape == "exponential":
            return start * ops.power(target / start, done)
        if self.shape == "cosine":
            done = 0.5 * (1.0 - ops.cos(math.pi * done))
        return start * (1.0 - done) + target * done

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return self.warmup_steps + self.schedule.horizon()
