"""Checksums that find and locate damage, and bytes that are on their way to the disk early."""

from __future__ import annotations

import os
import zlib

import pytest

from keras_callbacks_plus.errors import CheckpointCorruptedError
from keras_callbacks_plus.storage import CheckpointStore, LocalFileSystem, atomic
from keras_callbacks_plus.storage.checksums import decode_blocks

MIB = 1 << 20


class Recording(LocalFileSystem):
    def __init__(self):
        self.calls = []

    def write(self, descriptor, data):
        written = super().write(descriptor, data)
        self.calls.append(("write", written))
        return written

    def start_sync(self, descriptor, offset, count):
        self.calls.append(("start_sync", offset, count))
        super().start_sync(descriptor, offset, count)

    def sync(self, descriptor):
        self.calls.append(("sync",))
        super().sync(descriptor)


class Chunks:
    def __init__(self, *chunks):
        self.chunks = chunks

    def write_to(self, sink):
        for chunk in self.chunks:
            assert sink.write(chunk) == len(chunk)


def commit(store, payload):
    with store.transaction() as transaction:
        transaction.commit(
            "a.keras",
            payload,
            series="s",
            kind="model",
            epoch=0,
            batch=None,
            step=0,
            metrics={},
        )
    return store.records()[0]


def test_the_checksum_is_the_crc_32_that_every_tool_knows_however_the_bytes_arrive(tmp_path):
    data = os.urandom(17 * MIB + 5)
    whole = commit(CheckpointStore(tmp_path), Chunks(data))
    parts = commit(CheckpointStore(tmp_path), Chunks(data[:3], data[3 : 9 * MIB], data[9 * MIB :]))
    assert whole.checksum == parts.checksum == f"crc32:{zlib.crc32(data):08x}"
    assert whole.block_size == parts.block_size == MIB // 4
    assert whole.blocks == parts.blocks
    assert decode_blocks(whole.blocks)[5] == zlib.crc32(data[: 6 * MIB // 4])


@pytest.mark.parametrize("position", [0, MIB // 4 - 1, MIB // 4, 16 * MIB + 4])
def test_one_flipped_bit_is_found_and_located(tmp_path, position):
    store = CheckpointStore(tmp_path)
    record = commit(store, Chunks(bytes(16 * MIB + 5)))
    store.verify(record)
    with open(tmp_path / "a.keras", "r+b") as file:
        file.seek(position)
        file.write(b"\x10")
    start = position // (MIB // 4) * (MIB // 4)
    end = min(start + MIB // 4, 16 * MIB + 5)
    with pytest.raises(CheckpointCorruptedError) as error:
        store.verify(record)
    assert f"between bytes {start} and {end}: it has" in str(error.value)
    assert f"If one byte alone is wrong, it is byte {position}. Use another" in str(error.value)
    assert (error.value.offset, error.value.end) == (start, end)
    assert error.value.suspects == (position,)


def test_damage_of_many_bytes_has_a_range_and_no_byte(tmp_path):
    store = CheckpointStore(tmp_path)
    record = commit(store, Chunks(bytes(MIB)))
    with open(tmp_path / "a.keras", "r+b") as file:
        file.seek(MIB // 2)
        file.write(b"a page that is not ours" * 100)
    with pytest.raises(CheckpointCorruptedError) as error:
        store.verify(record)
    assert (error.value.offset, error.value.end) == (MIB // 2, MIB // 2 + MIB // 4)
    assert error.value.suspects == ()
    assert "alone" not in str(error.value)


def test_a_file_of_another_length_is_found(tmp_path):
    store = CheckpointStore(tmp_path)
    record = commit(store, Chunks(b"123"))
    with open(tmp_path / "a.keras", "ab") as file:
        file.write(b"4")
    with pytest.raises(CheckpointCorruptedError, match="it has 4 bytes"):
        store.verify(record)


def test_each_block_is_sent_to_the_disk_once_and_all_is_synced_at_the_end(tmp_path):
    filesystem = Recording()
    staged = atomic.stage(filesystem, str(tmp_path), "a", Chunks(bytes(12 * MIB), bytes(5 * MIB)))
    atomic.discard(filesystem, staged)
    early = [call for call in filesystem.calls if call[0] == "start_sync"]
    assert early == [("start_sync", 0, 8 * MIB), ("start_sync", 8 * MIB, 8 * MIB)]
    first = filesystem.calls.index(early[0])
    assert sum(call[1] for call in filesystem.calls[:first]) == 8 * MIB
    assert filesystem.calls[-1] == ("sync",)
