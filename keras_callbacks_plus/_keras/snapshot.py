"""Lists of variables to host memory and back, by position, if all of them fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.host_copies import HostCopies, TensorFlowReader
from keras_callbacks_plus._keras.host_view import host_view, start_transfers
from keras_callbacks_plus.errors import RunMismatchError

__all__ = ["assign_variables", "copy_variables", "fits", "unalias"]

Array = np.ndarray[Any, Any]


def copy_variables(
    variables: Sequence[Any],
    out: Sequence[Array] | None = None,
    reader: TensorFlowReader | None = None,
) -> list[Array]:
    """Copies variables to host memory.

    Args:
        variables: Keras variables; on JAX, of a model whose state is attached.
        out: What an earlier call returned and nobody reads any more. Arrays that still fit are
            filled again, which is several times faster than fresh memory.
        reader: Reads what it takes all in one call. Defaults to `None`.

    Returns:
        One array for each variable, in their order.
    """
    start_transfers(variables)
    copies = []
    warm = list(out) if out is not None and len(out) == len(variables) else [None] * len(variables)
    with HostCopies(reader) as copying:
        for variable, array in zip(variables, warm, strict=True):
            if array is None or not fits(variable, array.shape, array.dtype):
                copies.append(np.array(host_view(variable)))
            else:
                copying.put(array, variable)
                copies.append(array)
    return copies


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
    import jax.numpy as jnp

    optimizer = getattr(model, "optimizer", None)
    holders: dict[int, Any] = {}
    repaired = 0
    for variable in [*model.variables, *(optimizer.variables if optimizer is not None else [])]:
        array = compat.raw_value(variable)
        if array is not None and holders.setdefault(id(array), variable) is not variable:
            variable.assign(jnp.copy(array))
            repaired += 1
    return repaired
