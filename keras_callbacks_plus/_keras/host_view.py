"""The value of a variable in host memory, without a copy of it where that is possible."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus.errors import CallbacksPlusError

__all__ = [
    "array_of",
    "held_value",
    "host_view",
    "same_bytes",
    "shares_memory",
    "start_transfers",
    "torch_tensor",
    "views_survive_training",
]

Array = np.ndarray[Any, Any]

_COMPARED = 1 << 18  # bytes at once: what comparing takes beside the arrays


def host_view(variable: Any) -> Array:
    """The value of a variable as a read-only array, without copying it where that is possible.

    Read it before the variable changes, unless `views_survive_training()`.

    Args:
        variable: A Keras variable; on JAX, of a model whose state is attached.

    Returns:
        Array of the variable's shape and type; bfloat16 and its kind as `ml_dtypes` types.
    """
    view = array_of(held_value(variable)).view()
    view.flags.writeable = False
    return view


def held_value(variable: Any) -> Any:
    """What holds the value of a variable now: its first half, for the thread that trains.

    Args:
        variable: A Keras variable; on JAX, of a model whose state is attached.

    Returns:
        A tensor of the backend, for `array_of`.
    """
    name = compat.backend()
    if name == "tensorflow":
        return _tensorflow_tensor(variable.value)
    if name == "jax":
        return _jax_array(variable)
    if name == "torch":
        return torch_tensor(variable)
    return variable.value


def array_of(held: Any) -> Array:
    """What `held_value` returned as an array: the second half, in whatever thread.

    Args:
        held: What `held_value` returned. It must not change meanwhile, and holds the memory.
    """
    name = compat.backend()
    if name == "tensorflow":
        return _tensorflow_array(held)
    if name == "jax":
        return np.asarray(held)
    if name == "torch":
        return _torch_array(held.cpu())
    return np.asarray(keras.ops.convert_to_numpy(held))


def shares_memory(held: Any) -> bool:
    """Whether `array_of` gives the very memory of what `held_value` returned, and no copy of it.

    Args:
        held: What `held_value` returned.
    """
    name = compat.backend()
    if name == "tensorflow":
        return _speaks_dlpack(held)
    if name == "jax":
        return [device.platform for device in held.devices()] == ["cpu"]
    if name == "torch":
        is_float8 = held.dtype.is_floating_point and held.dtype.itemsize == 1
        return held.device.type == "cpu" and not is_float8
    return False


def same_bytes(one: Array, other: Array) -> bool:
    """Whether two arrays hold the same bytes, so that NaN is the same as itself; without a copy.

    Args:
        one: Array, in memory that is contiguous, or it is copied.
        other: Array, likewise.
    """
    a, b = (np.ascontiguousarray(x).reshape(-1).view(np.uint8) for x in (one, other))
    parts = (slice(start, start + _COMPARED) for start in range(0, a.size, _COMPARED))
    return a.size == b.size and all(np.array_equal(a[part], b[part]) for part in parts)


def _tensorflow_tensor(value: Any) -> Any:
    import tensorflow as tf

    if isinstance(value, tf.distribute.DistributedValues) or not hasattr(value, "handle"):
        return value.read_value() if hasattr(value, "read_value") else value
    # what `read_value` does in the end, in a third of the time
    return tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)


def _tensorflow_array(tensor: Any) -> Array:
    # `numpy()` copies, which `_numpy()` does not: but that one may be written to, over the variable
    return np.from_dlpack(tensor) if _speaks_dlpack(tensor) else np.asarray(tensor.numpy())


def _speaks_dlpack(tensor: Any) -> bool:
    # it carries no type beyond NumPy's own ("Unsupported dtype in DLTensor" for bfloat16)
    native = np.dtype(tensor.dtype.as_numpy_dtype).isbuiltin == 1
    return native and hasattr(tensor, "__dlpack__") and "CPU:" in tensor.device


def _jax_array(variable: Any) -> Any:
    array = compat.raw_value(variable)
    if array is None:
        raise CallbacksPlusError(
            f"The value of {variable.path} is inside the running training step. Call "
            "`model.jax_state_sync()` first, as `Callback.model` does."
        )
    return array


def torch_tensor(variable: Any) -> Any:
    """What a variable holds with PyTorch, out of the graph of the gradients."""
    held = compat.raw_value(variable)  # in a fifth of the time of `value`
    return (variable.value if held is None else held).detach()


def _torch_array(tensor: Any) -> Array:
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


def start_transfers(variables: Iterable[Any]) -> None:
    """On JAX with an accelerator, starts all copies to the host, so that they overlap.

    Args:
        variables: The variables that are about to be read.
    """
    if compat.backend() != "jax" or compat.device_kind() == "cpu":
        return
    for variable in variables:
        array = _jax_array(variable)
        if any(device.platform != "cpu" for device in array.devices()):
            array.copy_to_host_async()
