"""The state of every callback in a list: ours, Keras's own, and a stranger's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import compat

__all__ = ["CallbackStates"]

_MISSING = object()


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
        self._at_start = [
            {} if self._is_known(callback) else _attributes(callback) for callback in callbacks
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
        states, lost = [], []
        for callback, start in zip(self._callbacks, self._at_start, strict=True):
            if _has_protocol(callback):
                states.append({"protocol": callback.get_state()})
                continue
            known = compat.callback_attributes(callback)
            if known is not None:
                held = {k: vars(callback)[k] for k in known if k in vars(callback)}
                states.append({"attributes": {k: plain_copy(v) for k, v in held.items()}})
                continue
            changed = {}
            for name, value in _attributes(callback).items():
                before = start.get(name, _MISSING)
                if before is not _MISSING and _equal(before, value):
                    continue
                if is_plain(value):
                    changed[name] = value
                else:
                    kind = type(callback).__qualname__
                    lost.append(f"{kind}.{name} (a {type(value).__qualname__})")
            states.append({"attributes": changed})
        return states, lost

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Puts back what `capture` returned, callback by callback.

        Args:
            states: One tree for each callback, in the order of the list.
        """
        for callback, state in zip(self._callbacks, states, strict=True):
            if "protocol" in state:
                callback.set_state(state["protocol"])
            else:
                for name, value in state["attributes"].items():
                    setattr(callback, name, plain_copy(value))


def _has_protocol(callback: Any) -> bool:
    return callable(getattr(callback, "get_state", None)) and callable(
        getattr(callback, "set_state", None)
    )


def _attributes(callback: Any) -> dict[str, Any]:
    """The instance's own attributes; plain data copied, anything else by reference."""
    ignored = compat.CALLBACK_PLUMBING
    return {
        name: plain_copy(value) if is_plain(value) else value
        for name, value in vars(callback).items()
        if name not in ignored and not name.startswith("_abc")
    }


def is_plain(value: Any) -> bool:
    """Whether a value consists of JSON types, tuples and numeric arrays only."""
    if value is None or isinstance(value, bool | int | float | str | np.generic):
        return True
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    if type(value) is dict:
        return all(isinstance(k, str | int) and is_plain(v) for k, v in value.items())
    return False


def plain_copy(value: Any) -> Any:
    """A copy that later training cannot change; a NumPy scalar becomes a Python one."""
    if isinstance(value, np.generic):
        return value.item()
    return copy.deepcopy(value)


def _equal(before: Any, now: Any) -> bool:
    if before is now:
        return True
    if not (is_plain(before) and is_plain(now)) or type(before) is not type(now):
        return False
    if isinstance(now, np.ndarray):
        return bool(
            before.dtype == now.dtype
            and before.shape == now.shape
            and before.tobytes() == now.tobytes()
        )
    if isinstance(now, list | tuple):
        return len(before) == len(now) and all(map(_equal, before, now))
    if isinstance(now, dict):
        return list(before) == list(now) and all(_equal(before[k], now[k]) for k in now)
    return bool(before == now)
