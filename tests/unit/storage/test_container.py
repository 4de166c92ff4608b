"""The self-checking file of a tree: what goes in comes out, and no damage goes unseen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage import ContainerPayload, read_container
from keras_callbacks_plus.storage.file_record import read_record

TREE = {
    "none": None,
    "flags": [True, False],
    "numbers": [0, -1, 2**80, 0.1, -0.0, math.inf],
    "text": "ä",
    "bytes": b"\x00\xff",
    "tuple": (1, (2, "x")),
    7: "integer key",
    "arrays": {
        "float": np.arange(6, dtype="float32").reshape(2, 3),
        "empty": np.zeros((0, 4), "int64"),
        "scalar": np.array(3, "uint8"),
        "bool": np.array([True, False]),
        "strided": np.arange(10)[::2],
    },
}


def save(path, tree):
    with open(path, "wb") as file:
        ContainerPayload(tree).write_to(file)


def same(a, b):
    if isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and repr(a) == repr(b)


def test_what_goes_in_comes_out(tmp_path):
    save(tmp_path / "a", TREE)
    assert same(read_container(tmp_path / "a"), TREE)


def test_nan_comes_out(tmp_path):
    save(tmp_path / "a", {"x": math.nan, "y": np.float64("nan")})
    assert all(math.isnan(v) for v in read_container(tmp_path / "a").values())


@pytest.mark.parametrize(
    ("tree", "where"),
    [
        ({"a": [object()]}, r"\['a'\]\[0\] is a object"),
        ({"a": np.array([None])}, r"\['a'\] is an array of object"),
        ({(1,): 2}, r"has the key \(1,\)"),
    ],
)
def test_what_is_not_plain_data_is_refused_by_its_path(tree, where):
    with pytest.raises(TypeError, match=where):
        ContainerPayload(tree)


@pytest.mark.parametrize("record", [None, {"epoch": 3}])
def test_a_flipped_bit_in_any_byte_is_found(tmp_path, record):
    path = tmp_path / "a"
    with open(path, "wb") as file:
        ContainerPayload({"x": np.arange(5), "y": [1, "z"]}, record).write_to(file)
    assert read_record(path) == record
    assert read_container(path)["y"] == [1, "z"]
    whole = path.read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << (position % 8)
        path.write_bytes(bytes(data))
        with pytest.raises(CheckpointCorruptedError):
            read_container(path)


def test_a_file_cut_at_any_length_is_found(tmp_path):
    path = tmp_path / "a"
    save(path, {"x": np.arange(5), "y": [1, "z"]})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointCorruptedError):
            read_container(path)
