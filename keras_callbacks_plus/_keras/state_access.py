"""What kinds of objects hold state, and how it is read and set; what kinds clearly hold none."""

from __future__ import annotations

import concurrent.futures
import csv
import datetime
import decimal
import enum
import fractions
import functools
import io
import logging
import math
import os
import pathlib
import random
import re
import sys
import sysconfig
import threading
import types
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_callbacks_plus._keras import compat, snapshot
from keras_callbacks_plus._keras.plain_data import is_plain

__all__ = [
    "Access",
    "are_equal",
    "doubt",
    "has_protocol",
    "is_no_state",
    "is_ordinary",
    "may_be_new",
    "names",
    "of",
    "plumbing",
    "value_of",
]

Elsewhere = Callable[[], frozenset[int]]
_LARGE = 32 << 20
_INSTALLED = tuple({os.path.join(p, "") for k, p in sysconfig.get_paths().items() if "lib" in k})
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a `class` statement
_IMMUTABLE = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.tzinfo,
    decimal.Decimal,
    enum.Enum,
    fractions.Fraction,
    pathlib.PurePath,
    range,
    slice,
    np.dtype,
    re.Pattern,
    uuid.UUID,
)
_NO_STATE = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
    random.SystemRandom,
    np.ufunc,
    logging.Logger,
    logging.Handler,
    io.IOBase,
    type(csv.writer(io.StringIO())),
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Event,
    threading.Semaphore,
    threading.Thread,
    concurrent.futures.Executor,
)


@dataclass(frozen=True)
class Access:
    """How the state of an object is read and set, as plain data.

    Args:
        read: Returns it.
        write: Sets it.
        again: Returns the same for another object of the kind, or `None` where it is of another.
    """

    read: Callable[[], Any]
    write: Callable[[Any], None]
    again: Callable[[Any], Access | None]


def of(value: Any, elsewhere: Elsewhere) -> Access | None:
    """How the state of an object is read and set; `None` where it is not known.

    Args:
        value: The object.
        elsewhere: Returns the ids of variables that are kept elsewhere.
    """
    found = _generator(value) or _variables(value, elsewhere)
    if found is None and _is_made_by_class(type(value)) and has_protocol(value):
        found = value.get_state, value.set_state
    if found is None:
        return None
    kind = type(value)

    def again(other: Any) -> Access | None:
        return of(other, elsewhere) if type(other) is kind else None

    return Access(*found, again)


def doubt(value: Any, access: Access, elsewhere: Elsewhere) -> str:
    """Why the state of an object cannot be kept; empty where it can, or there is none."""
    if isinstance(value, keras.Metric) and not value.variables:
        return "its variables are not there yet"
    if isinstance(value, keras.Variable | keras.layers.Layer | keras.optimizers.Optimizer):
        numbers = sum(math.prod(v.shape) for v in _of_keras(value, elsewhere))
        if numbers * 4 > _LARGE:
            return f"{numbers:,} numbers"
    return "" if is_plain(access.read()) else "its get_state() returns what is no plain data"


def has_protocol(value: Any) -> bool:
    """Whether an object has `get_state` and `set_state`."""
    return callable(getattr(value, "get_state", None)) and callable(
        getattr(value, "set_state", None)
    )


def _generator(value: Any) -> tuple[Callable[[], Any], Callable[[Any], None]] | None:
    """A random generator."""
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator

        def set_bits(state: Any) -> None:
            bits.state = state

        return lambda: bits.state, set_bits
    if isinstance(value, np.random.RandomState):
        return lambda: value.get_state(legacy=False), value.set_state
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
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


def _variables(
    value: Any, elsewhere: Elsewhere
) -> tuple[Callable[[], Any], Callable[[Any], None]] | None:
    """Something of Keras's that is made of variables."""
    kinds = keras.Variable, keras.Metric, keras.layers.Layer, keras.optimizers.Optimizer
    if not isinstance(value, (*kinds, keras.random.SeedGenerator)):
        return None

    def write(arrays: Any) -> None:
        snapshot.assign_variables(_of_keras(value, elsewhere), arrays)

    return (
        lambda: [np.array(compat.to_numpy(v.value)) for v in _of_keras(value, elsewhere)],
        write,
    )


def _of_keras(value: Any, elsewhere: Elsewhere) -> list[Any]:
    if isinstance(value, keras.Variable):
        variables = [value]
    elif isinstance(value, keras.random.SeedGenerator):
        variables = [value.state]
    else:
        variables = list(value.variables)
    kept = elsewhere()
    return [variable for variable in variables if id(variable) not in kept]


def is_no_state(value: Any) -> bool:
    """Whether an object is one that has no state, or none that could be put back."""
    if isinstance(value, (*_IMMUTABLE, *_NO_STATE)):
        return True
    if isinstance(value, np.ndarray):  # a subclass, or of objects
        return not value.flags.writeable
    if keras.ops.is_tensor(value):
        return compat.backend() != "torch"  # elsewhere they do not change
    if isinstance(value, keras.callbacks.Callback):
        return False
    frozen = getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False)
    return bool(frozen) or _package(type(value)) == "keras"


def are_equal(before: Any, now: Any) -> bool:
    """Whether two objects that cannot change are equal."""
    return type(before) is type(now) and isinstance(now, _IMMUTABLE) and bool(before == now)


def is_ordinary(value: Any, near: type) -> bool:
    """Whether all that an object is stands in its attributes, and these are the user's own affair.

    Its class is made by `class`, as are all its bases; nothing says that copying it takes more
    than copying its attributes; and it comes with the program, or with the package of `near`. What
    another library keeps in the attributes of its objects (queues, handles) is not for us to set.

    Args:
        value: The object.
        near: The class of the callback or input that holds it.
    """
    kind = type(value)
    plain_pickle = all(
        getattr(kind, name, None) is getattr(object, name, None)
        for name in ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    )
    own = _package(kind) == _package(near) or not _is_installed(kind)
    return plain_pickle and own and _is_made_by_class(kind)


def _package(kind: type) -> str:
    return kind.__module__.split(".")[0]


def _is_installed(kind: type) -> bool:
    """Whether a class is of Python's own library, or of an installed package."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None:
        return kind.__module__ != "__main__"
    return os.path.abspath(str(file)).startswith(_INSTALLED)


def _is_made_by_class(kind: type) -> bool:
    return all(base.__flags__ & _HEAP_TYPE for base in kind.__mro__ if base is not object)


def names(owner: Any) -> list[str]:
    """The names of the attributes that an object has itself, those in `__slots__` too."""
    found = dict.fromkeys(getattr(owner, "__dict__", ()))
    for kind in type(owner).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            hidden = name.startswith("__") and not name.endswith("__")
            full = f"_{kind.__name__.lstrip('_')}{name}" if hidden else name
            if full not in ("__dict__", "__weakref__") and hasattr(owner, full):
                found[full] = None
    return list(found)


def value_of(owner: Any, name: str) -> Any:
    """The value of one of `names`."""
    own = getattr(owner, "__dict__", {})
    return own[name] if name in own else getattr(owner, name)


def plumbing(owner: Any) -> frozenset[str]:
    """Attributes of an object that belong to the running `fit`, and not to it."""
    of_callback = isinstance(owner, keras.callbacks.Callback)
    return compat.CALLBACK_PLUMBING if of_callback else frozenset()


def may_be_new(owner: Any, name: str) -> bool:
    """Whether a snapshot may give an object an attribute that it did not have when it began.

    Not one that hides something of its class (a method, a property), and nothing of Python's own.
    """
    if not name.isidentifier() or name.startswith("__") or name in plumbing(owner):
        return False
    current = value_of(owner, name) if name in names(owner) else None
    of_class = getattr(type(owner), name, None)
    free = is_plain(of_class) or isinstance(of_class, types.MemberDescriptorType)
    return free and is_plain(current)
