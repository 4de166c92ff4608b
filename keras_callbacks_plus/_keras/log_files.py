"""What Keras's own callbacks write in `fit`: rows that are put back, charts that are flushed."""

from __future__ import annotations

from typing import Any

import keras

from keras_callbacks_plus._keras import compat

__all__ = ["capture_csv_log", "flush_charts", "is_csv_logger", "restore_csv_log"]


def is_csv_logger(callback: Any) -> bool:
    """Whether a callback is Keras's `CSVLogger`."""
    return isinstance(callback, keras.callbacks.CSVLogger)


def capture_csv_log(callback: Any) -> dict[str, Any]:
    """What a `CSVLogger` has written, a row for each epoch.

    Args:
        callback: The callback, between its `on_train_begin` and its `on_train_end`.

    Returns:
        A tree in JSON types.
    """
    callback.csv_file.flush()
    with open(callback.filename, encoding="utf-8", newline="") as file:
        text = file.read()
    return {"text": text, "keys": callback.keys, "append_header": bool(callback.append_header)}


def restore_csv_log(callback: Any, state: dict[str, Any]) -> None:
    """Makes the file what it was; rows of epochs that will be trained again go.

    Args:
        callback: The callback, after its `on_train_begin`.
        state: What `capture_csv_log` returned.
    """
    file = callback.csv_file
    file.seek(0)
    file.truncate(0)
    file.write(state["text"])
    file.flush()
    callback.keys = state["keys"]
    callback.append_header = state["append_header"] and state["keys"] is None
    callback.writer = None


def flush_charts(callback: Any) -> None:
    """Hands to the system what a `TensorBoard` still holds of its charts; others are left alone.

    What a snapshot has behind it is not trained again, so nothing would write it a second time.

    Args:
        callback: One of Keras's own callbacks, or of a subclass.
    """
    if isinstance(callback, keras.callbacks.TensorBoard):
        for writer in compat.chart_writers(callback):
            writer.flush()
