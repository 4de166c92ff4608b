"""The self-checking file of a tree: what goes in comes out, and no damage goes unseen."""

from __future__ import annotations

import enum
import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple

import numpy as np
import pytest

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage import ContainerPayload, container, read_container
from keras_callbacks_plus.storage.checked_blocks import BlockSums
from keras_callbacks_plus.storage.file_record import read_record

TREE = {
    "none": None,
    "flags": [True, False],
    "numbers": [0, -1, 2**80, 0.1, -0.0, math.inf],
    "text": "ä",
    "bytes": b"\x00\xff",
    "tuple": (1, (2, "x")),
    7: "integer key",
    (1, None): {2.5: "a number as a key", True: b"and a truth"},
    "complex": [1 - 2j, complex(math.inf, -0.0)],
    "collections": [
        {3, "x", (1, 2)},
        frozenset({4}),
        deque([1, [2]], maxlen=5),
        deque(),
        Counter("hello"),
        OrderedDict(b=1, a=2),
        defaultdict(int, {"n": 3}),
        defaultdict(None),
    ],
    "numbers of NumPy": [np.float32(0.1), np.int8(-3), np.bool_(True), np.str_("x")],
    "arrays": {
        "float": np.arange(6, dtype="float32").reshape(2, 3),
        "empty": np.zeros((0, 4), "int64"),
        "scalar": np.array(3, "uint8"),
        "bool": np.array([True, False]),
        "strided": np.arange(10)[::2],
        "foreign byte order": np.arange(3, dtype=">f8"),
        "text": np.array(["a", "bcd"]),
        "days": np.array(["2020-01-01"], "datetime64[D]"),
    },
}


def save(path, tree):
    with open(path, "wb") as file:
        ContainerPayload(tree).write_to(file)


def same(a, b):
    if isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(b, dict):
        same_kind = type(a) is type(b) and list(a) == list(b)
        return same_kind and all(same(a[k], b[k]) for k in b)
    if type(a) is not type(b) or getattr(a, "maxlen", None) != getattr(b, "maxlen", None):
        return False
    if isinstance(b, set | frozenset):
        return a == b
    if isinstance(b, list | tuple | deque):
        return len(a) == len(b) and all(map(same, a, b))
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
        ({(1, print): 2}, r"\[1\] is a builtin_function"),
        ({"a": namedtuple("Point", "x")(1)}, r"\['a'\] is a Point"),
        ([enum.IntEnum("Phase", "ONE")(1)], r"\[0\] is a Phase"),
        ([defaultdict(lambda: 0)], r"\[0\] is a defaultdict of no builtin"),
        (np.zeros(2, [("a", "i4")]), "not plain data"),
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


def test_what_could_not_be_read_again_is_not_written():
    tree = []
    for _ in range(80):
        tree = [tree]
    with pytest.raises(TypeError, match="nested too deeply"):
        ContainerPayload(tree)
    ring = []
    ring.append(ring)
    with pytest.raises(TypeError, match="nested too deeply, or in itself"):
        ContainerPayload({"ring": ring})


def crafted(path, header):
    """A file with a right checksum around any header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = b"KCPTREE2" + struct.pack("<Q", len(header)) + header
    sums = BlockSums()
    sums.update(body)
    path.write_bytes(body + sums.finish())
    return path


@pytest.mark.parametrize(
    "header",
    [
        [1],
        {"tree": 1, "arrays": None},
        {"tree": {}, "arrays": []},
        {"tree": {"array": "x"}, "arrays": []},
        {"tree": {"array": -1}, "arrays": [["u1", [0], 0]]},
        {"tree": {"array": 0}, "arrays": [["nope", [1], 0]]},
        {"tree": {"array": 0}, "arrays": [["finfo", [1], 0]]},
        {"tree": {"array": 0}, "arrays": [["O", [1], 0]]},
        {"tree": {"array": 0}, "arrays": [["f8", [2**62], 0]]},
        {"tree": {"scalar": ["O", "00"]}, "arrays": []},
        {"tree": {"scalar": ["f8", "00"]}, "arrays": []},
        {"tree": {"dict": [[[1], 2]]}, "arrays": []},
        {"tree": {"defaultdict": ["os.system", []]}, "arrays": []},
        {"tree": {"deque": [[], -1]}, "arrays": []},
        {"tree": {"os.system": "true"}, "arrays": []},
        b'{"tree":' + b"[" * 100_000 + b"]" * 100_000 + b',"arrays":[]}',
        b"\xff",
    ],
    ids=lambda header: str(header)[:40],
)
def test_a_crafted_file_is_an_error_of_ours(tmp_path, header):
    with pytest.raises(CheckpointCorruptedError, match="makes no sense"):
        read_container(crafted(tmp_path / "a", header))


@pytest.mark.parametrize(
    "name", ["O", "object", "(,)i4", "(1,i4", "2,f4", "i4,i4", "(2,)i4", "", "i4 ", "{'names'}"]
)
def test_a_crafted_type_is_no_type(tmp_path, monkeypatch, name):
    monkeypatch.setattr(container, "_name", lambda dtype: name)
    with open(tmp_path / "a", "wb") as file:
        ContainerPayload({"x": np.zeros(2)}).write_to(file)
    with pytest.raises(CheckpointCorruptedError, match="makes no sense"):
        read_container(tmp_path / "a")
