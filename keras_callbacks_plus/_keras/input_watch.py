"""What of a `PyDataset` or a PyTorch `DataLoader` changes from epoch to epoch."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_callbacks_plus._keras.plain_state import AttributeWatch

__all__ = ["InputWatch"]

_LARGE = 32 << 20
_MOST_LINES = 4
# What holds the data itself, of packages that are known for that.
_CONTAINERS = frozenset({"h5py", "pandas", "polars", "pyarrow", "tables", "zarr", "PIL"})
_PARTS_OF_LOADER = (
    *("generator", "sampler", "batch_sampler", "dataset", "datasets", "data_source"),
    *("collate_fn", "worker_init_fn"),
)


class InputWatch:
    """The state of data that is written in Python.

    Of the user's own classes (a dataset, a sampler), every attribute is watched, except those that
    are taken for the data itself: tensors, arrays of more than 32 MiB, tables and files of packages
    for such. Of PyTorch's and grain's, it is the generators, and so it is of functions, and of
    their modules.

    Args:
        source: The `PyDataset` or `DataLoader`, or `None`.
    """

    def __init__(self, source: Any) -> None:
        self._watches: dict[str, AttributeWatch] = {}
        if source is None:
            return
        for path, part in _parts(source, "", set()):
            if _is_generator(part):
                self._watches[path] = AttributeWatch(_Held(part))
            else:
                data = {name for name, value in vars(part).items() if _is_data(value)}
                self._watches[path] = AttributeWatch(part, frozenset(data))

    @property
    def unknown(self) -> list[str]:
        """A line for each attribute that may change in a way which nobody can see."""
        lines = [line for watch in self._watches.values() for line in watch.unknown]
        more = len(lines) - _MOST_LINES
        return lines if more <= 0 else [*lines[:_MOST_LINES], f"{more} more attributes like these"]

    def capture(self) -> tuple[dict[str, Any], list[str]]:
        """The state, and a line for each attribute that could not be kept."""
        parts, lost = {}, []
        for name, watch in self._watches.items():
            parts[name], names = watch.changed()
            lost.extend(names)
        return parts, lost

    def restore(self, parts: dict[str, Any]) -> None:
        """Puts back what `capture` returned."""
        for name, watch in self._watches.items():
            watch.put_back(parts.get(name, {}))


class _Held:
    """Makes an attribute of something that is held elsewhere."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _parts(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """What is watched by itself: the user's own objects, and generators that PyTorch's hold."""
    if value is None or id(value) in seen:
        return
    seen.add(id(value))
    if _is_generator(value):
        yield path, value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _parts(item, f"{path}[{index}]", seen)
    elif isinstance(value, types.FunctionType | types.MethodType):
        for name, generator in _generators_of_function(value):
            yield from _parts(generator, f"{path}.{name}", seen)
    elif _is_of_torch(value):
        for name in _PARTS_OF_LOADER:
            yield from _parts(getattr(value, name, None), f"{path}.{name}".strip("."), seen)
    elif type(value).__module__.partition(".")[0] == "grain":
        for name, part in vars(value).items() if hasattr(value, "__dict__") else ():
            yield from _parts(part, f"{path}.{name}".strip("."), seen)
    elif hasattr(value, "__dict__") and not isinstance(value, type | types.ModuleType):
        yield path, value
        for kind in type(value).__mro__:
            for function in vars(kind).values():
                if isinstance(function, types.FunctionType) and kind.__module__ not in _QUIET:
                    yield from _parts(function, path, seen)
        if isinstance(value, _torch_kinds()):  # a subclass has PyTorch's parts, and its own
            for name in _PARTS_OF_LOADER:
                part = vars(value).get(name)
                if _is_generator(part) or _is_of_torch(part):
                    yield from _parts(part, f"{path}.{name}".strip("."), seen)


_QUIET = frozenset({"builtins", "keras.src.trainers.data_adapters.py_dataset_adapter"})


def _torch_kinds() -> tuple[type, ...]:
    torch = sys.modules.get("torch")
    return () if torch is None else (torch.utils.data.DataLoader, torch.utils.data.Sampler)


def _generators_of_function(function: Any) -> Iterator[tuple[str, Any]]:
    """Random generators that a function takes from around it, or from its module."""
    function = getattr(function, "__func__", function)
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if _is_generator(value):
            yield name, value
    for name in code.co_names:
        if _is_generator(function.__globals__.get(name)):
            yield name, function.__globals__[name]


def _is_of_torch(value: Any) -> bool:
    return type(value).__module__.startswith("torch.utils.data")


def _is_generator(value: Any) -> bool:
    """Whether it is a random generator of Python's, NumPy's or PyTorch's."""
    kinds = np.random.Generator, np.random.RandomState, random.Random
    name = f"{type(value).__module__}.{type(value).__name__}"
    return isinstance(value, kinds) or name == "torch._C.Generator"


def _is_data(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:  # of images, of tensors
        return all(map(_is_data, value[:_MOST_LINES]))
    return (
        (isinstance(value, np.ndarray) and value.nbytes > _LARGE)
        or type(value).__module__.partition(".")[0] in _CONTAINERS
        or f"{type(value).__module__}.{type(value).__name__}" == "torch.Tensor"
        or bool(keras.ops.is_tensor(value))
    )
