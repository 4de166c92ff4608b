"""What a captured model will write: a layout and its values, a zip of them, or a file of Keras."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from keras_callbacks_plus._keras import host_copies, host_view
from keras_callbacks_plus._keras.h5_image import H5Image
from keras_callbacks_plus._keras.keras_archive import archive_size, write_archive
from keras_callbacks_plus._keras.saved_state import SavedState
from keras_callbacks_plus.storage.atomic import Sink
from keras_callbacks_plus.storage.file_record import Trailer

__all__ = ["Archive", "Contents", "SavedFile", "WeightsFile", "WeightsPlan"]

_CHUNK = 2 << 20  # bytes that are read at once
_END_OF_ZIP = b"PK\x05\x06"
_END_OF_ZIP_SIZE = 22

Array = np.ndarray[Any, Any]
Buffers = Callable[[], Iterable[Any]]


class Contents(Protocol):
    """The bytes of one file."""

    size: int

    def write_to(self, sink: Sink) -> None:
        """Writes all of them, in order; may be called again."""


class WeightsPlan:
    """The layout of a model's weights file, and the memory for one.

    Args:
        state: Who writes what.
    """

    def __init__(self, state: SavedState) -> None:
        self.state = state
        self._image = H5Image(state.groups)
        self._reader = host_copies.VariableReader()
        self._buffer: Array | None = None
        self._arrays: list[Array] = []

    @property
    def size(self) -> int:
        """Bytes of the weights file."""
        return self._image.size

    def copy(self, beside: Callable[[], None] = lambda: None) -> Buffers:
        """Copies the values as they are now; the memory is this plan's, the same at every call.

        Args:
            beside: Called while other threads copy, once it is sure what is to be copied. Defaults
                to a function that does nothing.
        """
        if self._buffer is None:
            self._buffer = host_copies.host_buffer(self._image.size)
            self._arrays = self._image.prepare(self._buffer)
        with host_copies.copying_to_host(self._reader, self.size) as copies:
            self.state.capture(_Copies(self._arrays, copies))
            beside()
        buffer = self._buffer
        return lambda: [buffer]

    def is_same(self) -> bool:
        """Whether the values are still those that were copied last."""
        values = _Views(self._reader)
        self.state.capture(values)
        return self._buffer is not None and all(
            host_view.same_bytes(array, values.values[index])
            for index, array in enumerate(self._arrays)
        )

    def views(self) -> Buffers:
        """Holds the memory of the variables as it is now, where training leaves it alone."""
        views = _Views(self._reader)
        self.state.capture(views)
        values = [views.values[index] for index in range(len(views.values))]
        return lambda: self._image.pieces(values)


class _Copies:
    """A target that copies into the layout."""

    def __init__(self, arrays: list[Array], copies: host_copies.HostCopies) -> None:
        self._arrays = arrays
        self._copies = copies

    def put_variable(self, index: int, variable: Any) -> None:
        self._copies.put(self._arrays[index], variable)

    def put_variable_now(self, index: int, variable: Any) -> None:
        self._copies.put_now(self._arrays[index], variable)

    def put_array(self, index: int, array: Array) -> None:
        np.copyto(self._arrays[index], array, casting="no")

    def start(self) -> None:
        self._copies.start()


class _Views:
    """A target that keeps views of variables."""

    def __init__(self, reader: host_copies.VariableReader) -> None:
        self.values: dict[int, Array] = {}
        self._reader = reader
        self._unread: dict[int, Any] = {}

    def put_variable(self, index: int, variable: Any) -> None:
        self._unread[index] = variable

    def put_variable_now(self, index: int, variable: Any) -> None:
        view = host_view.host_view(variable)
        self.values[index] = view if host_view.views_survive_training() else view.copy()

    def put_array(self, index: int, array: Array) -> None:
        self.values[index] = np.array(array)

    def start(self) -> None:
        held_values = self._reader.hold(list(self._unread.values()))
        for index, (held, view) in zip(self._unread, held_values, strict=True):
            self.values[index] = view(held)
        self._unread = {}


class WeightsFile:
    """A `.weights.h5` file.

    Args:
        buffers: Gives the HDF5 file as a sequence of buffers.
        size: Bytes of it.
        trailer: What stands behind its end, which HDF5 does not read.
    """

    def __init__(self, buffers: Buffers, size: int, trailer: Trailer) -> None:
        self.size = size + trailer.size
        self._buffers = buffers
        self._trailer = trailer

    def write_to(self, sink: Sink) -> None:
        """See `Contents`."""
        for buffer in self._buffers():
            sink.write(buffer)
        sink.write(self._trailer.after(sink))


class Archive:
    """A `.keras` file.

    Args:
        texts: The small members, by name, in order.
        weights: Name of the weights, what gives their buffers, and their size.
        assets: The members behind the weights.
        trailer: The comment of the zip.
    """

    def __init__(
        self,
        texts: Mapping[str, str],
        weights: tuple[str, Buffers, int],
        assets: Mapping[str, bytes],
        trailer: Trailer,
    ) -> None:
        name, buffers, size = weights
        small = {key: text.encode() for key, text in texts.items()}
        self._before: dict[str, bytes] = small
        self._after = dict(assets)
        self._weights = name, buffers, size
        self._trailer = trailer
        self.size = archive_size(self._members()) + trailer.size

    def _members(self) -> dict[str, tuple[Iterable[Any], int]]:
        name, buffers, size = self._weights
        return {
            **{key: ((data,), len(data)) for key, data in self._before.items()},
            name: (buffers(), size),
            **{key: ((data,), len(data)) for key, data in self._after.items()},
        }

    def write_to(self, sink: Sink) -> None:
        """See `Contents`."""
        write_archive(sink, self._members(), self._trailer.size)
        sink.write(self._trailer.after(sink))


class SavedFile:
    """A file that Keras has written.

    Args:
        path: Where.
        trailer: What to put at the end: the comment of a zip, or bytes behind HDF5's end.
    """

    def __init__(self, path: str, trailer: Trailer) -> None:
        self._path = path
        self._trailer = trailer
        self.size = os.path.getsize(path) + trailer.size

    def write_to(self, sink: Sink) -> None:
        """See `Contents`."""
        with open(self._path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - _END_OF_ZIP_SIZE))
            end = file.read()
            file.seek(0)
            comment_size = b""
            if end.startswith(_END_OF_ZIP) and end.endswith(b"\0\0"):
                length -= 2  # the length of the zip's comment, which was zero
                comment_size = struct.pack("<H", self._trailer.size)
            while length:
                chunk = file.read(min(_CHUNK, length))
                if not chunk:
                    raise EOFError(f"{self._path} has become shorter while it was read")
                sink.write(chunk)
                length -= len(chunk)
        sink.write(comment_size)
        sink.write(self._trailer.after(sink))
