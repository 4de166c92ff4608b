"""The writer: nothing is lost, nothing blocks, errors surface."""

import errno
import gc
import os
import threading

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto import event_pb2

from keras_callbacks_plus.errors import BackgroundWriteError, StorageError
from keras_callbacks_plus.events import EventFileWriter, MultiWriter
from keras_callbacks_plus.events.writer import call_all
from keras_callbacks_plus.storage import LocalFileSystem


def make(folder, file_system=None, **arguments):
    arguments = {"run": "a", "first_step": 0, "flush_secs": 3600.0, **arguments}
    return EventFileWriter(
        os.fspath(folder),
        file_system=file_system or LocalFileSystem(),
        clock=lambda: 1_700_000_000.0,
        **arguments,
    )


def points(folder, tag="loss"):
    accumulator = EventAccumulator(os.fspath(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def events(folder):
    names = sorted(os.listdir(folder))
    loaders = [RawEventFileLoader(os.path.join(folder, name)) for name in names]
    return [[event_pb2.Event.FromString(raw) for raw in loader.Load()] for loader in loaders]


def test_flush_makes_everything_readable_and_durable(tmp_path):
    class Counting(LocalFileSystem):
        synced = 0

        def sync(self, descriptor):
            self.synced += 1
            super().sync(descriptor)

    files = Counting()
    writer = make(tmp_path / "train", files)
    for step in range(1000):
        writer.write_scalars(step, {"loss": step / 2, "accuracy": 0.5}, wall_time=float(step))
    writer.flush()
    assert points(tmp_path / "train") == [(step, step / 2) for step in range(1000)]
    assert len(points(tmp_path / "train", "accuracy")) == 1000
    writer.flush()
    writer.close()
    assert files.synced == 1  # there was nothing new


def test_a_file_begins_with_its_version_and_a_start(tmp_path):
    writer = make(tmp_path, first_step=7)
    writer.write_scalars(7, {"loss": 1.0}, wall_time=3.0)
    writer.close()
    [[version, start, event]] = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (7, event_pb2.SessionLog.START)
    assert (event.wall_time, event.step) == (3.0, 7)


def test_there_is_no_file_before_there_is_something_to_write(tmp_path):
    writer = make(tmp_path / "train")
    writer.flush()
    writer.close()
    assert not (tmp_path / "train").exists()


def test_the_thread_writes_without_being_asked(tmp_path):
    class Telling(LocalFileSystem):
        written = threading.Event()

        def write(self, descriptor, data):
            count = super().write(descriptor, data)
            if b"loss" in bytes(data):
                self.written.set()
            return count

    writer = make(tmp_path, Telling(), flush_secs=0.01)
    writer.write_scalars(0, {"loss": 1.0}, wall_time=0.0)
    assert Telling.written.wait(60)
    assert points(tmp_path) == [(0, 1.0)]
    writer.close()


def test_a_writer_that_is_dropped_writes_what_it_has(tmp_path):
    writer = make(tmp_path)
    writer.write_scalars(0, {"loss": 1.0}, wall_time=0.0)
    thread = writer._thread
    del writer
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    assert points(tmp_path) == [(0, 1.0)]


def test_close_is_final_and_may_be_repeated(tmp_path):
    writer = make(tmp_path)
    writer.write_scalars(0, {"loss": 1.0}, wall_time=0.0)
    writer.close()
    writer.close()
    with pytest.raises(StorageError, match="Make a new one"):
        writer.write_scalars(1, {"loss": 1.0}, wall_time=0.0)
    assert points(tmp_path) == [(0, 1.0)]


class FullDisk(LocalFileSystem):
    """Refuses after so many bytes, in the middle of a write, until there is room again."""

    def __init__(self, room):
        self.room = room

    def write(self, descriptor, data):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = super().write(descriptor, data[: self.room])
        self.room -= count
        return count


@pytest.mark.parametrize("room", [0, 10, 75, 100, 130, 300])
def test_after_a_full_disk_nothing_is_lost_or_written_twice(tmp_path, room):
    files = FullDisk(room)
    writer = make(tmp_path, files)
    for step in range(20):
        writer.write_scalars(step, {"loss": float(step)}, wall_time=0.0)
    with pytest.raises(BackgroundWriteError, match="leave the callback out") as caught:
        writer.flush()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    files.room = 1 << 20
    writer.write_scalars(20, {"loss": 20.0}, wall_time=0.0)
    writer.close()
    assert points(tmp_path) == [(step, float(step)) for step in range(21)]


def test_an_error_of_the_thread_is_raised_by_the_next_write(tmp_path):
    files = FullDisk(0)
    writer = make(tmp_path, files)
    writer.write_scalars(0, {"loss": 0.0}, wall_time=0.0)
    writer._output.drain()  # what the thread calls
    with pytest.raises(BackgroundWriteError, match="No space left"):
        writer.write_scalars(1, {"loss": 1.0}, wall_time=0.0)
    with pytest.raises(BackgroundWriteError, match="No space left"):
        writer.close()


def test_a_value_that_is_no_number_does_not_hold_up_the_others(tmp_path):
    writer = make(tmp_path)
    for step, value in enumerate([0.0, "high", 2.0]):
        writer.write_scalars(step, {"loss": value}, wall_time=0.0)
    with pytest.raises(BackgroundWriteError, match="must be a number"):
        writer.flush()
    writer.close()
    assert points(tmp_path) == [(0, 0.0), (2, 2.0)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # forking is what is tested
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")  # the same, as JAX says it
def test_a_forked_child_writes_nothing_of_its_parents(tmp_path):
    writer = make(tmp_path)
    writer.write_scalars(0, {"loss": 1.0}, wall_time=0.0)
    child = os.fork()
    if child == 0:
        writer._finish()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.listdir(tmp_path) == []
    writer.close()
    assert points(tmp_path) == [(0, 1.0)]


def test_many_blocks_and_threads_keep_the_order(tmp_path):
    writer = make(tmp_path, flush_secs=0.001)
    for step in range(12_000):
        writer.write_scalars(step, {"loss": 1.0, "x" * 50: 2.0}, wall_time=0.0)
    writer.close()
    assert [step for step, _ in points(tmp_path)] == list(range(12_000))


class Recorder:
    def __init__(self, error=None):
        self.calls = []
        self.error = error

    def _called(self, *call):
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def write_scalars(self, step, values, *, wall_time):
        self._called("write", step, values, wall_time)

    def flush(self):
        self._called("flush")

    def close(self):
        self._called("close")


def test_multi_writer_calls_all_before_it_raises():
    first, second = Recorder(OSError("disk")), Recorder()
    writer = MultiWriter([first, second])
    with pytest.raises(OSError, match="disk"):
        writer.write_scalars(1, {"loss": 0.5}, wall_time=2.0)
    with pytest.raises(OSError, match="disk"):
        writer.flush()
    with pytest.raises(OSError, match="disk"):
        writer.close()
    assert second.calls == [("write", 1, {"loss": 0.5}, 2.0), ("flush",), ("close",)]
    assert first.calls == second.calls


def test_call_all_keeps_every_error_in_the_chain():
    recorders = [Recorder(OSError(name)) for name in ("a", "b")]
    with pytest.raises(OSError, match="b") as caught:
        call_all([recorder.flush for recorder in recorders])
    assert str(caught.value.__context__) == "a"
