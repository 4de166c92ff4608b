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


def callback_attributes(callback: Any) -> tuple[str, ...] | None:
    """Names of the attributes that are the state of one of Keras's own callbacks, else `None`."""
    of_keras = type(callback).__module__.split(".")[0] == "keras"
    return _CALLBACK_ATTRIBUTES.get(type(callback).__name__) if of_keras else None


def monitor_op(direction: Literal["min", "max"]) -> Any:
    """The comparison that Keras's callbacks show as `monitor_op`."""
    from keras import ops

    return ops.less if direction == "min" else ops.greater
