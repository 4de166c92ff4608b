"""An archive is, byte for byte, what Python's own `zipfile` writes, in whole pages."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_callbacks_plus._keras.keras_archive import archive_size, write_archive

LARGE = 64 << 20  # bytes of a buffer that is given again and again


class Skeleton:
    """A sink that keeps all but the large buffers, of which it only knows the length."""

    def __init__(self):
        self.kept, self.length = [], 0

    def write(self, data):
        if len(data) < 128 << 10:
            self.kept.append((self.length, bytes(data)))
        self.length += len(data)
        return len(data)

    def tell(self):
        return self.length

    def flush(self):
        pass

    @property
    def bytes_by_place(self):
        """How the bytes came to be in one call or in several is no matter."""
        return {place + i: byte for place, data in self.kept for i, byte in enumerate(data)}


class Memory(Skeleton):
    def __init__(self):
        super().__init__()
        self.data = bytearray()

    def write(self, data):
        self.data += data
        self.length += len(data)
        return len(data)


class WithoutSeek:
    def __init__(self, sink):
        self.write, self.tell, self.flush = sink.write, sink.tell, sink.flush


def up_to_a_page(position, name, size):
    """The extra field with which the bytes of a large member begin with a page."""
    if size < 1 << 20:
        return b""
    fields = 30 + len(name.encode()) + (20 if size * 1.05 > 2**31 - 1 else 0)
    count = -(position + fields + 6) % 4096
    return struct.pack("<3H", 0xD935, 2 + count, 4096) + bytes(count)


def python_writes(sink, members, comment=b""):
    infos = []
    with zipfile.ZipFile(WithoutSeek(sink), "w", zipfile.ZIP_STORED) as archive:
        for name, (buffers, size) in members.items():
            info = zipfile.ZipInfo(name)
            info.extra = up_to_a_page(sink.tell(), name, size)
            infos.append(info)
            info.external_attr = 0o600 << 16
            info.create_system = 3
            info.file_size = size
            with archive.open(info, "w") as member:
                for buffer in buffers:
                    member.write(buffer)
        archive.comment = comment
        for info in infos:
            info.extra = b""  # which is for the header only, not for the directory


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\"), min_size=1)
contents = st.lists(st.binary(max_size=300), max_size=3)
# a comment that looks like the end of an archive is what a zip cannot have
comments = st.binary(max_size=100).filter(lambda comment: b"PK" not in comment)


@given(st.dictionaries(names, contents, max_size=4), comments)
def test_the_bytes_are_those_of_zipfile(files, comment):
    members = {name: (parts, sum(map(len, parts))) for name, parts in files.items()}
    ours, theirs = Memory(), Memory()
    write_archive(ours, members, len(comment))
    ours.write(comment)
    python_writes(theirs, members, comment)
    assert ours.data == theirs.data
    assert len(ours.data) <= archive_size(members) + len(comment)
    with zipfile.ZipFile(io.BytesIO(ours.data)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in files} == {
            name: b"".join(parts) for name, parts in files.items()
        }


def repeated(size):
    buffer = np.zeros(LARGE, np.uint8).data
    whole, rest = divmod(size, LARGE)
    return [*[buffer] * whole, buffer[:rest]]


@pytest.mark.parametrize("size", [2045222520, 2045222521, 2**31, 2**32 + 5])
def test_large_members_and_what_stands_behind_them(size):
    """At the sizes from which on zip needs numbers of eight bytes, here or there."""
    members = {
        "config.json": ([b"{}"], 2),
        "model.weights.h5": (repeated(size), size),
        "behind": ([b"the end"], 7),
    }
    ours, theirs = Skeleton(), Skeleton()
    write_archive(ours, members, len(b"a comment"))
    ours.write(b"a comment")
    python_writes(theirs, members, b"a comment")
    assert ours.length == theirs.length
    assert ours.bytes_by_place == theirs.bytes_by_place


def place_of(archive, name):
    """Where the bytes of a member begin."""
    header = archive.getinfo(name).header_offset
    name_length, extra_length = struct.unpack("<2H", archive.fp.getbuffer()[header + 26 :][:4])
    return header + 30 + name_length + extra_length


@pytest.mark.parametrize("before", [0, 1, 4029, 4030, 4031, 4096, 50_000])
def test_a_large_member_begins_with_a_page(before, tmp_path):
    """Also where that takes a whole page more: a disk can then take it from where it is."""
    data = np.random.default_rng(before).bytes((1 << 20) + 5)
    members = {
        "config.json": ([bytes(before)], before),
        "model.weights.h5": ([data], len(data)),
        "small": ([data[:1000]], 1000),
        "assets/vocabulary": ([data[1:]], len(data) - 1),
    }
    ours = Memory()
    write_archive(ours, members, len(b"a comment"))
    ours.write(b"a comment")
    with zipfile.ZipFile(io.BytesIO(ours.data)) as archive:
        assert archive.testzip() is None
        assert place_of(archive, "model.weights.h5") % 4096 == 0
        assert place_of(archive, "assets/vocabulary") % 4096 == 0
        assert archive.read("model.weights.h5") == data
    assert len(ours.data) <= archive_size(members) + len(b"a comment")
    if unzip := shutil.which("unzip"):
        path = tmp_path / "archive.zip"
        path.write_bytes(ours.data)
        answer = subprocess.run([unzip, "-t", path], capture_output=True, text=True, check=False)
        assert "No errors detected" in answer.stdout, answer.stdout + answer.stderr


def test_more_members_than_the_old_format_can_count():
    members = {f"assets/{number}": ([], 0) for number in range(65536)}
    ours, theirs = Memory(), Memory()
    write_archive(ours, members)
    python_writes(theirs, members)
    assert ours.data == theirs.data
    with zipfile.ZipFile(io.BytesIO(ours.data)) as archive:
        assert len(archive.namelist()) == 65536


def test_a_member_of_another_size_than_was_announced_is_no_archive():
    with pytest.raises(RuntimeError, match="a has 3 bytes, and 4 were announced"):
        write_archive(Memory(), {"a": ([b"abc"], 4)})
