"""One file that holds a tree of plain data and arrays, and knows whether it is whole.

Layout: magic, length of the header (8 bytes, little-endian), header (JSON), arrays (each aligned
to 64 bytes), checksums of everything before (see `checked_blocks`), record (see `file_record`). No
pickle: reading runs no code, whatever the file.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage.atomic import Sink
from keras_callbacks_plus.storage.checked_blocks import BLOCK, BlockSums, read_checked
from keras_callbacks_plus.storage.file_record import MAX_RECORD, encode_record, size_of_record

__all__ = ["ContainerPayload", "read_container"]

MAGIC = b"KCPTREE2"
_ALIGNMENT = 64
_MAX_DEPTH = 64


class ContainerPayload:
    """A tree, ready to be written; arrays are not copied.

    Args:
        tree: `dict` (with `str` or `int` keys), `list`, `tuple`, `str`, `bytes`, `int`, `float`,
            `bool`, `None` and numeric NumPy arrays, in any nesting.

        record: What the manifest says of the file, for a folder whose manifest is lost; in JSON
            types. Defaults to `None`, nothing.

    Raises:
        TypeError: If a leaf is something else; the message has its path.
    """

    def __init__(self, tree: Any, record: Mapping[str, Any] | None = None) -> None:
        self._record = b"" if record is None else encode_record(record)
        self._arrays: list[np.ndarray[Any, Any]] = []
        encoded = self._encode(tree, "")
        index = []
        offset = 0
        for array in self._arrays:
            index.append([array.dtype.name, list(array.shape), offset])
            offset += array.nbytes + -array.nbytes % _ALIGNMENT
        header = json.dumps({"tree": encoded, "arrays": index}, allow_nan=False).encode()
        start = len(MAGIC) + 8 + len(header)
        self._header = header + b" " * (-start % _ALIGNMENT)

    def write_to(self, sink: Sink) -> None:
        """See `storage.atomic.Payload`."""
        sums = BlockSums()

        def write(data: Any) -> None:
            sums.update(data)
            sink.write(data)

        write(MAGIC + struct.pack("<Q", len(self._header)))
        write(self._header)
        for array in self._arrays:
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            for start in range(0, flat.size, BLOCK):
                write(flat[start : start + BLOCK].data)
            write(b"\0" * (-array.nbytes % _ALIGNMENT))
        sink.write(sums.finish() + self._record)

    def _encode(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.generic):
            value = value.item() if value.dtype.kind in "biuf" else np.asarray(value)
        if isinstance(value, int):
            return value if abs(value) < 2**53 else {"int": str(value)}
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject or value.dtype.kind in "USMm":
                raise TypeError(f"{path or 'the tree'} is an array of {value.dtype}: not numeric")
            self._arrays.append(value)
            return {"array": len(self._arrays) - 1}
        if isinstance(value, list | tuple):
            items = [self._encode(item, f"{path}[{i}]") for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, dict):
            pairs = []
            for key, item in value.items():
                if not isinstance(key, str | int) or isinstance(key, bool):
                    raise TypeError(f"{path or 'the tree'} has the key {key!r}: not str or int")
                pairs.append([key, self._encode(item, f"{path}[{key!r}]")])
            return {"dict": pairs}
        raise TypeError(f"{path or 'the tree'} is a {type(value).__qualname__}: not plain data")


def read_container(path: str | os.PathLike[str]) -> Any:
    """Reads what a `ContainerPayload` wrote, after its checksums have been found right.

    Args:
        path: The file.

    Returns:
        The tree; its arrays are views of one block of memory.

    Raises:
        CheckpointCorruptedError: If a byte of it is not what was written.
    """
    path = str(os.fspath(path))
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_RECORD))
        size -= size_of_record(file.read())
        file.seek(0)
        if file.read(len(MAGIC)) != MAGIC:
            raise CheckpointCorruptedError(
                f"{path} is not a snapshot of this format, or its beginning is damaged "
                f"({size} bytes).",
                path,
                0,
            )
    body = read_checked(path, size)
    start = len(MAGIC) + 8
    try:
        (length,) = struct.unpack("<Q", body[len(MAGIC) : start].tobytes())
        header = json.loads(body[start : start + length].tobytes())
        arrays = [_array(body, start + length, *entry) for entry in header["arrays"]]
        return _decode(header["tree"], arrays, 0)
    except (ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
        raise CheckpointCorruptedError(
            f"{path} has right checksums and a header that makes no sense: {error}.", path, start
        ) from error


def _array(body: Any, base: int, dtype: str, shape: list[int], offset: int) -> Any:
    kind = _dtype(dtype)
    if kind.hasobject or any(n < 0 for n in shape) or offset < 0:
        raise ValueError(f"an array of {dtype} and shape {shape} at {offset}")
    size = math.prod(shape) * kind.itemsize
    if base + offset + size > body.size:
        raise ValueError(f"an array beyond the end of the file, at {offset}")
    return body[base + offset : base + offset + size].view(kind).reshape(shape)


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # bfloat16 and the 8-bit floats; comes with every backend

        kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return kind


def _decode(node: Any, arrays: list[Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(node, list):
        return [_decode(item, arrays, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind == "dict":
        return {key: _decode(item, arrays, depth + 1) for key, item in value}
    if kind == "tuple":
        return tuple(_decode(item, arrays, depth + 1) for item in value)
    if kind == "array":
        if value < 0:
            raise ValueError(f"array number {value}")
        return arrays[value]
    simple: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bytes": bytes.fromhex}
    return simple[kind](value)
