"""Lists of variables to host memory and back, by position, if all of them fit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.host_copies import VariableReader, copying_to_host
from keras_callbacks_plus._keras.host_view import host_view, start_transfers
from keras_callbacks_plus.errors import RunMismatchError

__all__ = ["VariableCopies", "assign_variables", "fits", "unalias"]

Array = np.ndarray[Any, Any]

_NOTHING = (None, np.empty(0, np.void))  # fits no variable


class VariableCopies:
    """Variables in host memory, the same memory at every call: much faster than fresh memory."""

    def __init__(self) -> None:
        self._reader = VariableReader()
        self._warm: list[tuple[Any, Array]] = []

    def take(self, variables: Sequence[Any]) -> list[Array]:
        """Copies variables as they are now.

        Args:
            variables: Keras variables; on JAX, of a model whose state is attached.

        Returns:
            One array for each variable, in their order. The next call fills those again that still
            fit, so that nobody may read them any more.
        """
        start_transfers(variables)
        copies = []
        size = sum(array.nbytes for _, array in self._warm)
        with copying_to_host(self._reader, size) as copying:
            for variable, (known, array) in itertools.zip_longest(
                variables, self._warm[: len(variables)], fillvalue=_NOTHING
            ):
                if known is variable or fits(variable, array.shape, array.dtype):
                    copying.put(array, variable)
                else:
                    array = np.array(host_view(variable))
                copies.append((variable, array))
        self._warm = copies
        return [array for _, array in copies]


def assign_variables(variables: Sequence[Any], arrays: Sequence[Any]) -> None:
    """Puts arrays into variables, by position; none is changed unless all fit.

    Args:
        variables: Keras variables.
        arrays: One array for each, of the same shape and type.

    Raises:
        RunMismatchError: If they do not fit; it names each variable that differs.
    """
    if len(variables) != len(arrays):
        what = f"{len(arrays)} arrays were saved and there are {len(variables)} variables"
        raise RunMismatchError(f"{_MISMATCH} {what}.", [what])
    differences = [
        f"{variable.path}: saved {np.shape(array)} {np.asarray(array).dtype.name}, "
        f"now {_shape(variable)} {variable.dtype}"
        for variable, array in zip(variables, arrays, strict=True)
        if not fits(variable, np.shape(array), np.asarray(array).dtype)
    ]
    if differences:
        raise RunMismatchError(f"{_MISMATCH} First: {differences[0]}.", differences)
    for variable, array in zip(variables, arrays, strict=True):
        # a copy, because JAX on CPU may take the memory itself, which the caller fills again
        variable.assign(np.array(array))


_MISMATCH = "The saved values are not those of this model: build the model as it was saved."


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in variable.shape)


def fits(variable: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Whether a variable has a shape and a type.

    Args:
        variable: The Keras variable.
        shape: The shape.
        dtype: The NumPy type.
    """
    return shape == tuple(variable.shape) and dtype.name == str(variable.dtype)


def unalias(model: Any) -> int:
    """On JAX, gives each variable an array of its own.

    `fit` with `use_ema=True` ends with `weight.assign(average)`, after which both variables hold
    one array. The next step that donates one of them deletes the other: `predict` and then `save`,
    or a second `fit`, fail ("Array has been deleted", "donate the same buffer twice").

    Args:
        model: The model; inside `fit`, with its state attached.

    Returns:
        How many variables were given a copy.
    """
    if compat.backend() != "jax":
        return 0
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer is not None else [])]
    arrays = [compat.raw_value(variable) for variable in variables]
    held = [id(array) for array in arrays if array is not None]
    if len(set(held)) == len(held):  # as nearly always, and a save waits for the answer
        return 0
    import jax.numpy as jnp

    holders: dict[int, Any] = {}
    repaired = 0
    for variable, array in zip(variables, arrays, strict=True):
        if array is not None and holders.setdefault(id(array), variable) is not variable:
            variable.assign(jnp.copy(array))
            repaired += 1
    return repaired
