"""What the other callbacks of a `fit` have yet to write, and whether it has been."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from keras_callbacks_plus.errors import StorageError

__all__ = ["wait_for_others"]

_LOGGER = logging.getLogger("keras_callbacks_plus")


def wait_for_others(callbacks: Sequence[Any]) -> StorageError | None:
    """Waits for the writers of other callbacks: a snapshot must not promise what is yet to come.

    Args:
        callbacks: Those with a `wait_until_finished` are waited for.

    Returns:
        The error of the first that could not write: then there is no snapshot, and the error is
        that callback's own to raise.
    """
    for callback in callbacks:
        wait = getattr(callback, "wait_until_finished", None)
        try:
            if callable(wait):
                wait()
        except StorageError as error:
            name = type(callback).__name__
            _LOGGER.warning("No snapshot is taken, as %s has failed: %s", name, error)
            return error
    return None
