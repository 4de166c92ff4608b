"""Small files of the demo, written so that a kill leaves the old one, the new one, or none."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_callbacks_plus.storage import LocalFileSystem, Sink, atomic

__all__ = ["read_json", "write_arrays", "write_bytes", "write_json"]


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def write_to(self, sink: Sink) -> None:
        sink.write(self._data)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a whole file, durably, and its folder if needed.

    Args:
        path: Where to.
        data: What.
    """
    path, filesystem = Path(path), LocalFileSystem()
    filesystem.make_folder(str(path.parent))
    staged = atomic.stage(filesystem, str(path.parent), path.name, _Bytes(data))
    atomic.publish(filesystem, staged, str(path))


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Writes JSON; floats come back bit for bit.

    Args:
        path: Where to.
        content: What; NumPy scalars become numbers.
    """
    write_bytes(path, (json.dumps(content, indent=1, default=_plain) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads JSON, or returns `None` where there is no such file.

    Args:
        path: Where from.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return None


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Writes arrays as an `.npz` file.

    Args:
        path: Where to.
        arrays: The arrays by name.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))
    write_bytes(path, buffer.getvalue())


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
