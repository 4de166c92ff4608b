"""The state of every callback in a list: ours, Keras's own, and a stranger's."""

from __future__ import annotations

import builtins
import types
from collections.abc import Sequence
from typing import Any

import keras

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.held_parts import variable_groups
from keras_callbacks_plus._keras.log_files import (
    capture_csv_log,
    flush_charts,
    is_csv_logger,
    restore_csv_log,
)
from keras_callbacks_plus._keras.plain_data import (
    is_plain,
    outline_copy,
    plain_copy,
    where_not_plain,
)
from keras_callbacks_plus._keras.plain_state import AttributeWatch
from keras_callbacks_plus._keras.state_access import has_protocol
from keras_callbacks_plus.errors import ResumeError

__all__ = ["CallbackStates", "is_progress_bar"]

_MISSING = object()


class CallbackStates:
    """Takes and puts back the state of a list of callbacks.

    A callback is asked in this order: its own `get_state`/`set_state`; the attributes that are
    known to be the state of one of Keras's callbacks; for any other, and for what a subclass of one
    of Keras's has added, each attribute whose state can be read and has changed since the run
    began.

    Make one when all `on_train_begin` have run: what an attribute held then is not state but
    configuration, and a restarted script may change it.

    Args:
        callbacks: The callbacks, in the order of the list.
    """

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._members = [_member(callback) for callback in callbacks]
        self._names = self.names(callbacks)

    @staticmethod
    def names(callbacks: Sequence[Any]) -> list[str]:
        """The class of each callback, as the fingerprint of a run records it."""
        return [f"{type(c).__module__}.{type(c).__qualname__}" for c in callbacks]

    def why_unknown(self) -> list[str]:
        """A sentence for each thing that a callback holds and whose state nobody can read."""
        return [
            f"It is not known whether {line} keeps state that changes: give the callback "
            "`get_state` and `set_state` (empty ones, if there is nothing to keep), hold the state "
            "in plain data, or make an array read-only (`array.flags.writeable = False`) if it is "
            "data."
            for member in self._members
            for line in member.unknown
        ]

    def capture(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The states, and what could not be taken.

        Returns:
            One tree for each callback (plain data, its arrays copied), and a line for each
            attribute that could not be kept.

        Raises:
            ResumeError: If a `get_state` returns what cannot be kept.
        """
        lost: list[str] = []
        return [member.capture(lost) for member in self._members], lost

    def restore(self, states: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
        """Puts back what `capture` returned, callback by callback.

        Each takes the first state of its class that no one before it has taken; in a list that has
        changed, a new callback is left as it is. What a state may set is up to the callback, not to
        the state: that may be from a file of somebody else's.

        Args:
            states: One tree for each callback, in the order of the list that was saved.
            names: The class of each, as `names` gave it.

        Raises:
            ResumeError: If a state is not one that the callback can have.
        """
        left = list(zip(names, states, strict=True))
        for name, member in zip(self._names, self._members, strict=True):
            found = next((pair for pair in left if pair[0] == name), None)
            if found is None:
                continue
            left = [pair for pair in left if pair is not found]
            member.restore(found[1])


class _Stranger:
    """A callback of which nothing is known: what changes in it is its state."""

    part = "attributes"

    def __init__(self, callback: Any, ignored: frozenset[str] = compat.CALLBACK_PLUMBING) -> None:
        self._callback = callback
        self._watch = AttributeWatch(callback, ignored, lambda: _variables_of_model(callback))
        self.unknown = self._watch.unknown

    def capture(self, lost: list[str]) -> dict[str, Any]:
        changed, names = self._watch.changed()
        lost.extend(names)
        return {self.part: changed}

    def restore(self, state: dict[str, Any]) -> None:
        self._watch.put_back(_part(self._callback, state, self.part))


class _Speaking:
    """A callback with `get_state` and `set_state`."""

    unknown: tuple[str, ...] = ()

    def __init__(self, callback: Any) -> None:
        self._callback = callback

    def capture(self, lost: list[str]) -> dict[str, Any]:  # noqa: ARG002 - nothing is, here
        state = self._callback.get_state()
        if not is_plain(state):
            raise ResumeError(
                f"{type(self._callback).__qualname__}.get_state() returns "
                f"{where_not_plain(state)}, which no snapshot can hold. Return dict, list, tuple, "
                "set, str, bytes, numbers, None and NumPy arrays of numbers, and make the object "
                "again in `set_state`."
            )
        return {"protocol": outline_copy(state)}

    def restore(self, state: dict[str, Any]) -> None:
        self._callback.set_state(_part(self._callback, state, "protocol", object))


class _OfKeras:
    """One of Keras's own callbacks, or of a subclass, which may have added to its state."""

    def __init__(self, callback: Any, known: tuple[str, ...]) -> None:
        self._callback = callback
        self._known = known
        self._more = None
        if not compat.is_of_keras(type(callback)):
            ignored = {*known, *compat.CALLBACK_PLUMBING, *compat.CALLBACK_INSIDES}
            if is_csv_logger(callback):
                ignored |= {"keys", "append_header"}
            self._more = _Added(callback, frozenset(ignored))
        self.unknown = [] if self._more is None else list(self._more.unknown)
        if isinstance(callback, keras.callbacks.LambdaCallback) and _may_keep_state(callback):
            self.unknown.append(f"{type(callback).__qualname__} (its functions)")

    def capture(self, lost: list[str]) -> dict[str, Any]:
        flush_charts(self._callback)
        own = vars(self._callback)
        held = {}
        for name in (n for n in self._known if n in own):
            value = own[name]
            if not is_plain(value):  # a tensor among the logs
                value = keras.tree.map_structure(compat.to_numpy, value)
            if is_plain(value):
                held[name] = plain_copy(value)
            else:
                kind = where_not_plain(value)
                lost.append(f"{type(self._callback).__qualname__}.{name} ({kind})")
        state: dict[str, Any] = {"attributes": held}
        if is_csv_logger(self._callback):
            state["csv"] = capture_csv_log(self._callback)
        if self._more is not None:
            state.update(self._more.capture(lost))
        return state

    def restore(self, state: dict[str, Any]) -> None:
        values = _part(self._callback, state, "attributes")
        for name in self._known:
            if name in values:
                setattr(self._callback, name, plain_copy(values[name]))
        if is_csv_logger(self._callback):
            restore_csv_log(self._callback, _part(self._callback, state, "csv"))
        if self._more is not None:
            self._more.restore(state)


class _Added(_Stranger):
    """What a subclass of one of Keras's callbacks has added."""

    part = "added"


def _member(callback: Any) -> _Stranger | _Speaking | _OfKeras:
    known = compat.callback_attributes(callback)
    if has_protocol(callback):
        return _Speaking(callback)
    return _Stranger(callback) if known is None else _OfKeras(callback, known)


def _part(callback: Any, state: Any, name: str, kind: type = dict) -> Any:
    found = state.get(name, _MISSING) if isinstance(state, dict) else _MISSING
    if isinstance(found, kind) and found is not _MISSING:
        return found
    raise ResumeError(
        f"The snapshot holds no {name!r} for {type(callback).__qualname__}: its class is not what "
        "it was when the snapshot was taken. Make the script the same as it was, or name another "
        "`backup_dir` to start afresh."
    )


def _variables_of_model(callback: Any) -> frozenset[int]:
    """The variables that are kept with the model."""
    model = getattr(callback, "model", None)
    if model is None:
        return frozenset()
    groups = [*variable_groups(model).values(), model.metrics_variables]
    return frozenset(id(variable) for group in groups for variable in group)


def _may_keep_state(callback: Any) -> bool:
    """Whether one of a `LambdaCallback`'s functions reaches anything but its arguments."""
    functions = [f for n, f in vars(callback).items() if n.startswith("on_") and callable(f)]
    return any(
        not isinstance(function, types.FunctionType)
        or function.__closure__
        or any(not hasattr(builtins, name) for name in function.__code__.co_names)
        for function in functions
    )


def is_progress_bar(callback: Any) -> bool:
    """Whether a callback is the one that `fit(verbose=...)` adds to the list; it has no state."""
    name = type(callback).__name__
    return name == "ProgbarLogger" and compat.callback_attributes(callback) == ()
