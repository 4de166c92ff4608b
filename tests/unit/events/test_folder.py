"""Names of event files, and what a resume takes out of them."""

import os
import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_callbacks_plus.events import _folder, holds_events_from, trim
from keras_callbacks_plus.events._record import EventPacker
from keras_callbacks_plus.storage import LocalFileSystem

PACKER = EventPacker()


def put(folder, name, steps, tail=b"", first_step=0):
    events = [PACKER.scalars(step, step, {"loss": float(step)}) for step in steps]
    data = PACKER.file_version(0.0) + PACKER.start(0.0, first_step) + b"".join(events)
    path = folder / name
    path.write_bytes(data + tail)
    return path


def steps_in(folder):
    accumulator = EventAccumulator(os.fspath(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    if "loss" not in accumulator.Tags()["scalars"]:
        return []
    return [event.step for event in accumulator.Scalars("loss")]


def name(seconds, run):
    return f"events.out.tfevents.{seconds:010d}.host.1.0.kcp-{run}"


def test_a_new_file_sorts_behind_all_others_also_with_the_clock_set_back(tmp_path):
    (tmp_path / "events.out.tfevents.0000002000.other.9.0.v2").touch()
    for _ in range(3):
        path, descriptor = _folder.create_event_file(os.fspath(tmp_path), "a", now=1000.9)
        os.close(descriptor)
        assert os.path.basename(path) == _folder.event_files(os.fspath(tmp_path))[-1]
    assert len(_folder.event_files(os.fspath(tmp_path))) == 4


def test_a_new_file_in_an_empty_folder_has_the_time_of_the_clock(tmp_path):
    path, descriptor = _folder.create_event_file(os.fspath(tmp_path), "a1", now=1_700_000_000.9)
    os.close(descriptor)
    assert os.path.basename(path).startswith("events.out.tfevents.1700000000.")
    assert path.endswith(".kcp-a1")


def test_trim_keeps_what_was_logged_up_to_the_step(tmp_path):
    put(tmp_path, name(1, "a"), range(10))
    assert trim(os.fspath(tmp_path), "a", 6, LocalFileSystem()) == [str(tmp_path / name(1, "a"))]
    assert steps_in(tmp_path) == list(range(7))


def test_trim_leaves_a_file_alone_that_needs_no_change(tmp_path):
    before = put(tmp_path, name(1, "a"), range(10)).stat()
    assert trim(os.fspath(tmp_path), "a", 9, LocalFileSystem()) == []
    assert (tmp_path / name(1, "a")).stat().st_ino == before.st_ino


@pytest.mark.parametrize("tail", [b"\x00", b"x" * 11, PACKER.scalars(9, 9, {"loss": 9.0})[:-1]])
def test_trim_cuts_a_torn_tail(tmp_path, tail):
    whole = put(tmp_path, name(1, "a"), range(3)).read_bytes()
    put(tmp_path, name(1, "a"), range(3), tail=tail)
    trim(os.fspath(tmp_path), "a", 9, LocalFileSystem())
    assert (tmp_path / name(1, "a")).read_bytes() == whole


def test_trim_takes_out_a_damaged_event_which_would_hide_all_behind_it(tmp_path):
    path = put(tmp_path, name(1, "a"), range(5))
    data = bytearray(path.read_bytes())
    start = data.index(PACKER.scalars(2, 2, {"loss": 2.0}))
    data[start + 20] ^= 1
    path.write_bytes(data)
    trim(os.fspath(tmp_path), "a", 9, LocalFileSystem())
    assert steps_in(tmp_path) == [0, 1, 3, 4]


def test_trim_goes_over_all_files_of_the_run_and_no_other(tmp_path):
    put(tmp_path, name(1, "old"), range(20))
    put(tmp_path, name(2, "a"), range(5))
    put(tmp_path, name(3, "a"), range(3, 9), first_step=3)
    foreign = (tmp_path / name(1, "old")).read_bytes()
    trim(os.fspath(tmp_path), "a", 1, LocalFileSystem())
    assert (tmp_path / name(1, "old")).read_bytes() == foreign
    (tmp_path / name(1, "old")).unlink()
    assert steps_in(tmp_path) == [0, 1]


def test_trim_of_a_folder_that_is_not_there_does_nothing(tmp_path):
    assert trim(os.fspath(tmp_path / "none"), "a", 1, LocalFileSystem()) == []
    assert not (tmp_path / "none").exists()


class DyingFileSystem(LocalFileSystem):
    """Dies before its n-th operation."""

    def __init__(self, operations):
        self.operations = operations

    def _count(self):
        self.operations -= 1
        if self.operations < 0:
            raise KeyboardInterrupt

    def create(self, path):
        self._count()
        return super().create(path)

    def write(self, descriptor, data):
        self._count()
        return super().write(descriptor, data[:100])

    def sync(self, descriptor):
        self._count()
        super().sync(descriptor)

    def rename(self, source, target):
        self._count()
        super().rename(source, target)

    def sync_folder(self, path):
        self._count()
        super().sync_folder(path)


def test_a_crash_while_trimming_leaves_the_old_file_or_the_new_one(tmp_path):
    old = put(tmp_path, name(1, "a"), range(10)).read_bytes()
    trim(os.fspath(tmp_path), "a", 6, LocalFileSystem())
    new = (tmp_path / name(1, "a")).read_bytes()
    assert len(new) < len(old)
    operations, seen = 0, set()
    while True:
        folder = tmp_path / f"crash{operations}"
        folder.mkdir()
        path = put(folder, name(1, "a"), range(10))
        try:
            trim(os.fspath(folder), "a", 6, DyingFileSystem(operations))
            break
        except KeyboardInterrupt:
            seen.add(path.read_bytes())
        assert steps_in(folder) in (list(range(10)), list(range(7)))  # a rest is no event file
        trim(os.fspath(folder), "a", 6, LocalFileSystem())
        assert [p.name for p in folder.iterdir()] == [path.name]
        assert path.read_bytes() == new
        shutil.rmtree(folder)
        operations += 1
    assert seen == {old, new}
    assert operations > 5


def test_the_rest_of_a_living_process_is_not_swept(tmp_path):
    path = os.fspath(tmp_path / ".trim.1-0.kcp-tmp")
    descriptor = LocalFileSystem().create(path)
    trim(os.fspath(tmp_path), "a", 6, LocalFileSystem())
    assert os.path.exists(path)
    os.close(descriptor)
    trim(os.fspath(tmp_path), "a", 6, LocalFileSystem())
    assert not os.path.exists(path)


def test_holds_events_from(tmp_path):
    folder = os.fspath(tmp_path)
    assert not holds_events_from(os.fspath(tmp_path / "none"), 0)
    put(tmp_path, name(1, "a"), [], first_step=50)  # no summary
    assert not holds_events_from(folder, 0)
    put(tmp_path, name(2, "b"), [0, 1, 7])
    assert holds_events_from(folder, 0)
    assert holds_events_from(folder, 7)
    assert not holds_events_from(folder, 8)
