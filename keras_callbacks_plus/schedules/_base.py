"""What a schedule is: a value that maps a step to a learning rate, and the algebra on it."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeVar

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules import _config
from keras_callbacks_plus.schedules._checks import check_number, is_number
from keras_callbacks_plus.schedules._ops import PYTHON, Operations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Clipped", "Scaled", "Schedule"]

_Self = TypeVar("_Self", bound="Schedule")
_NO_STEP: Any = object()


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """A learning rate for every optimizer step: a pure function of the step.

    A schedule is an immutable value: it can be printed, compared, hashed, pickled, and written
    down as plain data. It knows nothing of Keras. Use it in either of two places:

    - in a callback, with an optimizer that was given a plain number:
      `kcp.LearningRateScheduler(schedule)`;
    - inside the optimizer, at no cost per batch and with any `steps_per_execution`:
      `keras.optimizers.Adam(learning_rate=kcp.as_keras_schedule(schedule))`.

    In both, step 0 is the optimizer's first step, and `decay_steps` never includes a warmup.

    For one of your own, subclass this class as a frozen dataclass and write `formula` in `+ - * /`
    and the operations that it is passed; the same text then serves numbers and tensors.

    Example:

    >>> import dataclasses
    >>> import keras_callbacks_plus as kcp
    >>> @dataclasses.dataclass(frozen=True)
    ... class InverseDecay(kcp.schedules.Schedule):
    ...     initial_learning_rate: float
    ...     def formula(self, step, ops):
    ...         return self.initial_learning_rate / (1.0 + step)
    >>> schedule = InverseDecay(0.1)
    >>> schedule(0), schedule(1)
    (0.1, 0.05)
    >>> (schedule * 2)(1), schedule.clip(0.06, 1.0)(1)
    (0.1, 0.06)
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _config.register(cls)

    @abc.abstractmethod
    def formula(self, step: Any, ops: Operations) -> Any:
        """The learning rate at a step, for numbers and tensors alike.

        Args:
            step: The step, at least 0: a Python number, or a scalar tensor of floating type.
            ops: `where`, `minimum`, `maximum`, `power`, `cos`, `floor` and `ceil` for that type.

        Returns:
            The learning rate.
        """

    def horizon(self) -> int:
        """The number of steps worth looking at, which `plot` draws by default."""
        return 1000

    def __call__(self, step: Any = _NO_STEP) -> float:
        """The learning rate at a step.

        Args:
            step: A Python (or NumPy) number, finite, at least 0. The first step is 0.

        Returns:
            The learning rate.

        Raises:
            InvalidArgumentError: If `step` is negative, NaN, infinite or not a number.
        """
        if step is _NO_STEP or not is_number(step):
            received = "nothing" if step is _NO_STEP else step
            raise InvalidArgumentError(
                "step",
                received,
                "a Python number",
                "To use the schedule inside an optimizer, pass "
                "`learning_rate=kcp.as_keras_schedule(schedule)`; "
                "for many steps, write `[schedule(step) for step in steps]`.",
            )
        if not (math.isfinite(step) and step >= 0):
            raise InvalidArgumentError(
                "step", step, "finite and at least 0", "The first step of a run is step 0."
            )
        return float(self.formula(step, PYTHON))

    def __mul__(self, factor: Any) -> Scaled:
        if not is_number(factor):
            return NotImplemented
        return Scaled(self, factor)

    __rmul__ = __mul__

    def clip(self, minimum: float = 0.0, maximum: float | None = None) -> Clipped:
        """This schedule, held between two rates.

        Args:
            minimum: Float, at least 0. The lowest rate. Defaults to 0.
            maximum: Float, at least `minimum`, or `None` for no upper bound. Defaults to `None`.

        Returns:
            A new schedule.

        Example:

        >>> import keras_callbacks_plus as kcp
        >>> kcp.schedules.LinearDecay(1.0, decay_steps=10).clip(0.25)(9)
        0.25
        """
        return Clipped(self, minimum, maximum)

    def plot(self, steps: int | None = None, ax: Axes | None = None) -> Figure:
        """Draws the rate over the steps. Needs `pip install "keras-callbacks-plus[plot]"`.

        Args:
            steps: Integer, how many steps to draw. Defaults to as many as are of interest.
            ax: Matplotlib axes to draw on. Defaults to those of a new figure.

        Returns:
            The Matplotlib figure.
        """
        from keras_callbacks_plus.schedules import _plot  # matplotlib is an extra

        return _plot.plot(self, steps, ax)

    def get_config(self) -> dict[str, Any]:
        """The constructor arguments as plain data, ready for JSON."""
        return _config.fields_to_config(self)

    @classmethod
    def from_config(cls: type[_Self], config: dict[str, Any]) -> _Self:
        """Makes the schedule that `get_config` described.

        Args:
            config: What `get_config` of the same class returned.

        Returns:
            An equal schedule.
        """
        return cls(**_config.config_to_arguments(config))

    def _store(self, **checked: Any) -> None:
        """Keeps checked arguments as plain Python numbers (a frozen dataclass has no `=`)."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def check_schedule(argument: str, value: Any) -> Schedule:
    """A schedule of ours."""
    if isinstance(value, Schedule):
        return value
    raise InvalidArgumentError(
        argument,
        value,
        "a schedule of `keras_callbacks_plus.schedules`",
        "For a fixed rate, write `Constant(0.001)`; for a formula of your own, subclass "
        "`Schedule`.",
    )


@dataclasses.dataclass(frozen=True)
class Scaled(Schedule):
    """A schedule times a factor: what `schedule * factor` makes.

    Args:
        schedule: The schedule to scale.
        factor: Float, at least 0.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> half = kcp.schedules.Constant(0.1) * 0.5
    >>> half
    Scaled(schedule=Constant(learning_rate=0.1), factor=0.5)
    >>> half(0)
    0.05
    """

    schedule: Schedule
    factor: float

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        self._store(factor=check_number("factor", self.factor))

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        return self.schedule.formula(step, ops) * self.factor

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return self.schedule.horizon()


@dataclasses.dataclass(frozen=True)
class Clipped(Schedule):
    """A schedule held between two rates: what `schedule.clip(minimum, maximum)` makes.

    Args:
        schedule: The schedule to hold.
        minimum: Float, at least 0. Defaults to 0.
        maximum: Float, at least `minimum`, or `None`. Defaults to `None`.

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> kcp.schedules.Clipped(kcp.schedules.Constant(0.1), maximum=0.01)(0)
    0.01
    """

    schedule: Schedule
    minimum: float = 0.0
    maximum: float | None = None

    def __post_init__(self) -> None:
        check_schedule("schedule", self.schedule)
        self._store(minimum=check_number("minimum", self.minimum))
        if self.maximum is not None:
            self._store(maximum=check_number("maximum", self.maximum, at_least=self.minimum))

    def formula(self, step: Any, ops: Operations) -> Any:
        """The rate at a step."""
        rate = ops.maximum(self.schedule.formula(step, ops), self.minimum)
        return rate if self.maximum is None else ops.minimum(rate, self.maximum)

    def horizon(self) -> int:
        """The number of steps worth looking at."""
        return self.schedule.horizon()
