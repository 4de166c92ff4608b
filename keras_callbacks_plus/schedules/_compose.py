"""Schedules one after another."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules._base import Schedule, check_schedule
from keras_callbacks_plus.schedules._checks import check_steps
from keras_callbacks_plus.schedules._ops import Operations

__all__ = ["Joined", "join"]


@dataclasses.dataclass(frozen=True)
class Joined(Schedule):
    """Schedules one after another: what `join(schedules, boundaries)` makes.

    Args:
        schedules: Tuple of schedules, at least one.
        boundaries: Tuple of integers, strictly increasing, one fewer than schedules.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> c = kcp.schedules.Constant
    >>> kcp.schedules.Joined((c(0.1), c(0.01)), (10,))(10)
    0.01
    """

    schedules: tuple[Schedule, ...]
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        schedules, boundaries = tuple(self.schedules), tuple(self.boundaries)
        if len(schedules) != len(boundaries) + 1:
            raise InvalidArgumentError(
                "boundaries",
                boundaries,
                f"one fewer than the schedules, of which there are {len(schedules)}",
                "Give the step at which each schedule but the first begins.",
            )
        for index, schedule in enumerate(schedules):
            check_schedule(f"schedules[{index}]", schedule)
        boundaries = tuple(
            check_steps(f"boundaries[{index}]", boundary)
            for index, boundary in enumerate(boundaries)
        )
        if any(later <= earlier for earlier, later in itertools.pairwise(boundaries)):
            raise InvalidArgumentError(
                "boundaries",
                boundaries,
                "strictly increasing",
                "Boundaries are steps of the whole run, not lengths: for lengths 10 and 20 write "
                "[10, 30].",
            )
        self._store(schedules=schedules, boundaries=boundaries)

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        rate = self.schedules[0].formula(step, ops)
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            later = schedule.formula(ops.maximum(step - boundary, 0.0), ops)
            rate = ops.where(step < boundary, rate, later)
        return rate

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return (self.boundaries[-1] if self.boundaries else 0) + self.schedules[-1].horizon()


def join(schedules: Iterable[Schedule], boundaries: Iterable[int]) -> Joined:
    """Runs schedules one after another, each from *its* step 0.

    `schedules[i]` is in force from step `boundaries[i - 1]` on and before step `boundaries[i]`,
    and sees `step - boundaries[i - 1]`, as in
    [`optax.join_schedules`](https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html).

    Args:
        schedules: Sequence of schedules, at least one.
        boundaries: Sequence of integers, strictly increasing, one fewer than schedules: the steps
            of the run at which the second, third, ... schedule begins.

    Returns:
        A new schedule.

    Raises:
        InvalidArgumentError: If the numbers do not match or the boundaries do not increase.

    Example:

    Warmup, then a plateau, then a decay:

    >>> import keras_callbacks_plus as kcp
    >>> from keras_callbacks_plus.schedules import Constant, LinearDecay, Warmup, join
    >>> schedule = join([Warmup(Constant(1.0), 2), LinearDecay(1.0, 2)], [4])
    >>> [schedule(step) for step in range(7)]
    [0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    return Joined(tuple(schedules), tuple(boundaries))
