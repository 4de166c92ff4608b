"""What `ModelCheckpoint(verbose=1)` prints of its decisions."""

from __future__ import annotations

from keras_callbacks_plus.callbacks._model_series import Outlook
from keras_callbacks_plus.policies import Monitor

__all__ = ["what_is_done", "what_is_there"]


def what_is_done(
    outlook: Outlook, path: str, metric: str, monitor: Monitor | None, best: float | None
) -> str:
    """A line on a save, or on why there is none.

    Args:
        outlook: What the save would be.
        path: Where it would be.
        metric: Name of the metric.
        monitor: The comparison, or `None` where the metric plays no part.
        best: The best value so far.
    """
    placement, value = outlook.placement, outlook.candidate.metrics.get(metric)
    if placement.path is None:
        said = placement.reason.removeprefix("evicted: ")
        return said if "did not improve" in said else f"not saved: {said}"
    if monitor is None or value is None:
        return f"saving model to {path}"
    if monitor.is_better(value, best):
        before = "None" if best is None else f"{best:.5f}"
        return f"{metric} improved from {before} to {value:.5f}, saving model to {path}"
    return f"{metric} is {value:.5f}, saving to {path}"


def what_is_there(
    count: int, directory: str, metric: str, monitor: Monitor | None, best: float | None
) -> str | None:
    """A line on the ranking that a new `fit` goes on with, or `None` where there is none.

    Args:
        count: How many checkpoints it has.
        directory: Where they are.
        metric: As for `what_is_done`.
        monitor: As for `what_is_done`.
        best: As for `what_is_done`.
    """
    if count == 0:
        return None
    files = "1 checkpoint" if count == 1 else f"{count} checkpoints"
    said = f"ModelCheckpoint goes on with the {files} in {directory}"
    return said if monitor is None else f"{said}, best {metric} {best}"
