"""All the data of a running `fit`, for training and for validation, as one part of its state."""

from __future__ import annotations

from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.inexact_input import not_known, why_inexact
from keras_callbacks_plus._keras.input_state import InputState, ValidationState, is_seekable
from keras_callbacks_plus._keras.stream import Stream

__all__ = ["RunData"]


class RunData:
    """The data of a running `fit`.

    Args:
        scope: The running `fit`, in `on_train_begin`.

    Attributes:
        arguments: What `fit` was called with.
        seekable: Whether the training data can begin at any batch of any epoch.
    """

    def __init__(self, scope: FitScope) -> None:
        self._scope = scope
        self.arguments = compat.fit_arguments(scope.model)
        self.seekable = is_seekable(scope)
        self._stream = Stream(scope)
        self._training: InputState
        self._validation: ValidationState

    def why_inexact(self) -> list[str]:
        """Why resuming could not be exact with it: a line for each cause."""
        return why_inexact(self._scope, self.arguments)

    def watch(self) -> list[str]:
        """Begins to watch it, when all `on_train_begin` have run.

        Returns:
            A line for each part that may change in a way which nobody can see.
        """
        self._training = InputState(self._scope, self._stream)
        self._validation = ValidationState(self._scope, self.arguments)
        return [not_known(line) for line in (*self._training.unknown, *self._validation.unknown)]

    @property
    def drawn_ahead(self) -> bool:
        """Whether Python's generators may have been drawn from for batches to come."""
        return self._training.drawn_ahead

    def capture_input(self) -> tuple[dict[str, Any], list[str]]:
        """The state of the training data, between two epochs, and what could not be taken."""
        return self._training.capture()

    def capture_validation(self) -> tuple[dict[str, Any], list[str]]:
        """The state of the validation data, and what could not be taken."""
        return self._validation.capture()

    def restore(self, saved: dict[str, Any]) -> None:
        """Brings all of it to the beginning of an epoch.

        Args:
            saved: The snapshot.
        """
        first, epoch = saved["first_epoch"], saved["epoch"]
        self._validation.restore(saved["validation"], first_epoch=first, epoch=epoch)
        state = (saved["start"] or saved)["input"]
        self._training.restore(state, epochs_before=epoch - first)

    def first_taken(self, random_state: dict[str, Any]) -> None:
        """Told of how the random generators stand where the first batch of an epoch is taken."""
        self._stream.first_taken(random_state)

    def seek(self, epoch: int, batch: int) -> None:
        """Makes data that can do so begin the coming epoch at a batch."""
        self._training.seek(epoch, batch)
