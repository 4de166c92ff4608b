"""The data of a running `fit`: what of it is state, and how it is brought to a place."""

from __future__ import annotations

from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.fit_scope import FitScope
from keras_callbacks_plus._keras.input_watch import InputWatch
from keras_callbacks_plus._keras.resumable_data import ResumableData
from keras_callbacks_plus._keras.stream import Stream

__all__ = ["InputState", "ValidationState", "is_seekable"]

_PYTHON_INPUTS = ("PyDatasetAdapter", "GeneratorDataAdapter", "TorchDataLoaderAdapter")


def is_seekable(scope: FitScope) -> bool:
    """Whether the data can begin at any batch of any epoch; a `seek` of the user's own may not.

    Args:
        scope: The running `fit`.
    """
    return isinstance(compat.python_input(scope.epoch_iterator), ResumableData)


class InputState:
    """What the data of a running `fit` remembers from epoch to epoch.

    Taken between two epochs only: within one, the data is replayed from the epoch's beginning, or
    told where to go on.

    Args:
        scope: The running `fit`, when all `on_train_begin` have run.
        stream: The pass over the data, followed since `on_train_begin`.
    """

    def __init__(self, scope: FitScope, stream: Stream) -> None:
        self._stream = stream
        stream.input_state = lambda: self._capture_input()[0]
        self._iterator = scope.epoch_iterator
        source = compat.python_input(self._iterator)
        self._seekable = source if is_seekable(scope) else None
        watched = compat.grain_dataset(self._iterator) if source is None else source
        self._watch = InputWatch(None if self._seekable is not None else watched)

    @property
    def unknown(self) -> list[str]:
        """A line for each part that may change in a way which nobody can see."""
        return self._watch.unknown

    @property
    def drawn_ahead(self) -> bool:
        """Whether another thread may have drawn from Python's generators for batches to come.

        TensorFlow reads an input that is written in Python ahead of the loop.
        """
        kind = compat.input_kind(self._iterator)
        return (
            compat.backend() == "tensorflow" and kind in _PYTHON_INPUTS and self._seekable is None
        )

    def capture(self) -> tuple[dict[str, Any], list[str]]:
        """The state, and what could not be taken.

        Returns:
            A tree of JSON types and arrays, and a line for each attribute that could not be kept.
        """
        state, lost = self._capture_input()
        return {**state, "stream": self._stream.capture()}, lost

    def _capture_input(self) -> tuple[dict[str, Any], list[str]]:
        parts, lost = self._watch.capture()
        return {"adapter_epoch": compat.adapter_epoch(self._iterator), "parts": parts}, lost

    def restore(self, state: dict[str, Any], *, epochs_before: int) -> None:
        """Brings the data to the beginning of an epoch.

        Args:
            state: What `capture` returned there.
            epochs_before: Epochs that the run had done by then.
        """
        stream = state["stream"]
        self._stream.restore(stream, lambda: self._restore_input(state))
        if self._iterator.steps_per_epoch is None:
            self._restore_input(state)
            iterators = compat.iterators_of(self._iterator, epochs_before)
        elif stream["begun"] is None:
            self._restore_input(state)
            iterators = stream["made"]
        else:
            self._restore_input(stream["begun"]["input"])
            iterators = stream["begun"]["before"]
        compat.advance_dataset(self._iterator, iterators)

    def _restore_input(self, state: dict[str, Any]) -> None:
        if state["adapter_epoch"] is not None:
            compat.set_adapter_epoch(self._iterator, state["adapter_epoch"])
        self._watch.restore(state["parts"])

    def seek(self, epoch: int, batch: int) -> None:
        """Makes data that can do so begin the coming epoch at a batch.

        Args:
            epoch: The epoch.
            batch: The number of its first batch.
        """
        if self._seekable is not None:
            self._seekable.seek(epoch, batch)


class ValidationState:
    """What the validation data of a running `fit` remembers from one validation to the next.

    Args:
        scope: The running `fit`, when all `on_train_begin` have run.
        arguments: What `fit` was called with.
    """

    def __init__(self, scope: FitScope, arguments: dict[str, Any]) -> None:
        self._scope = scope
        self._arguments = arguments
        data = arguments.get("val_x")
        self._source = data if compat.is_python_input(data) else None
        self._watch = InputWatch(self._source)

    @property
    def unknown(self) -> list[str]:
        """A line for each part that may change in a way which nobody can see."""
        return self._watch.unknown

    def capture(self) -> tuple[dict[str, Any], list[str]]:
        """The state, and a line for each attribute that could not be kept."""
        parts, lost = self._watch.capture()
        if getattr(self._source, "workers", 0) > 1 and any(parts.values()):
            lost.append("the validation data, which has workers and draws or counts in them,")
        return parts, lost

    def restore(self, state: dict[str, Any], *, first_epoch: int, epoch: int) -> None:
        """Brings the data to where it is when the validations before an epoch are done.

        Args:
            state: What `capture` returned there.
            first_epoch: Number of the run's first epoch.
            epoch: Number of the epoch.
        """
        model, frequency = self._scope.model, self._arguments.get("validation_freq")
        done = sum(compat.validates(model, e, frequency) for e in range(first_epoch, epoch))
        if self._arguments.get("validation_data") is not None and done:
            made = compat.make_validation_iterator(
                model, self._scope.epoch_iterator, self._arguments
            )
            compat.advance_dataset(made, compat.iterators_of(made, done))
        self._watch.restore(state)
