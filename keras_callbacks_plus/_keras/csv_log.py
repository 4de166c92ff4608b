"""The file of a `CSVLogger`, which Keras begins anew in each `fit`: as text, and put back."""

from __future__ import annotations

from typing import Any

import keras

__all__ = ["capture_csv_log", "is_csv_logger", "restore_csv_log"]


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
