"""A file that nobody waits for is written slowly, and one that somebody waits for is not."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import pytest

from keras_callbacks_plus.storage import BackgroundWriter, LocalFileSystem, atomic, background
from keras_callbacks_plus.storage import pace as pace_module
from keras_callbacks_plus.storage.pace import Pace, Unhurried

MIB = 1 << 20
LONG = 1e4  # times as long as the work: after it a test has failed long ago


class Clock:
    """Time that passes when it is told to, and in rests."""

    def __init__(self):
        self.now = 100.0
        self.rests = []

    def __call__(self):
        return self.now

    def rest(self, seconds):
        self.rests.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pace(clock, monkeypatch):
    made = Pace(clock)
    monkeypatch.setattr(
        made._hurry, "wait", lambda seconds: None if made.in_haste else clock.rest(seconds)
    )
    return made


class Slow:
    """A sink on which each piece takes a while."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.pieces = clock, seconds, []

    def write(self, data):
        self.clock.now += self.seconds
        self.pieces.append(bytes(data))
        return len(data)

    def tell(self):
        return sum(map(len, self.pieces))


class Chunks:
    def __init__(self, *chunks):
        self.chunks = chunks

    def write_to(self, sink):
        for chunk in self.chunks:
            position = sink.tell()
            assert sink.write(chunk) == len(chunk)
            assert sink.tell() == position + len(chunk)


def job(pace, clock, seconds, pieces=1, payload=None, pause=1000.0):
    """Does a job of some pieces, some time after the one before, and returns its rests."""
    clock.now += pause
    clock.rests = []
    pace.begin()
    payload = payload or Chunks(bytes(pieces * 4 * MIB))
    Unhurried(payload, pace).write_to(Slow(clock, seconds))
    pace.end()
    return clock.rests


def test_it_writes_at_a_tenth_of_its_speed(pace, clock):
    assert job(pace, clock, 0.01, pieces=5) == pytest.approx([0.09] * 5)
    assert clock.now == pytest.approx(100 + 1000 + 10 * 5 * 0.01)


def test_of_its_speed_where_nothing_holds_it_up(pace, clock):
    """A piece that had to wait for a processor took little of it, and needs no rest."""
    job(pace, clock, 0.01)
    assert job(pace, clock, 0.03, pieces=2) == pytest.approx([0.071, 0.072], abs=2e-4)
    assert job(pace, clock, 0.2, pieces=2) == []
    assert job(pace, clock, 0.005, pieces=2) == pytest.approx([0.045] * 2)
    assert job(pace, clock, 0.01, pieces=2) == pytest.approx([0.04] * 2, abs=2e-3)


def test_a_burst_is_forgotten(pace, clock):
    """What a cache has taken at once is not the speed of a disk."""
    job(pace, clock, 0.0001)
    assert job(pace, clock, 0.01, pieces=5) == []
    assert job(pace, clock, 0.01, pieces=700)[-1] == pytest.approx(0.09)


def test_little_is_not_worth_a_rest(pace, clock):
    chunks = Chunks(*[bytes(MIB)] * 10)
    assert job(pace, clock, 0.01, payload=chunks) == pytest.approx([0.36] * 2)
    assert job(pace, clock, 0.01, payload=Chunks(bytes(4 * MIB - 1))) == []


def test_the_bytes_are_the_same_and_in_pieces_that_are_not_small(pace, clock):
    data, sink = bytes(range(256)) * (36 << 10), Slow(clock, 0.01)
    Unhurried(Chunks(b"head", data, b""), pace).write_to(sink)
    assert b"".join(sink.pieces) == b"head" + data
    assert [len(piece) for piece in sink.pieces] == [4, 4 * MIB, 4 * MIB, MIB]


@pytest.mark.parametrize("chunk", [2 * MIB, MIB // 2 + 24])
def test_the_speed_is_that_of_the_disk_where_pieces_are_gathered(pace, clock, tmp_path, chunk):
    """Not of the copying that goes before: a snapshot's arrays do not begin with a page."""

    class SlowDisk(LocalFileSystem):
        def write(self, descriptor, data):
            clock.now += 0.01 * len(data) / (4 * MIB)
            return super().write(descriptor, data)

    clock.now += 1000.0
    pace.begin()
    chunks = Chunks(b"head", *[bytes(chunk)] * (40 * MIB // chunk))
    staged = atomic.stage(SlowDisk(), str(tmp_path), "a", Unhurried(chunks, pace))
    atomic.discard(LocalFileSystem(), staged)
    pace.end()
    assert sum(clock.rests) == pytest.approx(0.09 * 10, rel=0.2)


def test_somebody_waits(pace, clock):
    clock.now += 1000.0
    pace.begin()
    pace.hurry()
    Unhurried(Chunks(bytes(20 * MIB)), pace).write_to(Slow(clock, 0.01))
    assert clock.rests == []
    assert job(pace, clock, 0.01) != []  # it is about one job only


def test_a_job_is_done_in_half_of_the_time_until_the_next_is_due(pace, clock):
    """It rests less for it, from the beginning on."""
    job(pace, clock, 0.01, pieces=20)
    began = clock.now  # two seconds after it had begun
    assert job(pace, clock, 0.01, pieces=20, pause=0.0) == pytest.approx([0.04] * 20)
    assert clock.now - began == pytest.approx(1.0)


def test_the_first_job_knows_how_long_training_has_taken(pace, clock):
    assert job(pace, clock, 0.01, pieces=20, pause=0.2) == pytest.approx([0.09])
    assert clock.now == pytest.approx(100 + 0.2 + 0.1 + 19 * 0.01)


def test_a_pause_between_two_trainings_is_no_time_between_jobs(pace, clock):
    for pause in (100.0, 0.0, 0.0):
        job(pace, clock, 0.01, pieces=20, pause=pause)
    rests = job(pace, clock, 0.01, pieces=20, pause=5000.0)
    assert sum(rests) + 20 * 0.01 <= 1.01


def test_to_wait_for_another_file_is_not_work(pace, clock):
    def waits_and_writes(seconds):
        clock.now += 10.0
        clock.rests = []
        pace.begin()
        clock.now += seconds
        Unhurried(Chunks(bytes(80 * MIB)), pace).write_to(Slow(clock, 0.01))
        pace.end()
        return clock.rests

    for _ in range(4):
        assert waits_and_writes(3.0) == pytest.approx([0.09] * 20)
    clock.now += 10.0
    pace.begin()  # this one finds that it is not to write at all
    clock.now += 50.0
    pace.end()
    assert waits_and_writes(3.0) == pytest.approx([0.09] * 20)
    began = clock.now
    rests = waits_and_writes(14.0)  # of 15.2 until the next one, or less
    assert 0 < sum(rests) < 20 * 0.09
    assert clock.now - began < 10 + 15.2


def test_of_jobs_that_come_without_a_pause_none_rests(pace, clock):
    for number in range(4):
        pace.begin()
        if number == 0:
            pace.hurry()
        Unhurried(Chunks(bytes(40 * MIB)), pace).write_to(Slow(clock, 0.01))
        pace.end()
    assert clock.rests == []


def test_whoever_hurries_a_job_hurries_what_it_waits_for(clock):
    first, second, third = Pace(clock), Pace(clock), Pace(clock)
    for each in (first, second, third):
        each.begin()
    first.lead(second)
    second.lead(third)
    assert not third.in_haste
    first.hurry()
    assert third.in_haste
    late = Pace(clock)
    first.lead(late)
    assert late.in_haste


def test_whoever_does_not_wait_any_more_hurries_nobody(clock):
    first, second = Pace(clock), Pace(clock)
    first.begin()
    second.begin()
    first.lead(second)
    first.let_go(second)
    first.hurry()
    assert not second.in_haste


# ---------------------------------------------------------------- with threads


class Piece:
    """A payload that is large enough for a rest."""

    def write_to(self, sink):
        sink.write(bytes(4 * MIB))


class Nowhere:
    def write(self, data):
        return len(data)


class Ticking:
    """A clock that is a second later each time that it is asked, so that all work takes long.

    Training has taken longer when the first job comes.
    """

    def __init__(self):
        self.ticks = itertools.chain([0.0], itertools.count(1e6))

    def __call__(self):
        return next(self.ticks)


@pytest.fixture
def long_rests(monkeypatch):
    """Rests last for hours; tells when there is one, and when a writer waits for another one."""
    told = SimpleNamespace(resting=threading.Event(), leading=threading.Event())
    made = []

    class Told(Pace):
        def __init__(self):
            super().__init__(Ticking())
            made.append(self)

        def rest(self, count):
            told.resting.set()
            super().rest(count)

        def lead(self, follower):
            super().lead(follower)
            told.leading.set()

    monkeypatch.setattr(pace_module, "_SLOWER", LONG)
    monkeypatch.setattr(pace_module, "_SHARE", LONG)
    monkeypatch.setattr(background, "Pace", Told)
    yield told
    for each in made:  # also where a test has failed
        each.hurry()


def begin(writer, done, event=None):
    payload = writer.unhurried(Piece())

    def write():
        payload.write_to(Nowhere())
        done.append(1)
        if event is not None:
            event.set()

    writer.submit(write)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("wait", ["drain", "wait_until_finished"])
def test_the_thread_that_waits_ends_the_rest(long_rests, wait):
    writer, done = BackgroundWriter("things"), []
    begin(writer, done)
    assert long_rests.resting.wait(20)
    getattr(writer, wait)()
    assert done == [1]


@pytest.mark.timeout(30)
def test_a_second_job_ends_the_rest_and_has_none_itself(long_rests):
    writer, done, both = BackgroundWriter("things"), [], threading.Event()
    begin(writer, done)
    assert long_rests.resting.wait(20)
    begin(writer, done, both)
    assert both.wait(20)
    assert done == [1, 1]


@pytest.mark.timeout(30)
def test_a_writer_that_waits_for_another_one_has_time_until_it_is_waited_for(long_rests):
    """A snapshot waits for the checkpoint of the same epoch, and training for neither of them."""
    checkpoint, snapshot, done = BackgroundWriter("a"), BackgroundWriter("b"), []
    begin(checkpoint, done)
    assert long_rests.resting.wait(20)

    def after_the_other():
        checkpoint.wait_until_finished()
        done.append(2)

    snapshot.submit(after_the_other)
    assert long_rests.leading.wait(20)
    assert not checkpoint._pace.in_haste
    assert done == []
    snapshot.wait_until_finished()
    assert done == [1, 2]
    checkpoint.wait_until_finished()
    release = threading.Event()
    long_rests.resting.clear()
    begin(checkpoint, done)
    assert long_rests.resting.wait(20)
    snapshot.submit(release.wait)  # which has nothing to do with that one
    thread = threading.Thread(target=snapshot.drain)
    thread.start()
    assert snapshot._pace._hurry.wait(20)
    assert not checkpoint._pace.in_haste
    release.set()
    thread.join()
    checkpoint.drain()


@pytest.mark.timeout(30)
def test_a_new_job_is_hurried_for_who_still_waits(long_rests):
    """The thread that waits has not woken up yet when the next job comes."""
    writer, done = BackgroundWriter("things"), []
    waiting = threading.Event()
    wait_for = writer._changed.wait_for

    def slow_to_wake(condition):
        waiting.set()
        return wait_for(lambda: len(done) == 2 and condition())

    begin(writer, done)
    assert long_rests.resting.wait(20)
    writer._changed.wait_for = slow_to_wake
    thread = threading.Thread(target=writer.drain)
    thread.start()
    assert waiting.wait(20)
    with writer._changed:
        wait_for(lambda: not writer._running)
    begin(writer, done)
    thread.join()
    assert done == [1, 1]


@pytest.mark.timeout(60)
def test_the_interpreter_does_not_wait_for_rests_at_its_end():
    script = """
        import threading

        from keras_callbacks_plus.storage import BackgroundWriter, pace

        pace._SLOWER = pace._SHARE = 1e9

        class Sink:
            def write(self, data):
                threading.main_thread().join()
                return len(data)

        class Payload:
            def write_to(self, sink):
                sink.write(bytes(4 << 20))
                print("written", flush=True)

        writer = BackgroundWriter("things")
        writer._pace._began -= 1e6
        payload = writer.unhurried(Payload())
        writer.submit(lambda: payload.write_to(Sink()))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "written\n"
