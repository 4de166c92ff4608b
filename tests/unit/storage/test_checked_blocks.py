"""Blocks with checksums: read back by several threads, and damage is named by its block."""

from __future__ import annotations

import os

import numpy as np
import pytest

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage import checked_blocks


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(checked_blocks, "BLOCK", 64)


def written(path, data, cuts=()):
    """Writes `data` in pieces that end at `cuts`."""
    sums = checked_blocks.BlockSums()
    for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        sums.update(data[start:end])
    whole = data + sums.finish()
    path.write_bytes(whole)
    return len(whole)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 128, 1000, 64 * 40])
@pytest.mark.parametrize("cuts", [(), (1,), (30, 70, 100)])
def test_what_was_written_is_read(tmp_path, length, cuts):
    data = np.random.default_rng(length).bytes(length)
    cuts = tuple(min(cut, length) for cut in cuts)
    size = written(tmp_path / "a", data, cuts)
    with open(tmp_path / "a", "ab") as file:
        file.write(b"behind it")
    assert checked_blocks.read_checked(str(tmp_path / "a"), size).tobytes() == data


def test_the_block_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "a"
    size = written(path, bytes(1000))
    whole = bytearray(path.read_bytes())
    whole[700] ^= 4
    path.write_bytes(bytes(whole))
    with pytest.raises(CheckpointCorruptedError, match=r"bytes 640 to 704 are not") as caught:
        checked_blocks.read_checked(str(path), size)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("size", [0, 3, 7, 8, 9, 500])
def test_what_never_was_a_stream_is_refused(tmp_path, size):
    path = tmp_path / "a"
    path.write_bytes(b"\xff" * 500)
    with pytest.raises(CheckpointCorruptedError, match="damaged or cut"):
        checked_blocks.read_checked(str(path), size)


def test_a_file_that_is_cut_while_it_is_read_is_damaged(tmp_path, monkeypatch):
    path = tmp_path / "a"
    size = written(path, bytes(1000))
    table = checked_blocks._table

    def cut_after(*arguments):
        found = table(*arguments)
        os.truncate(path, 500)
        return found

    monkeypatch.setattr(checked_blocks, "_table", cut_after)
    with pytest.raises(CheckpointCorruptedError, match="is damaged or cut: bytes 5"):
        checked_blocks.read_checked(str(path), size)
