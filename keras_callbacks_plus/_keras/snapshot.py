"""Variables to host memory and back: one copy into warm buffers, or views where they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus.errors import CallbacksPlusError, RunMismatchError

__all__ = [
    "assign_variables",
    "copy_into",
    "copy_variables",
    "finish_transfers",
    "fits",
    "host_buffer",
    "host_view",
    "start_transfers",
    "unalias",
    "views_survive_training",
]

Array = np.ndarray[Any, Any]


def host_view(variable: Any) -> Array:
    """The value of a variable as a read-only array, without copying it where that is possible.

    Read it before the variable changes, unless `views_survive_training()`.

    Args:
        variable: A Keras variable; on JAX, of a model whose state is attached.

    Returns:
        Array of the variable's shape and type; bfloat16 and its kind as `ml_dtypes` types.
    """
    name = compat.backend()
    if name == "tensorflow":
        view = _tensorflow_view(variable.value)
    elif name == "jax":
        view = np.asarray(_jax_array(variable))
    elif name == "torch":
        view = _torch_view(variable.value.detach().cpu())
    else:
        view = np.asarray(keras.ops.convert_to_numpy(variable))
    view = view.view()
    view.flags.writeable = False
    return view


def _tensorflow_view(value: Any) -> Array:
    tensor = value.read_value() if hasattr(value, "read_value") else value
    # DLPack carries no type beyond NumPy's own ("Unsupported dtype in DLTensor" for bfloat16), and
    # `numpy()` copies, which `_numpy()` does not: but that one may be written to, over the variable
    native = np.dtype(tensor.dtype.as_numpy_dtype).isbuiltin == 1
    if native and hasattr(tensor, "__dlpack__") and "CPU:" in tensor.device:
        return np.from_dlpack(tensor)
    return np.asarray(tensor.numpy())


def _jax_array(variable: Any) -> Any:
    array = compat.raw_value(variable)
    if array is None:
        raise CallbacksPlusError(
            f"The value of {variable.path} is inside the running training step. Call "
            "`model.jax_state_sync()` first, as `Callback.model` does."
        )
    return array


def _torch_view(tensor: Any) -> Array:
    import torch

    if tensor.dtype == torch.bfloat16:  # which NumPy lacks: the same 16 bits under another name
        import ml_dtypes

        bits: Array = tensor.view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    try:
        return np.asarray(tensor.numpy())
    except TypeError:  # float8 and its kind
        return np.asarray(keras.ops.convert_to_numpy(tensor))


def views_survive_training() -> bool:
    """Whether what `host_view` returns stays as it is while training goes on (copy-on-write).

    TensorFlow counts the holders of a buffer, and an update that finds another one writes to a new
    buffer. JAX refuses to donate a buffer that NumPy still holds, and copies it. On both the next
    training step pays for the copy. PyTorch updates in place.
    """
    return compat.backend() in ("tensorflow", "jax")


def host_buffer(size: int) -> Array:
    """Zeroed bytes whose pages are all there already, in memory that transfers from a GPU like.

    Args:
        size: Bytes.
    """
    if compat.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            return np.asarray(torch.zeros(size, dtype=torch.uint8, pin_memory=True).numpy())
    buffer = np.empty(size, np.uint8)
    buffer.fill(0)  # takes the page faults now: they cost several times the copy itself
    return buffer


def start_transfers(variables: Iterable[Any]) -> None:
    """On JAX with an accelerator, starts all copies to the host, so that they overlap.

    Args:
        variables: The variables that are about to be read.
    """
    if compat.backend() != "jax":
        return
    for variable in variables:
        array = _jax_array(variable)
        if any(device.platform != "cpu" for device in array.devices()):
            array.copy_to_host_async()


def copy_into(target: Array, variable: Any) -> None:
    """Copies the value of a variable; on a GPU with PyTorch, ends at `finish_transfers`.

    Args:
        target: Array of the very shape and type.
        variable: The variable.
    """
    if compat.backend() == "torch" and variable.value.device.type == "cuda":
        import torch

        tensor = variable.value.detach()
        if tensor.dtype == torch.bfloat16:
            tensor, target = tensor.view(torch.int16), target.view(np.int16)
        torch.from_numpy(target).copy_(tensor, non_blocking=True)
        return
    np.copyto(target, host_view(variable), casting="no")


def finish_transfers() -> None:
    """Waits for what `copy_into` has started."""
    if compat.backend() == "torch":
        import torch

        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()


def copy_variables(variables: Sequence[Any], out: Sequence[Array] | None = None) -> list[Array]:
    """Copies variables to host memory.

    Args:
        variables: Keras variables; on JAX, of a model whose state is attached.
        out: What an earlier call returned and nobody reads any more. Arrays that still fit are
            filled again, which is several times faster than fresh memory.

    Returns:
        One array for each variable, in their order.
    """
    start_transfers(variables)
    copies = []
    warm = list(out) if out is not None and len(out) == len(variables) else [None] * len(variables)
    for variable, array in zip(variables, warm, strict=True):
        if array is None or not fits(variable, array.shape, array.dtype):
            copies.append(np.array(host_view(variable)))
        else:
            copy_into(array, variable)
            copies.append(array)
    finish_transfers()
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
    return shape == _shape(variable) and dtype.name == str(variable.dtype)


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
