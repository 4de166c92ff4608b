"""Many variables copied into warm memory, as fast as this process can."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.copying_threads import CopyingThreads, is_cut
from keras_callbacks_plus._keras.host_view import (
    array_of,
    held_value,
    shares_memory,
    views_survive_training,
)
from keras_callbacks_plus.storage.direct import page_aligned

__all__ = ["HostCopies", "VariableReader", "copying_to_host", "host_buffer"]

Array = np.ndarray[Any, Any]
View = Callable[[Any], Array]

_CALLS = 4  # that are remembered: a model is read in one, and its odd layers' variables in another


def host_buffer(size: int) -> Array:
    """Zeroed bytes whose pages are all there already, in memory that transfers from a GPU like.

    It begins with a page, so that a disk takes it as it is.

    Args:
        size: Bytes.
    """
    if compat.backend() == "torch":
        import torch

        if torch.cuda.is_available():
            return np.asarray(torch.zeros(size, dtype=torch.uint8, pin_memory=True).numpy())
    buffer = page_aligned(size)
    buffer.fill(0)  # takes the page faults now: they cost several times the copy itself
    return buffer


class VariableReader:
    """Reads many variables, on TensorFlow in one call: in a third of the time of one by one.

    Keep one for as long as the variables are the same: what can be read in this way is looked up
    once, and the call is laid out when it is first made.
    """

    def __init__(self) -> None:
        self._shares: bool | None = None
        self._known: dict[int, tuple[weakref.ref[Any], bool]] = {}  # with what had the id
        self._calls: dict[tuple[int, ...], tuple[list[Any], Any]] = {}

    def hold(self, variables: Sequence[Any]) -> list[tuple[Any, View]]:
        """What holds the values of variables now, and what makes an array of each, in any thread.

        Args:
            variables: Keras variables; on JAX, of a model whose state is attached.

        Returns:
            A pair for each, in their order.
        """
        if compat.backend() == "jax":
            return [(held_value(variable), np.asarray) for variable in variables]
        if compat.backend() != "tensorflow":
            return [(held_value(variable), array_of) for variable in variables]
        values = [compat.raw_value(v) if self._takes(v) else None for v in variables]
        tensors = iter(self._read([value for value in values if value is not None]))
        return [
            (held_value(variable), array_of) if value is None else (next(tensors), np.from_dlpack)
            for variable, value in zip(variables, values, strict=True)
        ]

    def _takes(self, variable: Any) -> bool:
        """Whether a variable can be read this way: with this TensorFlow, plain, on the CPU."""
        value = compat.raw_value(variable)
        held, answer = self._known.get(id(value), (None, False))
        if held is None or held() is not value:
            answer = self._can_take(variable.value)
            self._known[id(value)] = weakref.ref(value), answer
        return answer

    def _can_take(self, value: Any) -> bool:
        import tensorflow as tf

        if self._shares is None:
            self._shares = hasattr(tf.constant(0), "__dlpack__")  # 2.16 has none
        return (
            self._shares
            and not isinstance(value, tf.distribute.DistributedValues)
            and hasattr(value, "handle")
            and np.dtype(value.dtype.as_numpy_dtype).kind in "iuf"
            and np.dtype(value.dtype.as_numpy_dtype).isbuiltin == 1
            and "CPU:" in value.device
        )

    def _read(self, values: list[Any]) -> list[Any]:
        if not values:
            return []
        key = tuple(map(id, values))
        if key not in self._calls:
            import tensorflow as tf

            if len(self._calls) >= _CALLS:
                self._calls.clear()

            def read() -> list[Any]:
                pairs = [(value.handle, value.dtype) for value in values]
                return [tf.raw_ops.ReadVariableOp(resource=h, dtype=k) for h, k in pairs]

            # the concrete function, as looking it up takes as long as the call
            call = tf.function(read, autograph=False).get_concrete_function()
            self._calls[key] = values, call  # with what has the ids
        return list(self._calls[key][1]())


@contextlib.contextmanager
def copying_to_host(reader: VariableReader, size: int) -> Iterator[HostCopies]:
    """Copies variables into arrays, with the threads that this process may use.

    Training stands still meanwhile, so that there are cores to spare.

    Args:
        reader: Reads the variables.
        size: Bytes of all of them.

    Yields:
        What takes the variables. They must not change until the end of the block, and the arrays
        hold them from then on.

    Example:

    >>> import keras
    >>> target = np.zeros(2, "float32")
    >>> with copying_to_host(VariableReader(), target.nbytes) as copies:
    ...     copies.put(target, keras.Variable([1.0, 2.0]))
    >>> target
    array([1., 2.], dtype=float32)
    """
    try:
        with CopyingThreads(size) as threads:
            copies = HostCopies(reader, threads)
            yield copies
            copies.start()
    finally:  # also after an error: they write to memory that is used again
        _finish_transfers()


class HostCopies:
    """What `copying_to_host` gives.

    Args:
        reader: See there.
        threads: Those that copy.
    """

    def __init__(self, reader: VariableReader, threads: CopyingThreads) -> None:
        self._reader = reader
        self._threads = threads
        self._is_torch = compat.backend() == "torch"
        self._unread: list[tuple[Array, Any]] = []

    def put(self, target: Array, variable: Any) -> None:
        """Copies the value that a variable has when `start` is called, or at the end of the block.

        Args:
            target: Array of the very shape and type, contiguous.
            variable: The variable.
        """
        self._unread.append((target, variable))

    def put_now(self, target: Array, variable: Any) -> None:
        """Copies the value that a variable has now, whatever it has at the end of the block.

        Args:
            target: Array of the very shape and type, contiguous.
            variable: The variable.
        """
        held = held_value(variable)
        if views_survive_training():
            self._copy(target, held, array_of)
        else:
            np.copyto(target, array_of(held), casting="no")

    def start(self) -> None:
        """Lets the threads have all that was put, so that they copy beside what comes next."""
        unread, self._unread = self._unread, []
        held_values = self._reader.hold([variable for _, variable in unread])
        for (target, _), (held, view) in zip(unread, held_values, strict=True):
            self._copy(target, held, view)
        self._threads.start()

    def _copy(self, target: Array, held: Any, view: View) -> None:
        if self._is_torch and held.device.type != "cpu":
            if held.is_cuda:
                _transfer(target, held)
            else:
                np.copyto(target, array_of(held), casting="no")
            return
        self._threads.copy(target, held, view, whole=is_cut(target) and not shares_memory(held))


def _transfer(target: Array, tensor: Any) -> None:
    """With PyTorch, starts a copy from a GPU; `_finish_transfers` waits for it."""
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor, target = tensor.view(torch.int16), target.view(np.int16)
    torch.from_numpy(target).copy_(tensor, non_blocking=True)


def _finish_transfers() -> None:
    if compat.backend() == "torch":
        import torch

        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
