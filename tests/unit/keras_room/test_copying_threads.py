"""Copying with several threads gives what copying with one would, and leaves nothing behind."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from keras_callbacks_plus._keras import copying_threads
from keras_callbacks_plus._keras.copying_threads import CopyingThreads

LARGE = 5 << 20  # float32 elements: several jobs
SIZE = 4 * LARGE  # bytes


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No thread that copies, and the interpreter's switch interval as it was."""
    interval, running = sys.getswitchinterval(), []
    start = copying_threads._thread.start_new_thread

    def started(run, arguments):
        def watched():
            run(*arguments)
            running.remove(watched)

        running.append(watched)
        start(watched, ())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying_threads._thread, "start_new_thread", started)
        yield
    while running:  # a time limit ends it
        pass
    assert sys.getswitchinterval() == interval


@pytest.fixture
def cores(monkeypatch):
    def have(count):
        monkeypatch.setattr(copying_threads, "_usable_cores", lambda: count)

    have(3)
    return have


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_byte_arrives_whatever_the_sizes_and_the_cores(cores, count):
    cores(count)
    random = np.random.default_rng(0)
    shapes = [(), (0,), (3, 5), (1021, 1031), (7,), (2_000_003,), (1 << 21,), (LARGE,)]
    shapes.append((3, 1_500_000))  # whose rows are large
    sources = [random.normal(size=shape).astype("float32") for shape in shapes]
    sources.append(np.asfortranarray(random.normal(size=(1500, 1300))))
    targets = [np.full(source.shape, np.nan, source.dtype) for source in sources]
    with CopyingThreads(sum(source.nbytes for source in sources)) as threads:
        for target, source in zip(targets, sources, strict=True):
            threads.copy(target, source)
    for target, source in zip(targets, sources, strict=True):
        np.testing.assert_array_equal(target, source)


def test_copies_are_made_while_the_block_is_run(cores):
    source, target = np.ones(LARGE, "float32"), np.zeros(LARGE, "float32")
    with CopyingThreads(SIZE) as threads:
        threads.copy(target, source)
        threads.start()
        while not target.all():  # by this thread's doing, it never would be: a time limit ends it
            pass
    assert target.all()


def test_a_source_becomes_an_array_in_the_thread_that_copies_it(cores):
    made = []

    def view(number):
        made.append(number)
        return np.full(LARGE, number, "float32")

    targets = [np.zeros(LARGE, "float32"), np.zeros(3, "float32")]
    with CopyingThreads(SIZE) as threads:
        threads.copy(targets[0], 7, view)
        threads.copy(targets[1], 8, lambda number: view(number)[:3])
    assert set(made) == {7, 8}
    assert (targets[0] == 7).all()
    assert (targets[1] == 8).all()


@pytest.mark.parametrize(("size", "count", "helpers"), [(SIZE, 3, 2), (SIZE, 1, 0), (1000, 3, 0)])
def test_threads_are_started_where_they_are_worth_it(cores, monkeypatch, size, count, helpers):
    cores(count)
    started = []
    start = copying_threads._thread.start_new_thread
    monkeypatch.setattr(
        copying_threads._thread, "start_new_thread", lambda *a: (started.append(a), start(*a))
    )
    with CopyingThreads(size) as threads:
        threads.copy(np.zeros(9), np.ones(9))
    assert len(started) == helpers


def test_an_array_that_is_to_stay_whole_is_viewed_once(cores):
    views = []

    def view(number):
        views.append(number)
        return np.full(LARGE, number, "float32")

    target = np.zeros(LARGE, "float32")
    with CopyingThreads(SIZE) as threads:
        threads.copy(target, 7, view, whole=True)
    assert views == [7]
    assert (target == 7).all()


def test_an_interrupt_while_threads_are_started_leaves_none(cores, monkeypatch):
    cores(4)
    start = copying_threads._thread.start_new_thread
    started = []

    def interrupted(*arguments):
        start(*arguments)
        started.append(arguments)
        if len(started) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(copying_threads._thread, "start_new_thread", interrupted)
    with pytest.raises(KeyboardInterrupt), CopyingThreads(SIZE):
        pass
    assert len(started) == 2  # and the fixture waits for both


def test_where_no_thread_can_be_started_one_copies_all(monkeypatch, cores):
    def start(*arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(copying_threads._thread, "start_new_thread", start)
    source = np.random.default_rng(0).normal(size=LARGE).astype("float32")
    target = np.zeros_like(source)
    with CopyingThreads(SIZE) as threads:
        threads.copy(target, source)
    np.testing.assert_array_equal(target, source)


def test_an_error_in_a_thread_is_raised_at_the_end(cores):
    target = np.zeros(LARGE, "float16")  # of another type than the source
    with pytest.raises(TypeError, match="Cannot cast"), CopyingThreads(SIZE) as threads:
        threads.copy(target, np.zeros(LARGE, "float32"))


def test_an_error_in_the_block_is_not_waited_for(cores):
    class UserError(Exception):
        pass

    source, target = np.ones(LARGE, "float32"), np.zeros(LARGE, "float32")

    def fail():
        with CopyingThreads(SIZE) as threads:
            threads.copy(target, source)
            raise UserError

    with pytest.raises(UserError):
        fail()


def test_two_blocks_at_once_give_the_interval_back_when_both_have_ended(cores):
    before = sys.getswitchinterval()
    source, target = np.ones(LARGE, "float32"), np.zeros(LARGE, "float32")
    with CopyingThreads(SIZE) as outer:
        outer.copy(target, source)
        with CopyingThreads(SIZE) as inner:
            inner.copy(np.zeros_like(source), source)
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
