"""Whether anything that a model's configuration is made from has changed since it was made."""

from __future__ import annotations

import inspect
import operator
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_callbacks_plus._keras import compat

__all__ = ["CannotWatchError", "ConfigurationWatch"]

_SETTLED = (  # nothing in them changes, or nothing that a configuration is made from
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type,
    np.generic,
    np.dtype,
    types.BuiltinFunctionType,
    types.ModuleType,
    inspect.Signature,
    keras.Variable,
    keras.KerasTensor,
)
_CONTAINERS = (list, tuple, dict, set, frozenset)


class CannotWatchError(Exception):
    """The configuration may depend on something that cannot be seen to change."""


class _Object(NamedTuple):
    """An object, and what its attributes were."""

    attributes: dict[str, Any]
    size: int
    take: Callable[[dict[str, Any]], tuple[Any, ...]]
    values: tuple[Any, ...]


class ConfigurationWatch:
    """Looks at a model's layers, and at what they hold: initializers, policies, lists, dicts.

    `get_config` of a class of Keras's own is a function of attributes. So its result is the same
    for as long as each attribute is the very same object as before, and each list holds the very
    same items; to compare identities takes a twentieth of the time of `get_config`. A class that
    is not Keras's own may make its configuration from anything: with one in the model, nothing is
    said to be unchanged.

    Not watched is what `compile` was given, which `get_compile_config` answers for; of a compiled
    model inside the model nobody is asked, so that with one nothing is said to be unchanged.

    Args:
        model: The model, as its configuration was made from it just now.

    Raises:
        CannotWatchError: If a part of the model is not Keras's own, or holds what is neither
            a part of a model nor a plain value.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    >>> watch = ConfigurationWatch(model)
    >>> watch.is_unchanged()
    True
    >>> model.layers[0].rate = 0.4
    >>> watch.is_unchanged()
    False
    """

    def __init__(self, model: Any) -> None:
        self._objects: list[_Object] = []
        self._containers: list[tuple[Any, tuple[Any, ...]]] = []
        self._functions: list[tuple[types.FunctionType, str]] = []
        self._seen: set[int] = set()
        self._model = model
        if not compat.is_of_keras(type(model)):
            raise CannotWatchError(type(model).__qualname__)
        self._look_at(model)

    def is_unchanged(self) -> bool:
        """Whether the configuration would come out the same, what `compile` was given apart."""
        return (
            all(map(_is_as_before, self._objects))
            and all(_same(_items(container), items) for container, items in self._containers)
            and all(keras.saving.get_registered_name(f) == name for f, name in self._functions)
        )

    def _look_at(self, value: Any) -> None:
        if isinstance(value, _SETTLED) or id(value) in self._seen:
            return
        if isinstance(value, types.FunctionType):
            if _is_saved_with_values(value):
                raise CannotWatchError(f"{value}")
            if (value.__module__ or "").split(".")[0] != "keras":
                self._functions.append((value, keras.saving.get_registered_name(value)))
            return
        self._seen.add(id(value))  # the watch keeps it alive, so that no other gets its id
        if isinstance(value, _CONTAINERS):
            items = _items(value)
            self._containers.append((value, items))
            for item in items:
                self._look_at(item)
        elif not compat.is_of_keras(type(value)):
            raise CannotWatchError(type(value).__qualname__)
        elif hasattr(value, "get_config") or compat.holds_configuration(value):
            self._look_into(value)

    def _look_into(self, owner: Any) -> None:
        attributes = vars(owner)
        if "get_config" in attributes or "get_build_config" in attributes:
            raise CannotWatchError(f"get_config of {owner}")
        is_inside = owner is not self._model
        if is_inside and getattr(owner, "compiled", False):
            raise CannotWatchError(f"{owner} inside a model")
        self._watch(attributes, frozenset() if is_inside else compat.COMPILED)
        self._watch(compat.modules_in(attributes), frozenset())

    def _watch(self, attributes: dict[str, Any], closed: frozenset[str]) -> None:
        names = [name for name in attributes if name not in compat.OUTSIDE_CONFIGURATION]
        take = _taker(names)
        values = take(attributes)
        self._objects.append(_Object(attributes, len(attributes), take, values))
        for name, value in zip(names, values, strict=True):
            if name not in closed:
                self._look_at(value)


def _is_saved_with_values(function: types.FunctionType) -> bool:
    """Whether its code goes into the configuration, and with it what it has closed over.

    Of a function with a name the name goes there.
    """
    held = function.__closure__ is not None or function.__defaults__ is not None
    return held and function.__name__ == "<lambda>"


def _is_as_before(owner: _Object) -> bool:
    try:
        return len(owner.attributes) == owner.size and _same(
            owner.take(owner.attributes), owner.values
        )
    except KeyError:  # one was deleted
        return False


def _same(now: tuple[Any, ...], before: tuple[Any, ...]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


def _items(container: Any) -> tuple[Any, ...]:
    if isinstance(container, Mapping):
        return (*container, *container.values())
    return tuple(container)  # a set has an order too, which stays while it does


def _taker(names: list[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """What takes the values of those names out of a dictionary, without a loop in Python."""
    if len(names) > 1:
        return operator.itemgetter(*names)
    return lambda attributes: tuple(attributes[name] for name in names)
