"""What every callback of this package is: one whose state can be taken and put back."""

from __future__ import annotations

import abc
from typing import Any

import keras

from keras_callbacks_plus._keras import compat

__all__ = ["StatefulCallback"]


class StatefulCallback(keras.callbacks.Callback, abc.ABC):
    """A Keras callback whose state can be taken and put back.

    `BackupAndRestore` keeps the state of every callback in the list. A callback of your own takes
    part by subclassing this class (or by having the same two methods).

    Example:

    >>> import keras_callbacks_plus as kcp
    >>> class CountEpochs(kcp.StatefulCallback):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.epochs = 0
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.epochs += 1
    ...     def get_state(self):
    ...         return {"epochs": self.epochs}
    ...     def set_state(self, state):
    ...         self.epochs = state["epochs"]
    >>> CountEpochs().get_state()
    {'epochs': 0}
    """

    def set_model(self, model: Any) -> None:
        """Keras's: sets the model; refuses one that is not a Keras 3 model."""
        compat.require_keras_model(model)
        super().set_model(model)

    @abc.abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Returns the state as a tree of numbers, `str`, `bytes`, `None`, the collections of the
        standard library and NumPy arrays. Arrays must be copies: training goes on while the state
        is written.
        """

    @abc.abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """Puts back what `get_state` returned, in another process and after `on_train_begin`.

        Args:
            state: What `get_state` returned.
        """

    def wait_until_finished(self) -> None:
        """Blocks until everything that this callback was asked to write is durable.

        Called, possibly from another thread, before a snapshot of the run is committed, so that
        the snapshot never promises a file that is not there. Does nothing by default.
        """
