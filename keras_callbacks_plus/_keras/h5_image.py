"""The bytes of an HDF5 file, laid out before there are values: each dataset at a known offset."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

__all__ = ["Dataset", "Group", "H5Image"]

_ALIGNMENT = 64  # bytes; a cache line, and more than any type needs
_PAGE = 1 << 12


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before its values are.

    Args:
        name: Its name in its group; may hold slashes.
        shape: Its shape; `()` for a scalar.
        dtype: Its NumPy type; of fixed size, so not `str` or `object`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Group:
    """A group as Keras writes it: attributes, and datasets.

    Args:
        path: Its whole path.
        attributes: By name.
        datasets: In order.
    """

    path: str
    attributes: Mapping[str, Any]
    datasets: Sequence[Dataset]


class H5Image:
    """An HDF5 file as bytes: what lies between the datasets, and where each dataset lies.

    Made once with h5py for a set of shapes; from then on a file is one block of memory that needs
    no h5py, whose lock would stop every other reader of HDF5 in the process while it writes.

    Args:
        groups: Everything the file holds.

    Raises:
        TypeError: If a dataset has no type of fixed size.

    Attributes:
        size: Bytes of the whole file.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self._extents: list[tuple[int, Dataset]] = []
        self._between: list[tuple[int, bytes]] = []
        self.size = 0
        _beside_training(lambda: self._lay_out(groups))

    def _lay_out(self, groups: Sequence[Group]) -> None:
        skeleton = _SparseFile()
        with h5py.File(
            skeleton, "w", alignment_threshold=_ALIGNMENT, alignment_interval=_ALIGNMENT
        ) as file:
            for group in groups:
                created = file.create_group(group.path)
                for name, value in group.attributes.items():
                    created.attrs[name] = value
                self._extents += [(_create(created, item), item) for item in group.datasets]
        self.size = skeleton.size
        self._between = list(self._gaps(skeleton))

    def _gaps(self, skeleton: _SparseFile) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of everything that belongs to no dataset."""
        position = 0
        for offset, dataset in sorted(self._extents, key=lambda extent: extent[0]):
            if dataset.size:
                yield position, skeleton.read_at(position, offset - position)
                position = offset + dataset.size
        yield position, skeleton.read_at(position, self.size - position)

    def prepare(self, buffer: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """Makes a buffer the image of a file whose values are still missing.

        Args:
            buffer: `size` bytes.

        Returns:
            An array for each dataset, in the order of the groups, that lies in the buffer: fill
            them, and the buffer is the file.
        """
        for offset, data in self._between:
            buffer[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        return [
            buffer[offset : offset + dataset.size].view(dataset.dtype).reshape(dataset.shape)
            if dataset.size
            else np.empty(dataset.shape, dataset.dtype)
            for offset, dataset in self._extents
        ]

    def pieces(self, values: Sequence[np.ndarray[Any, Any]]) -> Iterator[Any]:
        """The file as a sequence of buffers, straight from the values.

        Args:
            values: An array for each dataset, in the order of the groups.

        Yields:
            Bytes-like objects that make up the file.
        """
        order = sorted(range(len(values)), key=lambda i: self._extents[i][0])
        arrays = [values[i] for i in order if self._extents[i][1].size]
        for (_, between), array in zip(self._between, arrays, strict=False):
            yield between
            yield np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        yield self._between[-1][1]


def _beside_training(work: Callable[[], None]) -> None:
    """Does something in a thread of its own, whose memory lies apart from what training takes.

    What HDF5 keeps is small, and would lie between the gradients of one step: where PyTorch takes
    memory from the C library, those of the next no longer fit there, and the process grows by a
    tenth of the state. https://sourceware.org/glibc/wiki/MallocInternals (arenas)

    So nobody may hold h5py's lock who waits here.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="kcp: layout") as pool:
        try:
            working = pool.submit(work)
        except RuntimeError:  # no more threads: it is done all the same
            work()
        else:
            working.result()


def _create(group: Any, dataset: Dataset) -> int:
    """Creates a dataset as Keras does, with its place given at once; returns the offset."""
    if dataset.dtype.kind in "OU":
        raise TypeError(f"{group.name}/{dataset.name} is of type {dataset.dtype}")
    parent, _, name = dataset.name.rpartition("/")
    group = group.require_group(parent) if parent else group
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)  # as h5py has it, so that equal models are equal bytes
    space = (
        h5py.h5s.create_simple(dataset.shape) if dataset.shape else h5py.h5s.create(h5py.h5s.SCALAR)
    )
    kind = h5py.h5t.py_create(dataset.dtype, logical=True)  # logical: bool is an enum in HDF5
    created = h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=properties)
    if dataset.dtype.name == "bfloat16":  # how Keras tells it from other types of two bytes
        h5py.Dataset(created).attrs["dtype"] = "bfloat16"
    return int(created.get_offset() or 0)


class _SparseFile(io.RawIOBase):
    """A file in memory that holds only the pages that were written; the rest reads as zeros."""

    def __init__(self) -> None:
        self.size = 0
        self._position = 0
        self._pages: dict[int, bytearray] = {}

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def truncate(self, size: int | None = None) -> int:
        self.size = self._position if size is None else size
        return self.size

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        for page, start, stop, done in _spans(self._position, len(view)):
            held = self._pages.setdefault(page, bytearray(_PAGE))
            held[start:stop] = view[done : done + stop - start]
        self._position += len(view)
        self.size = max(self.size, self._position)
        return len(view)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read_at(self._position, len(view))
        view[:] = data
        self._position += len(data)
        return len(data)

    def read_at(self, position: int, count: int) -> bytes:
        """`count` bytes from `position` on."""
        data = bytearray(count)
        for page, start, stop, done in _spans(position, count):
            held = self._pages.get(page)
            if held is not None:
                data[done : done + stop - start] = held[start:stop]
        return bytes(data)


def _spans(position: int, count: int) -> Iterator[tuple[int, int, int, int]]:
    """Page, first and last byte in it, and bytes before it, for each page that a range touches."""
    done = 0
    while done < count:
        page, start = divmod(position + done, _PAGE)
        stop = min(_PAGE, start + count - done)
        yield page, start, stop, done
        done += stop - start
