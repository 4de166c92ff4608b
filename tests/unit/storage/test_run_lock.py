"""The lock of a whole run: one process has it, and it goes with the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

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
