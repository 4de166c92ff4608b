"""The state of an object that has no protocol for it: which of its attributes have changed.

An attribute may hold plain data, a random generator, Keras variables (a metric), an object with
`get_state` and `set_state`, an ordinary object with attributes of its own, or a list or dict of
such. Each is looked into once, when the watch begins, and has a path from then on, such as
`tracker.counts` or `metrics['loss']`. What is none of these, and may change all the same, is named
at that moment. What is put back goes to paths that the watch knows, wherever they were saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import state_access
from keras_callbacks_plus._keras.plain_data import is_plain, plain_copy, put_into, same
from keras_callbacks_plus.errors import ResumeError

__all__ = ["AttributeWatch"]

_LARGE = 32 << 20
_MOST_PARTS = 2000
_DEEPEST = 10


class AttributeWatch:
    """The attributes of an object that have changed since the watch began.

    Args:
        owner: The object.
        ignored: Names of attributes that are not state.
        of_model: Returns the ids of variables that are kept elsewhere. Defaults to none.

    Attributes:
        unknown: A path, with its type, for each attribute that may change in a way which nobody
            can see.
    """

    def __init__(
        self,
        owner: Any,
        ignored: frozenset[str] = frozenset(),
        of_model: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._kind = type(owner)
        self._ignored = ignored
        self._of_model = of_model
        self._seen: dict[int, Any] = {}
        self.unknown: list[str] = []
        self._owner = owner
        self._root = _Object(self, owner, "")

    def changed(self) -> tuple[dict[str, Any], list[str]]:
        """What has changed.

        Returns:
            Copies of the values by path, and the paths of those that cannot be kept, with their
            type.
        """
        values: dict[str, Any] = {}
        lost: list[str] = []
        for path, now in self._root.changes(self._owner, ""):
            if is_plain(now):
                values[path] = plain_copy(now)
            else:
                lost.append(self._line(path, now))
        return values, lost

    def put_back(self, values: dict[str, Any]) -> None:
        """Sets what `changed` returned.

        What had not changed then and has now goes back to where this watch found it.

        Args:
            values: The values by path.

        Raises:
            ResumeError: If one of them belongs to nothing that is state here.
        """
        left = dict(values)
        try:
            self._root.put(self._owner, "", left)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise ResumeError(
                f"The snapshot holds a state that does not fit {self._kind.__qualname__}: {error}. "
                "Make the script the same as it was when the snapshot was taken, or name another "
                "`backup_dir` to start afresh."
            ) from error
        if left:
            raise ResumeError(
                f"The snapshot holds {self._kind.__qualname__}.{next(iter(left))}, which is no "
                "plain data of this object any more, or never was. Make the script the same as it "
                "was when the snapshot was taken, or name another `backup_dir` to start afresh."
            )

    # ---------------------------------------------------------------- for the parts

    def look(self, value: Any, path: str, depth: int) -> _Part:
        """What there is to watch in a value."""
        if isinstance(value, np.ndarray) and value.nbytes > _LARGE:
            if value.flags.writeable:
                self._note(path, value, f"{value.nbytes >> 20} MiB")
            return _Part(value)
        if is_plain(value):
            return _Data(value)
        access = state_access.of(value, self._of_model)
        if access is not None:
            doubt = state_access.doubt(value, access, self._of_model)
            if doubt:
                self._note(path, value, doubt)
            return _Part(value) if doubt else _Kept(value, access)
        if state_access.is_no_state(value) or id(value) in self._seen:
            return _Part(value)
        self._seen[id(value)] = value  # so that the id stays its own
        room = depth < _DEEPEST and len(self._seen) < _MOST_PARTS
        if room and type(value) in (list, tuple, dict):
            return _Members(self, value, path, depth)
        ordinary = state_access.is_ordinary(value, self._kind)
        if room and ordinary:
            return _Object(self, value, path, depth)
        if not callable(value) or ordinary:
            self._note(path, value)
        return _Part(value)

    def names(self, owner: Any) -> list[str]:
        """The attributes of an object, in `__slots__` too, that may be state."""
        hidden = self._ignored if owner is self._owner else state_access.plumbing(owner)
        return [n for n in state_access.names(owner) if n not in hidden and n[:4] != "_abc"]

    def _note(self, path: str, value: Any, more: str = "") -> None:
        self.unknown.append(self._line(path, value, more))

    def _line(self, path: str, value: Any, more: str = "") -> str:
        kind = f"a {type(value).__qualname__}" + (f", {more}" if more else "")
        return f"{self._kind.__qualname__}.{path} ({kind})"


class _Part:
    """A value that is compared by itself: another one in its place is a change."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def changes(self, now: Any, path: str) -> Iterator[tuple[str, Any]]:
        """The paths below `path` where something else is now, with what it is."""
        if now is not self.value and not state_access.are_equal(self.value, now):
            yield path, now

    def put(self, now: Any, path: str, values: dict[str, Any]) -> Any:
        """Takes what is for it out of `values`; returns what is to be in its place."""
        if path in values and not callable(now):
            return put_into(now, values.pop(path))
        return now


class _Data(_Part):
    """Plain data."""

    def __init__(self, value: Any) -> None:
        super().__init__(plain_copy(value))

    def changes(self, now: Any, path: str) -> Iterator[tuple[str, Any]]:
        if not same(self.value, now):
            yield path, now

    def put(self, now: Any, path: str, values: dict[str, Any]) -> Any:
        if path in values:
            return put_into(now, values.pop(path))
        return now if same(self.value, now) or not is_plain(now) else put_into(now, self.value)


class _Kept(_Part):
    """An object that stays, and whose state is read and set: a generator, a metric."""

    def __init__(self, value: Any, access: state_access.Access) -> None:
        super().__init__(plain_copy(access.read()))
        self._again = access.again
        self._of_arrays = isinstance(self.value, list) and not state_access.has_protocol(value)

    def changes(self, now: Any, path: str) -> Iterator[tuple[str, Any]]:
        access = self._again(now)
        if access is None:
            yield path, now
            return
        state = access.read()
        if self._of_arrays and len(state) != len(self.value):
            yield path, now  # it has other variables than at the start
        elif not same(self.value, state):
            yield path, state

    def put(self, now: Any, path: str, values: dict[str, Any]) -> Any:
        access = self._again(now)
        if access is None:
            return now
        if path in values:
            access.write(plain_copy(values.pop(path)))
        elif not same(self.value, access.read()):
            access.write(plain_copy(self.value))
        return now


class _Members(_Part):
    """A list, tuple or dict with members that are no plain data; it keeps its members."""

    def __init__(self, watch: AttributeWatch, value: Any, path: str, depth: int) -> None:
        super().__init__(value)
        self._names = list(value) if type(value) is dict else list(range(len(value)))
        self._parts = [watch.look(value[k], path + self._step(k), depth + 1) for k in self._names]

    def _step(self, key: Any) -> str:
        """The same in every process, unlike what an object of its own may say it is."""
        return f"[{key!r}]" if is_plain(key) else f"[#{self._names.index(key)}]"

    def _is_another(self, now: Any) -> bool:
        names = list(now) if type(now) is dict else list(range(len(self._names)))
        return (
            type(now) is not type(self.value)
            or len(now) != len(self._names)
            or names != self._names
        )

    def changes(self, now: Any, path: str) -> Iterator[tuple[str, Any]]:
        if self._is_another(now):
            yield path, now
            return
        for key, part in zip(self._names, self._parts, strict=True):
            yield from part.changes(now[key], path + self._step(key))

    def put(self, now: Any, path: str, values: dict[str, Any]) -> Any:
        if self._is_another(now):
            return now
        for key, part in zip(self._names, self._parts, strict=True):
            after = part.put(now[key], path + self._step(key), values)
            if after is not now[key] and not isinstance(now, tuple):
                now[key] = after
        return now


class _Object(_Part):
    """An object whose state is its attributes."""

    def __init__(self, watch: AttributeWatch, value: Any, path: str, depth: int = 0) -> None:
        super().__init__(value)
        self._watch = watch
        watch._seen[id(value)] = value
        prefix = f"{path}." if path else ""
        self._parts = {
            name: watch.look(state_access.value_of(value, name), prefix + name, depth + 1)
            for name in watch.names(value)
        }

    def changes(self, now: Any, path: str) -> Iterator[tuple[str, Any]]:
        if type(now) is not type(self.value):
            yield path, now
            return
        prefix = f"{path}." if path else ""
        for name in self._watch.names(now):
            value = state_access.value_of(now, name)
            if name in self._parts:
                yield from self._parts[name].changes(value, prefix + name)
            else:
                yield prefix + name, value

    def put(self, now: Any, path: str, values: dict[str, Any]) -> Any:
        if type(now) is not type(self.value):
            return now
        prefix = f"{path}." if path else ""
        there = {name: state_access.value_of(now, name) for name in self._watch.names(now)}
        for name, part in self._parts.items():
            if name in there:
                after = part.put(there[name], prefix + name, values)
            elif prefix + name in values and isinstance(part, _Data):
                after = plain_copy(values.pop(prefix + name))
            else:
                continue
            if after is not there.get(name, self):
                object.__setattr__(now, name, after)
        for key in [key for key in values if key.startswith(prefix)]:
            name = key.removeprefix(prefix)
            if name not in self._parts and state_access.may_be_new(now, name):
                object.__setattr__(now, name, put_into(there.get(name), values.pop(key)))
        return now
