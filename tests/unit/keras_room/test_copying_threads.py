"""Copying with several threads gives what copying with one would, and leaves nothing behind."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from keras_callbacks_plus._keras import copying_threads
from keras_callbacks_plus._keras.copying_threads import CopyingThreads

LARGE = 5 << 20  # float32 elements: several jobs


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No new thread, and the interpreter's switch interval as it was."""
    interval, threads = sys.getswitchinterval(), set(threading.enumerate())
    yield
    # a fit of another test may have left threads: Keras keeps a pool for its callbacks
    assert set(threading.enumerate()) <= threads
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
    sources = [random.normal(size=shape).astype("float32") for shape in shapes]
    sources.append(np.asfortranarray(random.normal(size=(1500, 1300))))
    targets = [np.full(source.shape, np.nan, source.dtype) for source in sources]
    with CopyingThreads() as threads:
        for target, source in zip(targets, sources, strict=True):
            threads.copy(target, source)
            threads.catch_up()
    for target, source in zip(targets, sources, strict=True):
        np.testing.assert_array_equal(target, source)


def test_copies_are_made_while_the_block_is_run(cores):
    source, target = np.ones(LARGE, "float32"), np.zeros(LARGE, "float32")
    with CopyingThreads() as threads:
        threads.copy(target, source)
        threads.start()
        while not target.all():  # by this thread's doing, it never would be: a time limit ends it
            pass
    assert target.all()


def test_where_no_thread_can_be_started_one_copies_all(monkeypatch, cores):
    def submit(self, *arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(copying_threads.ThreadPoolExecutor, "submit", submit)
    source = np.random.default_rng(0).normal(size=LARGE).astype("float32")
    target = np.zeros_like(source)
    with CopyingThreads() as threads:
        threads.copy(target, source)
    np.testing.assert_array_equal(target, source)


def test_an_error_in_a_thread_is_raised_at_the_end(cores):
    target = np.zeros(LARGE, "float16")  # of another type than the source
    with pytest.raises(TypeError, match="Cannot cast"), CopyingThreads() as threads:
        threads.copy(target, np.zeros(LARGE, "float32"))


def test_an_error_in_the_block_is_not_waited_for(cores):
    class UserError(Exception):
        pass

    source, target = np.ones(LARGE, "float32"), np.zeros(LARGE, "float32")

    def fail():
        with CopyingThreads() as threads:
            threads.copy(target, source)
            raise UserError

    with pytest.raises(UserError):
        fail()


def test_little_is_waiting_after_catching_up(monkeypatch, cores):
    cores(1)  # no helpers, so that it is known who copies
    monkeypatch.setattr(copying_threads, "_WAITING_JOBS", 2)
    source, target = np.ones(LARGE, "float32"), np.zeros(LARGE, "float32")
    with CopyingThreads() as threads:
        threads.copy(target, source)
        assert not target.any()
        threads.catch_up()
        assert np.count_nonzero(target) * 4 >= target.nbytes - 2 * copying_threads._JOB


def test_two_blocks_at_once_give_the_interval_back_when_both_have_ended(cores):
    before = sys.getswitchinterval()
    source, target = np.ones(LARGE, "float32"), np.zeros(LARGE, "float32")
    with CopyingThreads() as outer:
        outer.copy(target, source)
        with CopyingThreads() as inner:
            inner.copy(np.zeros_like(source), source)
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
