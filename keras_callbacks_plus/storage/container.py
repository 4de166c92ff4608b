"""One file that holds a tree of plain data and arrays, and knows whether it is whole.

Layout: magic, length of the header (8 bytes, little-endian), header (JSON), arrays (each aligned
to 64 bytes), checksums of everything before (see `checked_blocks`), record (see `file_record`). No
pickle: reading runs no code, whatever the file.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage.atomic import Sink
from keras_callbacks_plus.storage.checked_blocks import BLOCK, BlockSums, read_checked
from keras_callbacks_plus.storage.file_record import MAX_RECORD, encode_record, size_of_record

__all__ = ["FACTORIES", "ContainerPayload", "read_container"]

MAGIC = b"KCPTREE2"
_ALIGNMENT = 64
_DTYPE = re.compile(r"[<>|=]?[A-Za-z]\w*(\[\w+\])?")
_MAX_DEPTH = 64
_SENSELESS = ValueError, LookupError, TypeError, OverflowError, RecursionError
_TEXT = frozenset({str, bool, type(None)})

FACTORIES: dict[str | None, Any] = {
    None: None,
    **{kind.__name__: kind for kind in (bool, int, float, str, list, dict, set, tuple, deque)},
}
"""What a `defaultdict` in a tree may make its values with, by the name it is written down with."""


class ContainerPayload:
    """A tree, ready to be written; arrays are not copied.

    Args:
        tree: `dict`, `list`, `tuple`, `set`, `frozenset`, `deque`, `Counter`, `OrderedDict`,
            `defaultdict` (of a builtin), `str`, `bytes`, numbers, `None`, NumPy scalars and arrays
            without objects, in any nesting of up to 64 levels. Exactly these types: one of a
            subclass, such as a named tuple, could not be made again.

        record: What the manifest says of the file, for a folder whose manifest is lost; in JSON
            types. Defaults to `None`, nothing.

    Raises:
        TypeError: If a leaf is something else; the message has its path.
    """

    def __init__(self, tree: Any, record: Mapping[str, Any] | None = None) -> None:
        self._record = b"" if record is None else encode_record(record)
        self._arrays: list[np.ndarray[Any, Any]] = []
        encoded = self._encode(tree, "", 0)
        index = []
        offset = 0
        for array in self._arrays:
            index.append([_name(array.dtype), list(array.shape), offset])
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

    def _encode(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if depth > _MAX_DEPTH:
            raise TypeError(f"{path[:200]} is nested too deeply, or in itself: not plain data")
        if kind in _TEXT:
            return value
        if kind is int:
            return value if abs(value) < 2**53 else {"int": str(value)}
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is complex:
            return {"complex": [self._encode(x, path, depth) for x in (value.real, value.imag)]}
        if kind is bytes:
            return {"bytes": value.hex()}
        if isinstance(value, np.generic):
            _check_dtype(value.dtype, path)
            return {"scalar": [_name(value.dtype), value.tobytes().hex()]}
        if isinstance(value, np.ndarray):
            _check_dtype(value.dtype, path)
            self._arrays.append(value)
            return {"array": len(self._arrays) - 1}
        if kind is dict:
            return {"dict": self._pairs(value, path, depth)}
        if kind in (Counter, OrderedDict):
            return {kind.__name__: self._pairs(value, path, depth)}
        if kind is defaultdict:
            factory = next((k for k, v in FACTORIES.items() if v is value.default_factory), "")
            if factory == "":
                raise TypeError(f"{path or 'the tree'} is a defaultdict of no builtin: not plain")
            return {"defaultdict": [factory, self._pairs(value, path, depth)]}
        if kind not in (list, tuple, set, frozenset, deque):
            raise TypeError(f"{path or 'the tree'} is a {kind.__qualname__}: not plain data")
        if _TEXT.issuperset(map(type, value)):
            items = list(value)
        else:
            items = [self._encode(x, f"{path}[{i}]", depth + 1) for i, x in enumerate(value)]
        if kind is deque:
            return {"deque": [items, value.maxlen]}
        return items if kind is list else {kind.__name__: items}

    def _pairs(self, value: Any, path: str, depth: int) -> list[list[Any]]:
        return [
            [self._encode(k, path, depth + 1), self._encode(v, f"{path}[{k!r}]", depth + 1)]
            for k, v in value.items()
        ]


def _check_dtype(dtype: np.dtype[Any], path: str) -> None:
    if dtype.hasobject or dtype.fields is not None:
        raise TypeError(f"{path or 'the tree'} is an array of {dtype}: not plain data")


def _name(dtype: np.dtype[Any]) -> str:
    """What `_dtype` reads: the name where it says everything, which it does for native numbers."""
    plain = dtype.isnative and dtype.kind not in "USMm" and dtype.type is not np.void
    return dtype.name if plain else dtype.str


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
    except (*_SENSELESS, struct.error) as error:
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
    if _DTYPE.fullmatch(name) is None:  # NumPy's own language has more: records, repetitions
        raise ValueError(f"an array of {name!r}")
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # bfloat16 and the 8-bit floats; comes with every backend

        kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, str(name), None) or object)
        return kind


def _decode(node: Any, arrays: list[Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(node, list):
        return [_decode(item, arrays, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind in _MAPPINGS:
        return _MAPPINGS[kind](_decode_pairs(value, arrays, depth))
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](_decode(item, arrays, depth + 1) for item in value)
    if kind == "array":
        if value < 0:
            raise ValueError(f"array number {value}")
        return arrays[value]
    if kind == "deque":
        return deque((_decode(item, arrays, depth + 1) for item in value[0]), value[1])
    if kind == "defaultdict":
        return defaultdict(FACTORIES[value[0]], _decode_pairs(value[1], arrays, depth))
    return _SIMPLE[kind](value)


def _decode_pairs(pairs: Any, arrays: list[Any], depth: int) -> dict[Any, Any]:
    return {_decode(k, arrays, depth + 1): _decode(v, arrays, depth + 1) for k, v in pairs}


def _scalar(value: Any) -> Any:
    kind, data = _dtype(value[0]), bytes.fromhex(value[1])
    if kind.hasobject or len(data) != kind.itemsize:
        raise ValueError(f"a number of {kind} in {len(data)} bytes")
    return np.frombuffer(data, kind)[0]


_MAPPINGS: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "Counter": Counter,
    "OrderedDict": OrderedDict,
}
_SEQUENCES: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "complex": lambda parts: complex(*(_decode(part, [], 0) for part in parts)),
    "bytes": bytes.fromhex,
    "scalar": _scalar,
}
