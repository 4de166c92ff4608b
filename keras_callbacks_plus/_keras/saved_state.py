"""Who writes what into a model's file: asked of Keras once, and of each part at every save."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
from keras.ops import convert_to_numpy as to_numpy

from keras_callbacks_plus._keras import compat, host_view, snapshot
from keras_callbacks_plus._keras.h5_image import Dataset, Group
from keras_callbacks_plus._keras.held_parts import held_parts, parts_in
from keras_callbacks_plus.errors import CallbacksPlusError, UnsupportedKerasError

__all__ = ["CannotPlanError", "SavedState", "StructureChangedError", "Target"]


class CannotPlanError(CallbacksPlusError):
    """The model saves something that only Keras itself can put into a file."""


class StructureChangedError(CallbacksPlusError):
    """The model saves other datasets than it did when the plan was made."""


class Target(Protocol):
    """Takes the values of a save, each for the dataset with that number, once."""

    def put_variable(self, index: int, variable: Any) -> None:
        """Takes the value that a Keras variable has when `start` is called, and until the end."""

    def put_variable_now(self, index: int, variable: Any) -> None:
        """Takes the value that a Keras variable has now: it may have another one soon."""

    def put_array(self, index: int, array: np.ndarray[Any, Any]) -> None:
        """Takes an array that its owner may change at any time."""

    def start(self) -> None:
        """Lets the target begin with what it has; more may come."""


@dataclass
class _Part:
    """One part of the model (a layer, an optimizer) and the datasets it writes, by name."""

    owner: Any
    path: str
    attributes: Mapping[str, Any]
    datasets: dict[str, tuple[int, Dataset]] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)  # those of the datasets that have one
    copied: list[Any] | None = None  # what it saves copies of: then those are read, not the copies
    foreseen: bool = False  # whether asking it changes nothing, so that copying need not wait


class SavedState:
    """The parts of a model that write to its file, as the structure of the model is now.

    Keras's own walk finds them, which takes a time that grows with the number of attributes. At
    each save only the parts are asked again: what they write may depend on anything, so nothing
    of it is taken for granted. But Keras's own code will hardly write otherwise than it did when
    the plan was made, and it changes nothing: its variables are handed out before it is asked, so
    that copying goes on meanwhile. A layer with code of the user's is asked before that.

    Args:
        model: The model; on JAX with its state attached.
        with_assets: Whether the file holds assets (vocabularies, for example).

    Raises:
        CannotPlanError: If a part writes what has no fixed size, or in a way we do not follow.
        UnsupportedKerasError: If this Keras saves in another way than those we know.

    Attributes:
        groups: What the file holds.
    """

    def __init__(self, model: Any, *, with_assets: bool) -> None:
        self._model = model
        self._variables: dict[int, Any] = {}  # by id, and so kept alive: an id is not used again
        self._structure = _structure(model)
        self._count = 0
        self._parts: list[_Part] = []
        _walk(model, self._plan)
        self._asset_owners = [
            (part.owner, part.path)
            for part in self._parts
            if with_assets and hasattr(part.owner, "save_assets")
        ]
        for part in self._parts:
            if part.copied is not None and len(part.copied) != len(part.datasets):
                raise CannotPlanError(f"{part.path} does not save its variables one by one")
        self.groups = [
            Group(
                f"{part.path}/vars" if part.path else "vars",
                part.attributes,
                [dataset for _, dataset in part.datasets.values()],
            )
            for part in self._parts
            if part.datasets or part.attributes
        ]

    def is_current(self) -> bool:
        """Whether the model still has the variables and the optimizer that it had."""
        now = _structure(self._model)
        return len(now) == len(self._structure) and all(
            a is b for a, b in zip(now, self._structure, strict=True)
        )

    def capture(self, target: Target) -> None:
        """Hands every value that the file holds to the target, as it is now.

        Args:
            target: Takes them.

        Raises:
            StructureChangedError: If other datasets would be written than planned.
        """
        host_view.start_transfers(self._variables.values())
        asked = [part for part in self._parts if part.copied is None]
        for part in asked:
            if not part.foreseen:  # it may change the variables of others, too
                self._ask(part, target)
        for part in self._parts:
            if part.copied is not None:
                for variable, (index, _) in zip(part.copied, part.datasets.values(), strict=True):
                    target.put_variable(index, variable)
            elif part.foreseen:
                for name, variable in part.variables.items():
                    target.put_variable(part.datasets[name][0], variable)
        target.start()
        for part in asked:
            if part.foreseen:
                self._ask(part, target)
        target.start()

    def _ask(self, part: _Part, target: Target) -> None:
        store = _Filling(part, target)
        part.owner.save_own_variables(store)
        store.check_complete()

    def assets(self) -> dict[str, bytes]:
        """The files that the model keeps beside its values, by their path."""
        if not self._asset_owners:
            return {}
        files = {}
        store = compat.saving_names().asset_store("assets", mode="w")
        with contextlib.closing(store):  # which removes its temporary folder
            for owner, path in self._asset_owners:
                owner.save_assets(store.make(path))
            for folder, _, names in os.walk(store.working_dir):
                for name in names:
                    path = os.path.join(folder, name)
                    relative = os.path.relpath(path, store.working_dir).replace(os.sep, "/")
                    with open(path, "rb") as file:
                        files[relative] = file.read()
        return dict(sorted(files.items()))

    def _plan(self, owner: Any, path: str, attributes: Mapping[str, Any]) -> _Planning:
        copied = list(owner.variables) if _saves_copies_of_its_variables(owner) else None
        part = _Part(owner, path, attributes, copied=copied, foreseen=_is_foreseen(owner))
        self._parts.append(part)
        self._variables.update({id(variable): variable for variable in copied or []})
        return _Planning(part, self._add)

    def _add(self, variable: Any | None) -> int:
        if variable is not None:
            self._variables[id(variable)] = variable
        self._count += 1
        return self._count - 1


class _Store(MutableMapping[str, Any]):
    """What a part writes to, in place of Keras's file: it can only be written."""

    def __init__(self, part: _Part) -> None:
        self._part = part
        self._written: list[str] = []

    def _note(self, name: str) -> None:
        if name in self._written:
            raise CannotPlanError(f"{self._part.path}/{name} is written twice")
        self._written.append(name)

    def __contains__(self, name: object) -> bool:
        return name in self._written

    def __iter__(self) -> Iterator[str]:
        return iter(self._written)

    def __len__(self) -> int:
        return len(self._written)

    def __getitem__(self, name: str) -> Any:
        raise CannotPlanError(f"{self._part.path}/{name} is read back while it is saved")

    def __delitem__(self, name: str) -> None:
        raise CannotPlanError(f"{self._part.path}/{name} is deleted while it is saved")


class _Planning(_Store):
    """Notes the shape and type of what a part writes, and keeps none of it."""

    def __init__(self, part: _Part, add: Callable[[Any | None], int]) -> None:
        super().__init__(part)
        self._add = add

    def __setitem__(self, name: str, value: Any) -> None:
        part = self._part
        self._note(name)
        is_variable = isinstance(value, keras.Variable)
        array = host_view.host_view(value) if is_variable else np.asarray(to_numpy(value))
        if array.dtype.kind in "OU":
            raise CannotPlanError(f"{part.path}/{name} holds text or objects of any size")
        if part.copied is not None:
            self._check_copy(name, array)
        dataset = Dataset(name, array.shape, array.dtype)
        part.datasets[name] = (self._add(value if is_variable else None), dataset)
        if is_variable:
            part.variables[name] = value

    def _check_copy(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Whether the optimizer writes the variable that we are going to read instead."""
        position = len(self._part.datasets)
        variables = self._part.copied or []
        if name == str(position) and position < len(variables):
            variable = host_view.host_view(variables[position])
            same = variable.shape == array.shape and variable.dtype == array.dtype
            if same and host_view.same_bytes(variable, array):
                return
        raise CannotPlanError(f"{self._part.path}/{name} is not the variable in that place")


class _Filling(_Store):
    """Hands what a part writes to a target, if it is what was planned."""

    def __init__(self, part: _Part, target: Target) -> None:
        super().__init__(part)
        self._target = target

    def __setitem__(self, name: str, value: Any) -> None:
        self._note(name)
        planned = self._part.datasets.get(name)
        if planned is None:
            raise StructureChangedError(f"{self._part.path}/{name} is new")
        index, dataset = planned
        known = self._part.variables.get(name)  # neither its shape nor its type can have changed
        if known is not None and self._part.foreseen:  # handed out already
            if value is not known:
                raise StructureChangedError(f"{self._part.path}/{name} is something else")
        elif isinstance(value, keras.Variable):
            if value is not known and not snapshot.fits(value, dataset.shape, dataset.dtype):
                raise StructureChangedError(f"{self._part.path}/{name} has another shape or type")
            self._target.put_variable_now(index, value)
        else:
            array = np.asarray(to_numpy(value))
            if (array.shape, array.dtype) != (dataset.shape, dataset.dtype):
                raise StructureChangedError(f"{self._part.path}/{name} has another shape or type")
            self._target.put_array(index, array)

    def check_complete(self) -> None:
        """Raises `StructureChangedError` if something that was planned has not come."""
        if len(self) != len(self._part.datasets):
            raise StructureChangedError(f"{self._part.path} saves fewer values")


def _structure(model: Any) -> list[Any]:
    """What a plan is made for: the model's variables, and what else holds some, with those.

    That is the optimizer, that of a compiled model inside the model, and whatever a class of the
    user's own has in its attributes: a second optimizer, a metric. Any of them may be built late,
    or replaced.
    """
    found: list[Any] = list(model.variables)
    inside = [vars(layer).get("optimizer") for layer in compat.flat_layers(model)]
    compiled = map(parts_in, (getattr(model, "optimizer", None), *inside))
    for _, part in itertools.chain(*compiled, held_parts(model)):
        found += [part, *part.variables]
    return found


def _is_foreseen(owner: Any) -> bool:
    """Whether asking a part what it saves runs none but Keras's code, which changes no variable."""
    method = owner.save_own_variables
    if getattr(method, "__func__", None) is keras.layers.Layer.save_own_variables:
        return True
    if isinstance(owner, keras.layers.TorchModuleWrapper):  # which asks a module of the user's
        return False
    return compat.is_of_keras(type(owner)) and "save_own_variables" not in vars(owner)


def _saves_copies_of_its_variables(owner: Any) -> bool:
    """Whether it is an optimizer that saves `variable.numpy()` of each of its `variables`.

    https://github.com/keras-team/keras/blob/v3.15.1/keras/src/optimizers/base_optimizer.py
    """
    method = getattr(owner.save_own_variables, "__func__", None)
    return method is keras.optimizers.Optimizer.save_own_variables


def _walk(model: Any, visit: Callable[[Any, str, Mapping[str, Any]], _Store]) -> None:
    """Asks the parts for their values in the order and under the paths of Keras, each once."""
    names = compat.saving_names()
    owners: list[Any] = []

    class Store(names.weights_store):  # type: ignore[name-defined]  # Keras has no types, and its walk wants a subclass
        def __init__(self) -> None:
            pass  # opens no file

        def __bool__(self) -> bool:
            return True

        def make(self, path: str, metadata: Any = None) -> _Store:
            # Keras does not say whose turn it is; the walk's frame does
            owner = sys._getframe(1).f_locals.get("saveable")
            if owner is None:
                raise UnsupportedKerasError("This Keras walks over a model in another way.")
            owners.append(owner)
            return visit(owner, path, dict(metadata or {}))

    visited: set[int] = set()
    names.save_state(model, Store(), None, "", visited)
    if any(id(owner) not in visited for owner in owners):
        raise UnsupportedKerasError("This Keras walks over a model in another way.")
