"""What a callback may take from `logs`: a scalar by name, and which direction of it is better."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus.errors import InvalidArgumentError, MissingMetricWarning
from keras_callbacks_plus.policies import Monitor

__all__ = ["check_mode", "direction", "monitor_of", "scalar", "scalars", "warn_missing"]


def check_mode(mode: str) -> Literal["auto", "min", "max"]:
    """Returns `mode` if it is one that Keras knows.

    Args:
        mode: What the user gave.

    Raises:
        InvalidArgumentError: If it is another. (Keras warns and guesses.)
    """
    if mode in ("auto", "min", "max"):
        return cast(Literal["auto", "min", "max"], mode)
    raise InvalidArgumentError(
        "mode",
        mode,
        'one of "auto", "min", "max"',
        'Use "min" for a loss or an error, "max" for an accuracy.',
    )


def scalar(logs: Mapping[str, Any] | None, name: str) -> float | None:
    """The metric called `name` as a Python number.

    Args:
        logs: What Keras passed to the hook.
        name: Name of the metric.

    Returns:
        Its value, or `None` where it was not logged.

    Raises:
        InvalidArgumentError: If it is not a scalar.
    """
    value = (logs or {}).get(name)
    if value is None:
        return None
    if isinstance(value, int | float):
        return float(value)
    array = np.asarray(compat.to_numpy(value))
    if array.size != 1:
        raise InvalidArgumentError(
            "monitor",
            name,
            "the name of a metric with one value per epoch",
            f"{name!r} has shape {array.shape}; reduce it to a scalar in the metric's `result()`.",
        )
    return float(array.reshape(()))


def scalars(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Every scalar of `logs` by name; what is not a scalar is left out."""
    found = {}
    for name, value in (logs or {}).items():
        if isinstance(value, int | float) or np.size(compat.to_numpy(value)) == 1:
            found[str(name)] = float(value)
    return found


def warn_missing(what: str, logs: Mapping[str, Any] | None) -> bool:
    """Says that a metric was not logged, and which were.

    Args:
        what: A sentence with the metric's name and what its absence leads to.
        logs: What was logged.

    Returns:
        True, for whoever says it only once.
    """
    names = ", ".join(sorted(logs or {})) or "none"
    warnings.warn(f"{what} Available metrics are: {names}.", MissingMetricWarning, stacklevel=4)
    return True


def direction(model: Any, monitor: str) -> Literal["min", "max"] | None:
    """Whether smaller or larger is better for a metric, as `mode="auto"` has it.

    Keras's own rule comes first (`loss`, then the direction that a built metric declares), then
    well-known names.

    Args:
        model: The compiled model.
        monitor: Name of the metric, with or without `val_`.

    Returns:
        The direction, or `None` where it is not known (yet).
    """
    name = monitor.removeprefix("val_")
    if name == "loss":
        return "min"
    declared = compat.declared_direction(model, name)
    if declared is not None:
        return declared
    return Monitor.known_mode(name)


def monitor_of(
    model: Any,
    monitor: str,
    mode: Literal["auto", "min", "max"],
    min_delta: float = 0.0,
    min_delta_mode: Literal["absolute", "relative"] = "absolute",
    *,
    required: bool,
) -> Monitor | None:
    """The decision object for a metric, with `mode="auto"` resolved.

    Args:
        model: The compiled model.
        monitor: Name of the metric.
        mode: As the user gave it.
        min_delta: Smallest change that counts as an improvement.
        min_delta_mode: Whether `min_delta` is absolute or relative to the best.
        required: Whether an unknown direction is an error (metrics are built) or may wait.

    Raises:
        InvalidArgumentError: If `required` and the direction is not known.
    """
    resolved = direction(model, monitor) if mode == "auto" else mode
    if resolved is not None:
        return Monitor(monitor, resolved, float(min_delta), min_delta_mode)
    if not required:
        return None
    raise InvalidArgumentError(
        "mode",
        mode,
        '"min" or "max" for this metric',
        f"The model has no metric {monitor!r} that says whether smaller or larger is better: "
        'check the name, or pass `mode="max"` to look for the largest value or `mode="min"` for '
        "the smallest.",
    )
