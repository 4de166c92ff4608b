"""Locks: one process has them, and they go with the process, or when they are given back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from keras_callbacks_plus.storage import LocalFileSystem

CHILD = """
import sys
from keras_callbacks_plus.storage import LocalFileSystem
print("held" if LocalFileSystem().hold(sys.argv[1]) else "refused", flush=True)
sys.stdin.read()
"""


def child(path):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
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
