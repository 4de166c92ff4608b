"""Keras's own callbacks: what in them is state."""

from __future__ import annotations

from typing import Any, Literal

CALLBACK_PLUMBING = frozenset({"_model", "model", "params", "validation_data"})
"""Attributes that Keras sets on every callback; they belong to the `fit`, not to the callback."""


# The state of Keras's own callbacks, which have no protocol for it. Each file is
# https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/<name>.py
_CALLBACK_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
    "ReduceLROnPlateau": ("best", "cooldown_counter", "wait"),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    "MonitorCallback": ("best",),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "History": ("history", "epoch"),
    "LearningRateScheduler": (),
    "TerminateOnNaN": (),
    "LambdaCallback": (),
    "CSVLogger": (),
    "RemoteMonitor": (),
    "ProgbarLogger": (),
    "TensorBoard": ("_global_train_batch", "_global_test_batch", "_previous_epoch_iterations"),
}


# What they hold beside it is made again in each `fit`, and cannot be put back.
CALLBACK_INSIDES = frozenset(
    {"monitor_op", "writer", "csv_file", "_writers", "_prev_summary_state", "_summary_module"}
)


def callback_attributes(callback: Any) -> tuple[str, ...] | None:
    """Names of the attributes that are the state of one of Keras's own callbacks, else `None`.

    A subclass has those of its base, beside what it has added.
    """
    for kind in type(callback).__mro__:
        if is_of_keras(kind) and kind.__name__ in _CALLBACK_ATTRIBUTES:
            return _CALLBACK_ATTRIBUTES[kind.__name__]
    return None


def chart_writers(callback: Any) -> list[Any]:
    """TensorFlow's writers that a `keras.callbacks.TensorBoard` has open (`_writers`).

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/callbacks/tensorboard.py
    """
    return list(getattr(callback, "_writers", {}).values())


def is_of_keras(kind: type) -> bool:
    """Whether a class is Keras's own."""
    return kind.__module__.split(".")[0] == "keras"


def monitor_op(direction: Literal["min", "max"]) -> Any:
    """The comparison that Keras's callbacks show as `monitor_op`."""
    from keras import ops

    return ops.less if direction == "min" else ops.greater
