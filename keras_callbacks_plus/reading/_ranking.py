"""By which metric checkpoints are ranked where the user has not said so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from keras_callbacks_plus.errors import InvalidArgumentError, MissingMetricError
from keras_callbacks_plus.policies import Monitor
from keras_callbacks_plus.reading._checkpoint import Checkpoint

__all__ = ["best_first", "monitor_of", "recorded_monitor"]

Mode = Literal["auto", "min", "max"]
_DEFAULT = "val_loss"  # that of Keras's callbacks, for a manifest that does not say


def recorded_monitor(checkpoints: Sequence[Checkpoint]) -> Monitor | None:
    """The metric that the callback ranks by: the newest word of each series, if they agree.

    Args:
        checkpoints: Oldest first.
    """
    said = {c.series: (c.monitor, c.mode) for c in checkpoints if c.monitor and c.mode}
    if len(set(said.values())) != 1:
        return None
    ((name, mode),) = set(said.values())
    return Monitor(name, cast(Literal["min", "max"], mode))


def monitor_of(checkpoints: Sequence[Checkpoint], monitor: object, mode: str) -> Monitor:
    """What to rank by.

    Args:
        checkpoints: Oldest first; at least one.
        monitor: Name of a metric, a `Monitor`, or `None` for what the manifest says.
        mode: `"auto"`, `"min"` or `"max"`.

    Raises:
        InvalidArgumentError: If the direction is not known, or the series disagree.
        MissingMetricError: If no checkpoint has the metric.
    """
    if mode not in ("auto", "min", "max"):
        raise InvalidArgumentError(
            "mode",
            mode,
            'one of "auto", "min", "max"',
            'Use "min" for a loss or an error, "max" for an accuracy.',
        )
    if isinstance(monitor, Monitor):
        chosen = monitor
    else:
        name = _name(checkpoints, monitor)
        chosen = Monitor(name, _direction(checkpoints, name, mode))
    logged = {name for c in checkpoints for name in c.metrics}
    if chosen.name not in logged:
        raise MissingMetricError(chosen.name, logged, "Name one of them as `monitor`.")
    return chosen


def best_first(checkpoints: Sequence[Checkpoint], monitor: Monitor) -> list[Checkpoint]:
    """Those that are ranked, the best first; of equal ones the first saved, as `BestN` has it.

    Args:
        checkpoints: What to rank.
        monitor: The comparison.
    """

    def value(checkpoint: Checkpoint) -> float | None:
        return checkpoint.metrics.get(monitor.name)

    ranked = [c for c in checkpoints if monitor.is_ranked(value(c))]
    return sorted(ranked, key=lambda c: (monitor.sort_key(value(c)), c.sequence))


def _name(checkpoints: Sequence[Checkpoint], monitor: Any) -> str:
    if monitor is not None:
        return str(monitor)
    recorded = recorded_monitor(checkpoints)
    if recorded is not None:
        return recorded.name
    said = {c.series: f"{c.monitor} ({c.mode})" for c in checkpoints if c.monitor}
    if said:
        those = ", ".join(f"{series!r} by {what}" for series, what in said.items())
        raise InvalidArgumentError(
            "monitor",
            None,
            "given, or `series`, where the series of a folder are ranked differently",
            f"There are: {those}.",
        )
    return _DEFAULT


def _direction(checkpoints: Sequence[Checkpoint], name: str, mode: str) -> Any:
    if mode != "auto":
        return mode
    recorded = {c.mode for c in checkpoints if c.monitor == name and c.mode}
    if len(recorded) == 1:
        return recorded.pop()
    known = Monitor.known_mode(name)
    if known is None:
        raise InvalidArgumentError(
            "mode",
            mode,
            '"min" or "max" for this metric',
            f"Whether a smaller or a larger {name!r} is better is not known here: "
            'pass `mode="min"` or `mode="max"`.',
        )
    return known
