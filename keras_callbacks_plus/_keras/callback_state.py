"""The state of every callback in a list: ours, Keras's own, and a stranger's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.csv_log import (
    capture_csv_log,
    is_csv_logger,
    restore_csv_log,
)
from keras_callbacks_plus._keras.plain_state import AttributeWatch, plain_copy

__all__ = ["CallbackStates", "is_progress_bar"]


class CallbackStates:
    """Takes and puts back the state of a list of callbacks.

    A callback is asked in this order: its own `get_state`/`set_state`; the attributes that are
    known to be the state of one of Keras's callbacks; for any other, each attribute that holds
    plain data and has changed since the run began. An attribute that has changed and is not plain
    data cannot be kept, and is reported by name.

    Make one when all `on_train_begin` have run: what an attribute held then is not state but
    configuration, and a restarted script may change it.

    Args:
        callbacks: The callbacks, in the order of the list.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks = list(callbacks)
        self._watches = [
            None if self._is_known(callback) else AttributeWatch(callback, compat.CALLBACK_PLUMBING)
            for callback in callbacks
        ]

    @staticmethod
    def names(callbacks: Sequence[Any]) -> list[str]:
        """The class of each callback, as the fingerprint of a run records it."""
        return [f"{type(c).__module__}.{type(c).__qualname__}" for c in callbacks]

    @staticmethod
    def _is_known(callback: Any) -> bool:
        return _has_protocol(callback) or compat.callback_attributes(callback) is not None

    def capture(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The states, and what could not be taken.

        Returns:
            One tree for each callback (JSON types and copied arrays), and a line for each
            attribute that could not be kept.
        """
        states: list[dict[str, Any]] = []
        lost: list[str] = []
        for callback, watch in zip(self._callbacks, self._watches, strict=True):
            if watch is not None:
                changed, names = watch.changed()
                lost.extend(names)
                states.append({"attributes": changed})
            elif _has_protocol(callback):
                states.append({"protocol": callback.get_state()})
            elif is_csv_logger(callback):
                states.append({"csv": capture_csv_log(callback)})
            else:
                known = compat.callback_attributes(callback) or ()
                held = {k: vars(callback)[k] for k in known if k in vars(callback)}
                states.append({"attributes": {k: plain_copy(v) for k, v in held.items()}})
        return states, lost

    def restore(self, states: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
        """Puts back what `capture` returned, callback by callback.

        Each takes the first state of its class that no one before it has taken; in a list that has
        changed, a new callback is left as it is.

        Args:
            states: One tree for each callback, in the order of the list that was saved.
            names: The class of each, as `names` gave it.
        """
        left = list(zip(names, states, strict=True))
        own = self.names(self._callbacks)
        for name, callback, watch in zip(own, self._callbacks, self._watches, strict=True):
            found = next((pair for pair in left if pair[0] == name), None)
            if found is None:
                continue
            left = [pair for pair in left if pair is not found]
            self._put_back(callback, watch, found[1])

    @staticmethod
    def _put_back(callback: Any, watch: AttributeWatch | None, state: dict[str, Any]) -> None:
        if "protocol" in state:
            callback.set_state(state["protocol"])
        elif "csv" in state:
            restore_csv_log(callback, state["csv"])
        elif watch is not None:
            watch.put_back(state["attributes"])
        else:
            for name, value in state["attributes"].items():
                setattr(callback, name, plain_copy(value))


def is_progress_bar(callback: Any) -> bool:
    """Whether a callback is the one that `fit(verbose=...)` adds to the list; it has no state."""
    name = type(callback).__name__
    return name == "ProgbarLogger" and compat.callback_attributes(callback) == ()


def _has_protocol(callback: Any) -> bool:
    return callable(getattr(callback, "get_state", None)) and callable(
        getattr(callback, "set_state", None)
    )
