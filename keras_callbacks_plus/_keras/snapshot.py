"""Variables to host memory and back: one copy into warm buffers, or views where they hold."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus.errors import CallbacksPlusError, RunMismatchError

__all__ = [
    "HostCopies",
    "TensorFlowReader",
    "assign_variables",
    "copy_variables",
    "fits",
    "host_buffer",
    "host_view",
    "start_transfers",
    "unalias",
    "views_survive_training",
]

Array = np.ndarray[Any, Any]

_BATCH = 64 << 20  # bytes of views held until they are copied: a view may turn out to be a copy
_PIECE = 2 << 20  # bytes that a thread copies at a time
_THREADS = 4  # enough to fill the memory bus


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
    import tensorflow as tf

    if isinstance(value, tf.distribute.DistributedValues) or not hasattr(value, "handle"):
        tensor = value.read_value() if hasattr(value, "read_value") else value
    else:  # what `read_value` does in the end, in a third of the time
        tensor = tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)
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


class TensorFlowReader:
    """Reads many TensorFlow variables in one call, which takes a third of the time of one by one.

    The values share the variables' memory. Keep one for as long as the variables are the same: what
    can be read in this way is looked up once, and the call is laid out when it is first made.
    """

    def __init__(self) -> None:
        self._shares: bool | None = None
        self._known: dict[int, tuple[Any, bool]] = {}  # with what has the id, so that it stays so
        self._values: list[Any] = []
        self._read: Any = None

    def takes(self, variable: Any) -> bool:
        """Whether a variable can be read this way: with this TensorFlow, plain, on the CPU."""
        if compat.backend() != "tensorflow":
            return False
        value = compat.raw_value(variable)
        held, answer = self._known.get(id(value), (None, False))
        if held is None or held is not value:
            answer = self._takes(variable.value)
            self._known[id(value)] = value, answer
        return answer

    def _takes(self, value: Any) -> bool:
        if self._shares is None:
            import tensorflow as tf

            self._shares = hasattr(tf.constant(0), "__dlpack__")  # 2.16 has none
        return (
            self._shares
            and hasattr(value, "handle")
            and not hasattr(value, "values")  # of a distribution strategy
            and np.dtype(value.dtype.as_numpy_dtype).kind in "iuf"
            and np.dtype(value.dtype.as_numpy_dtype).isbuiltin == 1
            and "CPU:" in value.device
        )

    def views(self, variables: Sequence[Any]) -> list[Array]:
        """The values of variables that `takes` takes, as read-only arrays."""
        import tensorflow as tf

        values = [compat.raw_value(variable) for variable in variables]
        same = len(values) == len(self._values) and all(
            a is b for a, b in zip(values, self._values, strict=True)
        )
        if not same:

            def read() -> list[Any]:
                pairs = [(value.handle, value.dtype) for value in values]
                return [tf.raw_ops.ReadVariableOp(resource=h, dtype=k) for h, k in pairs]

            # the concrete function, as looking it up takes as long as the call
            self._read = tf.function(read, autograph=False).get_concrete_function()
            self._values = values
        return [np.from_dlpack(tensor) for tensor in self._read()]


class HostCopies:
    """Copies variables into arrays, with the threads that this process may use.

    Training stands still meanwhile, so that there are cores to spare. What is left to copy goes to
    the thread that asks first: a core that is busy elsewhere holds nothing up.

    Example:

    >>> import keras
    >>> target = np.zeros(2, "float32")
    >>> with HostCopies() as copies:
    ...     copies.put(target, keras.Variable([1.0, 2.0]))
    >>> target
    array([1., 2.], dtype=float32)

    Args:
        reader: Reads what it takes at the end of the block, all in one call. Defaults to `None`.
    """

    def __init__(self, reader: TensorFlowReader | None = None) -> None:
        self._reader = reader
        self._late: list[tuple[Array, Any]] = []
        self._pairs: list[tuple[Array, Array]] = []
        self._bytes = 0
        self._stack = contextlib.ExitStack()
        self._helpers: ThreadPoolExecutor | None = None

    def put(self, target: Array, variable: Any) -> None:
        """Copies the value of a variable, at the latest at the end of the `with` block.

        Args:
            target: Array of the very shape and type, contiguous.
            variable: The variable, which must not change until the end.
        """
        if compat.backend() == "torch" and variable.value.device.type == "cuda":
            _transfer(target, variable)
            return
        if self._reader is not None and self._reader.takes(variable):
            self._late.append((target, variable))
            return
        self._pairs.append((target, host_view(variable)))
        self._bytes += target.nbytes
        if self._bytes >= _BATCH:
            self._copy()

    def _copy(self) -> None:
        pairs, self._pairs, self._bytes = self._pairs, [], 0
        pieces = iter([piece for pair in pairs for piece in _pieces(*pair)])
        others = min(_THREADS, _usable_cores()) - 1
        if others and sum(target.nbytes for target, _ in pairs) > 4 * _PIECE:
            if self._helpers is None:
                self._helpers = self._stack.enter_context(ThreadPoolExecutor(others))
            futures = [self._helpers.submit(_copy_all, pieces) for _ in range(others)]
        else:
            futures = []
        _copy_all(pieces)
        for future in futures:
            future.result()

    def __enter__(self) -> HostCopies:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._stack:
            if kind is None:
                if self._reader is not None and self._late:
                    views = self._reader.views([variable for _, variable in self._late])
                    targets = [target for target, _ in self._late]
                    self._pairs += zip(targets, views, strict=True)
                self._copy()
                _finish_transfers()


def _copy_all(pieces: Iterator[tuple[Array, Array]]) -> None:
    for target, source in pieces:  # of a list: `next` is atomic
        np.copyto(target, source, casting="no")


def _pieces(target: Array, source: Array) -> list[tuple[Array, Array]]:
    """A large copy as several, of about `_PIECE` bytes each."""
    if target.nbytes <= 2 * _PIECE or not source.flags.c_contiguous:
        return [(target, source)]
    flat_target, flat_source = target.reshape(-1), source.reshape(-1)
    step = _PIECE // target.itemsize
    return [
        (flat_target[start : start + step], flat_source[start : start + step])
        for start in range(0, target.size, step)
    ]


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _transfer(target: Array, variable: Any) -> None:
    """With PyTorch, starts a copy from a GPU; `_finish_transfers` waits for it."""
    import torch

    tensor = variable.value.detach()
    if tensor.dtype == torch.bfloat16:
        tensor, target = tensor.view(torch.int16), target.view(np.int16)
    torch.from_numpy(target).copy_(tensor, non_blocking=True)


def _finish_transfers() -> None:
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
    with HostCopies() as copying:
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
