"""The writer thread: that it gives way to training, and that nothing hangs without it."""

from __future__ import annotations

import errno
import os
import sys
import threading

import pytest

from keras_callbacks_plus.errors import BackgroundWriteError
from keras_callbacks_plus.storage import BackgroundWriter


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_it_gives_way_and_leaves_the_priority_of_others_alone():
    before, seen = niceness(), []
    writer = BackgroundWriter("things")
    writer.submit(lambda: seen.append(niceness()))
    writer.wait_until_finished()
    assert seen == [max(15, before)]
    assert niceness() == before


def test_where_the_priority_may_not_be_changed_it_writes_all_the_same(monkeypatch):
    def refuse(*_arguments):
        raise PermissionError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "setpriority", refuse, raising=False)
    writer, done = BackgroundWriter("things"), []
    writer.submit(lambda: done.append(1))
    writer.wait_until_finished()
    assert done == [1]


@pytest.mark.timeout(30)  # it used to wait for ever
def test_a_thread_that_cannot_be_started_is_an_error_and_no_wait(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    writer, done = BackgroundWriter("things"), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BackgroundWriteError, match="things .* can't start new thread"):
            writer.submit(lambda: done.append("never"))
        writer.drain()
    writer.submit(lambda: done.append("again"))
    writer.wait_until_finished()
    assert done == ["again"]


@pytest.mark.timeout(30)
def test_the_thread_that_trains_goes_on_before_the_job_begins(monkeypatch):
    """A job begins with work of Python's, which would keep the interpreter for itself."""
    events, started = [], threading.Event()
    start = threading.Thread.start

    def slow_start(thread):
        start(thread)
        started.wait(0.2)  # ample time for a job that did not wait
        events.append("submitted")

    def job():
        events.append("job")
        started.set()

    writer = BackgroundWriter("things")
    monkeypatch.setattr(threading.Thread, "start", slow_start)
    writer.submit(job)
    writer.wait_until_finished()
    assert events == ["submitted", "job"]


@pytest.mark.timeout(30)
def test_a_job_whose_start_was_interrupted_is_done_all_the_same(monkeypatch):
    start, done = threading.Thread.start, []

    def interrupted(thread):
        start(thread)
        raise KeyboardInterrupt

    writer = BackgroundWriter("things")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.submit(lambda: done.append(1))
    writer.wait_until_finished()
    assert done == [1]
