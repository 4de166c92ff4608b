"""Many variables copied into warm memory, as fast as this process can."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_callbacks_plus._keras import compat
from keras_callbacks_plus._keras.host_view import host_view, torch_tensor

__all__ = ["HostCopies", "TensorFlowReader", "host_buffer"]

Array = np.ndarray[Any, Any]

_BATCH = 64 << 20  # bytes of views held until they are copied: a view may turn out to be a copy
_PIECE = 2 << 20  # bytes that a thread copies at a time
_THREADS = 4  # enough to fill the memory bus


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
        self._backend = compat.backend()
        self._reader = reader if self._backend == "tensorflow" else None
        self._late: list[tuple[Array, Any]] = []
        self._pairs: list[tuple[Array, Array]] = []
        self._bytes = 0
        self._stack = contextlib.ExitStack()
        self._helpers: ThreadPoolExecutor | None = None
        self._helped: list[Future[None]] = []

    def put(self, target: Array, variable: Any) -> None:
        """Copies the value of a variable, at the latest at the end of the `with` block.

        Args:
            target: Array of the very shape and type, contiguous.
            variable: The variable, which must not change until the end.
        """
        if self._backend == "torch":
            tensor = torch_tensor(variable)
            if tensor.is_cuda:
                _transfer(target, tensor)
                return
        if self._reader is not None and self._reader.takes(variable):
            self._late.append((target, variable))
            return
        self._pairs.append((target, host_view(variable)))
        self._bytes += target.nbytes
        if self._bytes >= _BATCH:
            self._copy()

    def _copy(self) -> None:
        """Copies what there is, but for the pieces that the helpers are still at."""
        pairs, self._pairs, self._bytes = self._pairs, [], 0
        pieces = iter([piece for pair in pairs for piece in _pieces(*pair)])
        others = min(_THREADS, _usable_cores()) - 1
        if others and sum(target.nbytes for target, _ in pairs) > 4 * _PIECE:
            if self._helpers is None:
                self._helpers = self._stack.enter_context(ThreadPoolExecutor(others))
            with contextlib.suppress(RuntimeError):  # where no thread can be started
                for _ in range(others):
                    self._helped.append(self._helpers.submit(_copy_all, pieces))
        _copy_all(pieces)

    def __enter__(self) -> HostCopies:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        with self._stack:
            try:
                if kind is None:
                    self._finish()
            finally:  # also after an error: they write to memory that is used again
                _finish_transfers()

    def _finish(self) -> None:
        if self._reader is not None and self._late:
            views = self._reader.views([variable for _, variable in self._late])
            targets = [target for target, _ in self._late]
            self._pairs += zip(targets, views, strict=True)
        self._copy()
        for future in self._helped:
            future.result()


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
