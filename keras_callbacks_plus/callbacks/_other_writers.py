"""What the other callbacks of a `fit` have yet to write, and whether it has been."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from keras_callbacks_plus.errors import StorageError

__all__ = ["others_are_durable"]

_LOGGER = logging.getLogger("keras_callbacks_plus")


def others_are_durable(callbacks: Sequence[Any]) -> bool:
    """Waits for the writers of other callbacks: a snapshot must not promise what is yet to come.

    Args:
        callbacks: Those with a `wait_until_finished` are waited for.

    Returns:
        `False` where one of them could not write: then there is no snapshot, and the error is its
        own to raise.
    """
    for callback in callbacks:
        wait = getattr(callback, "wait_until_finished", None)
        try:
            if callable(wait):
                wait()
        except StorageError as error:
            name = type(callback).__name__
            _LOGGER.warning("No snapshot is taken, as %s has failed: %s", name, error)
            return False
    return True
