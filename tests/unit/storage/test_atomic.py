"""Checksums that find and locate damage, and bytes that are on their way to the disk early."""

from __future__ import annotations

import errno
import os
import sys
import types
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_callbacks_plus.errors import CheckpointCorruptedError, StorageError
from keras_callbacks_plus.storage import CheckpointStore, LocalFileSystem, atomic
from keras_callbacks_plus.storage.checksums import decode_blocks
from keras_callbacks_plus.storage.direct import page_aligned

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


# ---------------------------------------------------------------- past the page cache


def staged_bytes(filesystem, folder, *chunks):
    staged = atomic.stage(filesystem, str(folder), "a", Chunks(*chunks))
    with open(staged.path, "rb") as file:
        found = file.read()
    atomic.discard(filesystem, staged)
    return found


class Flags(LocalFileSystem):
    """Notes which pieces go past the page cache, where there is such a way."""

    def __init__(self):
        self.direct = []

    def write(self, descriptor, data):
        import fcntl

        written = super().write(descriptor, data)
        self.direct.append(bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT))
        return written


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has O_DIRECT")
def test_whole_pieces_go_past_the_page_cache_and_the_rest_through_it(tmp_path):
    import fcntl

    with open(tmp_path / "probe", "wb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETFL, os.O_DIRECT)
        except OSError as error:
            pytest.skip(f"not in this file system: {error}")
    data = os.urandom(9 * MIB + 5)
    filesystem = Flags()
    assert staged_bytes(filesystem, tmp_path, data[:3], data[3:]) == data
    assert filesystem.direct == [True, True, False]


@pytest.mark.parametrize("size", [0, 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 9 * MIB + 5])
@pytest.mark.parametrize("step", [None, 1021, 4 * MIB + 3])
def test_the_bytes_are_the_same_however_they_arrive(tmp_path, size, step):
    data = os.urandom(size)
    step = step or max(size, 1)
    chunks = [data[start : start + step] for start in range(0, size, step)]
    assert staged_bytes(LocalFileSystem(), tmp_path, *chunks) == data


def address(data):
    return np.frombuffer(data, np.uint8).__array_interface__["data"][0]


class Addresses(Flags):
    """Notes where in memory the pieces are that are written."""

    def __init__(self):
        super().__init__()
        self.pieces = []

    def write(self, descriptor, data):
        written = super().write(descriptor, data)
        self.pieces.append((address(data), written))
        return written

    def bytes_within(self, buffer):
        start = address(buffer)
        return sum(count for at, count in self.pieces if start <= at < start + len(buffer))


@pytest.mark.skipif(sys.platform == "win32", reason="there the flags of a file are not known")
def test_whole_pages_are_written_from_where_they_are_in_memory(tmp_path):
    """A copy of 300 MB takes as long as the rest of the writing together."""
    memory, filesystem = page_aligned(9 * MIB + 5), Addresses()
    memory[:] = np.frombuffer(os.urandom(len(memory)), np.uint8)
    head = os.urandom(8192)
    found = staged_bytes(filesystem, tmp_path, head[:5], head[5:], memory, b"the end")
    assert found == head + memory.tobytes() + b"the end"
    assert filesystem.bytes_within(memory) == 9 * MIB
    assert filesystem.pieces[0][1] == 8192


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("loose"), st.sampled_from([0, 1, 4095, 4096, 8192, MIB + 1])),
            st.tuples(st.sampled_from([0, 1, 4096]), st.sampled_from([MIB, MIB + 7, 5 * MIB])),
        ),
        max_size=5,
    )
)
@settings(max_examples=40, deadline=None)
def test_bytes_and_checksums_are_the_same_wherever_they_are_in_memory(tmp_path_factory, pieces):
    """Loose ones, and those that begin with a page, or one byte or one page behind its begin."""
    source = np.frombuffer(np.random.default_rng(0).bytes(6 * MIB), np.uint8)
    chunks = []
    for number, (place, size) in enumerate(pieces):
        data = source[number * 1000 :][:size]
        if place != "loose":
            aligned = page_aligned(place + size)[place:]
            aligned[:] = data
            data = aligned
        chunks.append(data)
    whole = b"".join(chunk.tobytes() for chunk in chunks)
    folder = tmp_path_factory.mktemp("aligned")
    staged = atomic.stage(LocalFileSystem(), str(folder), "a", Chunks(*chunks))
    with open(staged.path, "rb") as file:
        assert file.read() == whole
    assert (staged.size, staged.checksum) == (len(whole), f"crc32:{zlib.crc32(whole):08x}")
    atomic.discard(LocalFileSystem(), staged)


class Partial(LocalFileSystem):
    """Takes a part of the first piece, as a disk does that is nearly full."""

    def __init__(self, count):
        self.count = count

    def write(self, descriptor, data):
        piece = data[: self.count] if self.count else data
        self.count = 0
        return super().write(descriptor, piece)


@pytest.mark.parametrize("count", [1, 4096, 2 * MIB, 2 * MIB + 1])
def test_a_piece_that_is_taken_in_part_is_written_to_its_end(tmp_path, count):
    data = os.urandom(9 * MIB + 5)
    assert staged_bytes(Partial(count), tmp_path, data) == data


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has O_DIRECT")
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EFAULT])
@pytest.mark.parametrize("refused", ["by the flag", "by each write"])
def test_a_file_system_that_has_no_such_way_is_written_to_as_ever(
    tmp_path, monkeypatch, refused, code
):
    import fcntl

    asked, real_fcntl, real_write = [], fcntl.fcntl, os.write

    def is_direct(descriptor):
        return real_fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT

    def refuse(*_):
        asked.append(1)
        raise OSError(code, os.strerror(code))

    if refused == "by the flag":
        monkeypatch.setattr(
            fcntl,
            "fcntl",
            lambda *a: refuse() if a[1] == fcntl.F_SETFL else real_fcntl(*a),
        )
    else:
        monkeypatch.setattr(
            os, "write", lambda d, b: refuse() if is_direct(d) else real_write(d, b)
        )
    data = os.urandom(9 * MIB + 5)
    assert staged_bytes(LocalFileSystem(), tmp_path, data) == data
    assert len(asked) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has O_DIRECT")
def test_an_error_of_the_disk_is_not_taken_for_a_way_that_there_is_not(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        staged_bytes(LocalFileSystem(), tmp_path, os.urandom(5 * MIB))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork beside a thread
def test_processes_that_are_forked_meanwhile_change_nothing(tmp_path):
    """As those are that read data, when an epoch begins and its last save is under way."""
    data, children = os.urandom(64 * MIB), []
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(staged_bytes, LocalFileSystem(), tmp_path, data)
        while not found.done() or not children:
            child = os.fork()
            if not child:
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        assert found.result() == data


class Busy(LocalFileSystem):
    """A disk on which a file is in use, for the first times that it is to be replaced."""

    def __init__(self, number, times, target="a.keras"):
        self.left, self.number, self.target, self.waited = times, number, target, []

    def replace(self, source, target):
        if self.left and target.endswith(self.target):
            self.left -= 1
            raise OSError(self.number, os.strerror(self.number), target)
        os.replace(source, target)

    def sleep(self, seconds):
        self.waited.append(seconds)


IN_USE = [errno.EBUSY, errno.EAGAIN, errno.ETXTBSY, errno.EACCES]


@pytest.mark.parametrize("number", IN_USE)
def test_a_file_that_is_replaced_while_somebody_has_it_open_is_waited_for(tmp_path, number):
    commit(CheckpointStore(tmp_path), Chunks(b"old"))
    busy = Busy(number, times=3)
    commit(CheckpointStore(tmp_path, filesystem=busy), Chunks(b"new"))
    assert (tmp_path / "a.keras").read_bytes() == b"new"
    assert len(busy.waited) == 3
    assert busy.waited == sorted(busy.waited)


@pytest.mark.parametrize("number", IN_USE)
def test_it_is_not_waited_for_without_an_end(tmp_path, number):
    commit(CheckpointStore(tmp_path), Chunks(b"old"))
    busy = Busy(number, times=10**6)
    store = CheckpointStore(tmp_path, filesystem=busy)
    with pytest.raises(StorageError, match="nother program has the file open"):
        commit(store, Chunks(b"new"))
    assert 1.0 < sum(busy.waited) < 5.0
    assert (tmp_path / "a.keras").read_bytes() == b"old"
    busy.left = 0
    (record,) = store.records()
    store.verify(record)
    assert store.recover() == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_another_error_is_not_waited_for(tmp_path, number):
    commit(CheckpointStore(tmp_path), Chunks(b"old"))
    busy = Busy(number, times=1)
    with pytest.raises(StorageError):
        commit(CheckpointStore(tmp_path, filesystem=busy), Chunks(b"new"))
    assert busy.waited == []


def test_nothing_is_waited_for_where_there_is_nothing_to_replace(tmp_path):
    busy = Busy(errno.EACCES, times=1)
    with pytest.raises(StorageError, match="may not write there"):
        commit(CheckpointStore(tmp_path, filesystem=busy), Chunks(b"new"))
    assert busy.waited == []


def test_a_file_that_was_closed_to_be_renamed_is_not_closed_again(tmp_path, monkeypatch):
    """On Windows: while its rename is waited for, another thread may get its descriptor."""

    class Opening(Busy):
        def sleep(self, seconds):
            super().sleep(seconds)
            others.append(os.open(os.devnull, os.O_RDONLY))

    others = []
    commit(CheckpointStore(tmp_path), Chunks(b"old"))
    monkeypatch.setattr(atomic, "sys", types.SimpleNamespace(platform="win32"))
    store = CheckpointStore(tmp_path, filesystem=Opening(errno.EACCES, times=10**6))
    with pytest.raises(StorageError):
        commit(store, Chunks(b"new"))
    assert others
    for other in others:
        os.close(other)  # which is an error where it was closed already
    assert [name for name in os.listdir(tmp_path) if atomic.is_staging_name(name)] == []
