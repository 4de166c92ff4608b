"""Locks: one process has them, and they go with the process, or when they are given back."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from keras_callbacks_plus.errors import StorageError
from keras_callbacks_plus.storage import CheckpointStore, LocalFileSystem
from tests.helpers.checkpoint_folder import commit

CHILD = """
import sys
from keras_callbacks_plus.storage import LocalFileSystem
print("held" if LocalFileSystem().hold(sys.argv[1]) else "refused", flush=True)
sys.stdin.read()
"""


LOCKING_CHILD = """
import sys
from keras_callbacks_plus.storage import LocalFileSystem
with LocalFileSystem().lock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def child_with_lock(path):
    return child(path, LOCKING_CHILD)


def child(path, program=CHILD):
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_one_has_it_and_gives_it_back(tmp_path):
    path = tmp_path / "lock"
    give_back = LocalFileSystem().hold(str(path))
    assert LocalFileSystem().hold(str(path)) is None
    with child(path) as other:
        assert other.stdout.readline() == "refused\n"
        other.stdin.close()
    give_back()
    assert not path.exists()
    LocalFileSystem().hold(str(path))()


def test_a_killed_process_has_it_no_more(tmp_path):
    path = tmp_path / "lock"
    with child(path) as other:
        assert other.stdout.readline() == "held\n"
        assert LocalFileSystem().hold(str(path)) is None
        other.send_signal(signal.SIGKILL)
    LocalFileSystem().hold(str(path))()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # forking is what is tested
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")  # the same, as JAX says it
def test_what_is_given_back_is_free_though_a_forked_worker_lives_on(tmp_path):
    """The workers of a `DataLoader` are forked while a snapshot is being written."""
    files, path, written = LocalFileSystem(), str(tmp_path / "lock"), str(tmp_path / "written")
    reading, writing = os.pipe()
    with files.lock(path):
        descriptor = files.create(written)
        worker = os.fork()
        if worker == 0:
            os.close(writing)
            os.read(reading, 1)  # until the other end is closed
            os._exit(0)
        assert files.is_locked(path)
        assert files.is_locked(written)
        files.close(descriptor)
    try:
        assert not files.is_locked(path)
        assert not files.is_locked(written)  # or Keras could not read it
        assert os.waitpid(worker, os.WNOHANG) == (0, 0)  # it lives
    finally:
        os.close(reading)
        os.close(writing)
        os.waitpid(worker, 0)


# ------------------------------------------------------------------ a file system without locks

WITHOUT_LOCKS = ("ENOLCK", "ENOSYS", "ENOTSUP")


@pytest.fixture(params=WITHOUT_LOCKS)
def without_locks(request, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="this system has other locks")

    def refuse(*arguments):
        number = getattr(errno, request.param)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)


def both_inside(path, meanwhile=lambda: None):
    """Which of two threads had the lock, in their order, and what each was told."""
    order = []
    asks = threading.Event()

    def other():
        asks.set()
        with LocalFileSystem().lock(path) as is_alone:
            order.append(("other", is_alone))

    with LocalFileSystem().lock(path) as is_alone:
        meanwhile()
        thread = threading.Thread(target=other)
        thread.start()
        asks.wait()
        thread.join(0.2)  # it would have ended by then; the right code stays the whole time
        order.append(("first", is_alone))
    thread.join()
    return order


@pytest.mark.usefixtures("without_locks")
def test_without_locks_the_threads_of_a_process_are_kept_apart(tmp_path):
    assert both_inside(str(tmp_path / "lock")) == [("first", False), ("other", False)]


def test_threads_are_kept_apart_where_locks_come_and_go(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="this system has other locks")

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    order = both_inside(
        str(tmp_path / "lock"), meanwhile=lambda: monkeypatch.setattr(fcntl, "flock", refuse)
    )
    assert order == [("first", True), ("other", False)]


def test_a_lock_that_is_refused_is_not_taken_for_one(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="this system has other locks")

    def refuse(*arguments):
        raise OSError(errno.EDEADLK, "Resource deadlock avoided")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StorageError, match="Its lock is refused"):
        commit(tmp_path, "1.keras")


def test_who_has_waited_for_a_file_that_is_removed_has_no_lock_of_it(tmp_path):
    """As where a training that has ended removes its folder while another one begins."""
    path = tmp_path / "lock"
    with child_with_lock(path) as other:
        assert other.stdout.readline() == "locked\n"
        entered = threading.Event()

        def wait():
            with LocalFileSystem().lock(str(path)):
                entered.set()
                assert path.exists()
                assert LocalFileSystem().is_locked(str(path))

        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.2)
        path.unlink()
        other.stdin.close()
        thread.join()
    assert entered.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # forking is what is tested
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")  # the same, as JAX says it
@pytest.mark.usefixtures("without_locks")
def test_a_forked_process_does_not_wait_for_a_thread_that_it_has_not(tmp_path):
    path = str(tmp_path / "lock")
    inside, done = threading.Event(), threading.Event()

    def hold():
        with LocalFileSystem().lock(path):
            inside.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    worker = os.fork()
    if worker == 0:
        signal.alarm(20)  # which ends it, where it hangs
        with LocalFileSystem().lock(path):
            os._exit(7)
    _, status = os.waitpid(worker, 0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 7


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_sweep_leaves_what_this_process_writes(tmp_path):
    files = LocalFileSystem()
    mine, old = tmp_path / ".a.keras.1-1.kcp-tmp", tmp_path / ".b.keras.1-2.kcp-tmp"
    descriptor = files.create(str(mine))
    os.close(files.create(str(old)))  # as a process that was killed leaves it
    files.close(files.create(str(tmp_path / "next")))  # the same number: what it was is forgotten
    CheckpointStore(tmp_path).recover()
    assert mine.exists()
    assert not old.exists()
    files.close(descriptor)
    CheckpointStore(tmp_path).recover()
    assert not mine.exists()


@pytest.mark.usefixtures("without_locks")
def test_without_locks_it_is_said_and_saving_works(tmp_path):
    store = CheckpointStore(tmp_path)
    (fact,) = store.recover()
    assert str(tmp_path) in fact
    assert "no locks" in fact
    commit(store, "1.keras", {"val_loss": 0.5})
    (record,) = CheckpointStore(tmp_path).records()
    store.verify(record)


def test_with_locks_there_is_nothing_to_say(tmp_path):
    assert CheckpointStore(tmp_path).recover() == []
    with LocalFileSystem().lock(str(tmp_path / "lock")) as is_alone:
        assert is_alone
