"""A training process is killed at random moments and started again until it ends: the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import resumed_runs

pytestmark = pytest.mark.backend

ROOT = Path(__file__).parents[2]
CHILD = """
import json, os, signal, sys
import keras
from tests.helpers import resumed_runs


class Killed(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if str(batch) == sys.argv[2]:
            os.kill(os.getpid(), signal.SIGKILL)


print("RESULT", json.dumps(resumed_runs.train(sys.argv[1], callbacks=[Killed()])))
"""


def python(*arguments, seconds):
    return subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def start(folder, killed_at):
    """The result, or `None` where the process was killed at that batch first."""
    done = python("-c", CHILD, folder, killed_at, seconds=240)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


@pytest.mark.jax  # which starts soonest; test_backup_and_restore.py has one for each backend
def test_a_process_that_is_killed_and_started_again_ends_with_the_same_bits(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = start(tmp_path / "a", "never")
    assert start(tmp_path / "b", 3) is None
    result = start(tmp_path / "b", "never")
    assert resumed_runs.differing(whole, result) == []


@pytest.mark.slow
@pytest.mark.timeout(3700)
@pytest.mark.parametrize("kind", list(resumed_runs.INPUTS))
def test_runs_that_are_killed_at_random_moments_end_with_the_same_bits(tmp_path, kind):
    if resumed_runs.missing(kind):
        pytest.skip(f"needs {', '.join(resumed_runs.missing(kind))}")
    runs = int(os.environ.get("KCP_KILLED_RUNS", "50"))
    program = ("-m", "tests.crash.killed_runs", kind, "--runs", runs, "--folder", tmp_path)
    done = python(*program, seconds=3600)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    figures = json.loads(done.stdout)
    assert figures["kills"] >= runs // 2, "the moments are not those of this machine"
    assert figures["wrong"] == {}
    assert figures["equal"] == runs
