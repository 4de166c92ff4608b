"""Schedule -> curve -> picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from keras_callbacks_plus.errors import InvalidArgumentError
from keras_callbacks_plus.schedules._checks import check_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from keras_callbacks_plus.schedules._base import Schedule

__all__ = ["curve", "plot"]

_POINTS = 1000


def curve(schedule: Schedule, steps: int) -> tuple[list[int], list[float]]:
    """The steps to draw and their rates: every step, or some 1000 where there are more.

    Args:
        schedule: The schedule.
        steps: How many steps.

    Returns:
        The steps and the rates. The first step and the last are always among them.
    """
    stride = max(1, -(-steps // _POINTS))
    drawn = list(range(0, steps, stride))
    if drawn[-1] != steps - 1:
        drawn.append(steps - 1)
    return drawn, [schedule(step) for step in drawn]


def plot(schedule: Schedule, steps: int | None, ax: Axes | None) -> Figure:
    """Draws the curve of a schedule; `Schedule.plot` is its door.

    Args:
        schedule: The schedule.
        steps: How many steps, or `None` for as many as are of interest.
        ax: Axes to draw on, or `None` for those of a new figure.

    Returns:
        The figure.
    """
    steps = schedule.horizon() if steps is None else check_steps("steps", steps)
    drawn, rates = curve(schedule, steps)
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError(
                "Drawing a schedule needs Matplotlib, which is not installed. "
                'Install it with `pip install "keras-callbacks-plus[plot]"`.'
            ) from error
        _, ax = pyplot.subplots(layout="constrained")
    elif not hasattr(ax, "plot"):
        raise InvalidArgumentError(
            "ax", ax, "Matplotlib axes", "Pass what `fig, ax = plt.subplots()` gives as `ax`."
        )
    ax.plot(drawn, rates)
    ax.set_xlabel("step")
    ax.set_ylabel("learning rate")
    return cast("Figure", ax.figure)
