"""What `verbose` prints, the way Keras prints it."""

from __future__ import annotations

from keras_callbacks_plus._keras import compat

__all__ = ["print_msg"]


def print_msg(message: str) -> None:
    """Prints a line through Keras, so that `keras.config.disable_interactive_logging()` holds.

    Args:
        message: The line.
    """
    compat.print_msg(message)
