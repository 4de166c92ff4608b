"""Plain data: what a snapshot can hold, when two values of it are the same, and copies."""

from __future__ import annotations

import math
import operator
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_callbacks_plus.storage import FACTORIES

__all__ = ["is_plain", "outline_copy", "plain_copy", "put_into", "same", "where_not_plain"]

_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})
_MAPPINGS = frozenset({dict, OrderedDict, Counter, defaultdict})
_SEQUENCES = frozenset({list, tuple, deque})
_SETS = frozenset({set, frozenset})
_DEEPEST = 40  # a snapshot takes 64 levels, some of them for itself


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value consists of what a snapshot can hold, and comes back as the same types.

    Numbers, text, bytes, `None`, the collections of the standard library and NumPy arrays; exactly
    these types, as one of a subclass (a named tuple, an enumeration) could not be made again.

    Args:
        value: The value.
        depth: How deep it stands.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if isinstance(value, np.generic) or kind is np.ndarray:
        return not value.dtype.hasobject and value.dtype.fields is None
    if depth > _DEEPEST:
        return False
    if kind in _MAPPINGS:
        known = kind is not defaultdict or value.default_factory in FACTORIES.values()
        return known and _all_plain(value, depth) and _all_plain(value.values(), depth)
    return (kind in _SEQUENCES or kind in _SETS) and _all_plain(value, depth)


def _all_plain(items: Any, depth: int) -> bool:
    return _are_scalars(items) or all(is_plain(item, depth + 1) for item in items)


def _are_scalars(items: Any) -> bool:
    """Tells without a step of Python's own for each of them: there may be a million."""
    return _SCALARS.issuperset(map(type, items))


def plain_copy(value: Any) -> Any:
    """A copy of plain data that later training cannot change, in the same types."""
    return _copy(value, np.array)


def outline_copy(value: Any) -> Any:
    """A copy of plain data that shares its arrays."""
    return _copy(value, lambda array: array)


def _copy(value: Any, copy_array: Callable[[Any], Any]) -> Any:
    def items(those: Any) -> Any:
        return those if _are_scalars(those) else [_copy(item, copy_array) for item in those]

    kind = type(value)
    if isinstance(value, np.ndarray):
        return copy_array(value)
    if kind in _MAPPINGS:
        pairs = zip(value, items(value.values()), strict=True)
        if kind is defaultdict:
            return defaultdict(value.default_factory, pairs)
        return Counter(dict(pairs)) if kind is Counter else kind(pairs)
    if kind is deque:
        return deque(items(value), value.maxlen)
    return kind(items(value)) if kind in _SEQUENCES or kind in _SETS else value


def same(before: Any, now: Any) -> bool:
    """Whether a value is what `plain_copy` copied, to the last bit.

    Args:
        before: The copy.
        now: The value, plain or not.
    """
    kind = type(now)
    if type(before) is not kind:
        return False
    if kind is float:
        equal = before == now and math.copysign(1, before) == math.copysign(1, now)
        return equal or (before != before and now != now)
    if kind in _SCALARS:
        return repr(before) == repr(now) if kind is complex else bool(before == now)
    if isinstance(now, np.generic) or kind is np.ndarray:
        return _same_array(np.asarray(before), np.asarray(now))
    if kind in _SETS:
        return bool(before == now)
    if len(before) != len(now) or getattr(before, "maxlen", None) != getattr(now, "maxlen", None):
        return False
    if kind in _MAPPINGS:
        if getattr(before, "default_factory", None) is not getattr(now, "default_factory", None):
            return False
        return _all_same(before, now) and _all_same(before.values(), now.values())
    return kind in _SEQUENCES and _all_same(before, now)


def _all_same(before: Any, now: Any) -> bool:
    """Items that are the same objects are equal: those of a copy that are not copies never change.

    That spares a list of a million names the comparison of each.
    """
    return all(map(operator.is_, before, now)) or all(map(same, before, now))


def _same_array(before: Any, now: Any) -> bool:
    if before.dtype != now.dtype or before.shape != now.shape:
        return False
    one, other = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (before, now))
    return bool(np.array_equal(one, other))


def put_into(current: Any, value: Any) -> Any:
    """Puts plain data into the object that holds it now, so that whoever shares it sees it too.

    Args:
        current: What is there now.
        value: What is to be there.

    Returns:
        `current` where it could take the value, else a copy of the value.
    """
    kind = type(value)
    value = plain_copy(value)
    if type(current) is not kind:
        return value
    if kind is np.ndarray:
        fits = current.dtype == value.dtype and current.shape == value.shape
        if fits and current.flags.writeable:
            current[...] = value
            return current
    elif kind is list:
        current[:] = value
        return current
    elif kind is set or kind in _MAPPINGS:
        current.clear()
        current.update(value)
        if kind is defaultdict:
            current.default_factory = value.default_factory
        return current
    elif kind is deque and current.maxlen == value.maxlen:
        current.clear()
        current.extend(value)
        return current
    return value


def where_not_plain(value: Any, path: str = "") -> str:
    """A phrase that says what in a value is not plain data, and where.

    Args:
        value: A value that `is_plain` refuses.
        path: Where it stands.
    """
    pairs: list[tuple[Any, Any]] = []
    if type(value) in _MAPPINGS:
        pairs = list(value.items())
    elif type(value) in _SEQUENCES or type(value) in _SETS:
        pairs = list(enumerate(value))
    for key, item in pairs:
        if not is_plain(item):
            return where_not_plain(item, f"{path}[{key!r}]")
    return f"a {type(value).__qualname__}" + (f" at {path}" if path else "")
