"""Plain data, and the state of an object that has no protocol for it: what of it has changed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["AttributeWatch", "is_plain", "plain_copy"]

_MISSING = object()
_LARGE = 32 << 20


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


class AttributeWatch:
    """The attributes of an object that have changed since the watch began.

    An attribute that holds a random generator (Python's, NumPy's, PyTorch's) counts as changed
    when its state has. An array of more than 32 MiB is compared by identity: it is taken for the
    data itself, and is neither copied nor looked through.

    Args:
        owner: The object.
        ignored: Names of attributes that are not state.
    """

    def __init__(self, owner: Any, ignored: frozenset[str] = frozenset()) -> None:
        self._owner = owner
        self._ignored = ignored
        self._at_start = self._attributes()

    def _attributes(self) -> dict[str, Any]:
        """The instance's own attributes; plain data copied, anything else by reference."""
        return {
            name: _frozen(value)
            for name, value in vars(self._owner).items()
            if name not in self._ignored and not name.startswith("_abc")
        }

    def changed(self) -> tuple[dict[str, Any], list[str]]:
        """What has changed.

        Returns:
            Copies of the values by name, and the names of those that are not plain data, with
            their type.
        """
        values: dict[str, Any] = {}
        lost = []
        for name, value in self._attributes().items():
            before = self._at_start.get(name, _MISSING)
            if before is not _MISSING and _equal(before, value):
                continue
            if is_plain(value):
                values[name] = plain_copy(value) if _is_large(value) else value
            else:
                kind = type(vars(self._owner)[name])
                lost.append(f"{type(self._owner).__qualname__}.{name} (a {kind.__qualname__})")
        return values, lost

    def put_back(self, values: dict[str, Any]) -> None:
        """Sets what `changed` returned; random generators are set to the state that was kept.

        What had not changed then and has now goes back to where this watch found it.

        Args:
            values: The values by name.
        """
        values = {
            **{
                name: self._at_start[name]
                for name in self.changed()[0]
                if name in self._at_start and is_plain(self._at_start[name])
            },
            **values,
        }
        for name, value in values.items():
            access = _generator_access(vars(self._owner).get(name))
            if access is not None:
                access[1](plain_copy(value))
            else:
                setattr(self._owner, name, plain_copy(value))


def _is_large(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.nbytes > _LARGE


def _frozen(value: Any) -> Any:
    access = _generator_access(value)
    if access is not None:
        return access[0]()
    return plain_copy(value) if is_plain(value) and not _is_large(value) else value


def _generator_access(value: Any) -> tuple[Callable[[], Any], Callable[[Any], None]] | None:
    """How to read and set the state of a random generator as plain data."""
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator

        def set_bits(state: Any) -> None:
            bits.state = state

        return lambda: plain_copy(bits.state), set_bits
    if isinstance(value, np.random.RandomState):
        return (
            lambda: plain_copy(value.get_state(legacy=False)),
            value.set_state,
        )
    if isinstance(value, random.Random):
        return (
            lambda: [list(part) if isinstance(part, tuple) else part for part in value.getstate()],
            lambda state: value.setstate((state[0], tuple(state[1]), state[2])),
        )
    if f"{type(value).__module__}.{type(value).__name__}" == "torch._C.Generator":
        import torch

        return (
            lambda: value.get_state().numpy().copy(),
            lambda state: value.set_state(torch.from_numpy(np.array(state))),
        )
    return None


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
