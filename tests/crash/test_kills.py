"""A training process is killed at random moments and started again until it ends: the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytestmark = pytest.mark.backend

ROOT = Path(__file__).parents[2]
CHILD = """
import json, os, signal, sys, threading
import keras
from tests.helpers import resumed_runs

folder, kind, seed, when = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


timers = []  # not the callback's: what it holds is kept over a resume
if when.replace(".", "").isdigit():
    timers.append(threading.Timer(float(when), kill))
    timers[0].daemon = True


class Starts(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.batches = 0
        while timers:
            timers.pop().start()

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if when == f"batch {self.batches}":
            kill()


result = resumed_runs.train(folder, kind, seed=seed, callbacks=[Starts()], epochs=3)
del result["charts"]  # bytes; compared where snapshots are
print("RESULT", json.dumps(result))
"""


def start(folder, kind, when, seed):
    """The result, or `None` where the process was killed first.

    It is killed `when` is a number of seconds after its first epoch began, or says a batch of an
    epoch (`"batch 2"`); with `"never"` it is not.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), kind, str(seed), str(when)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def run_with_kills(tmp_path, kind, kills, chance):
    """Another seed for every start that finds a snapshot; on TensorFlow its data follows it."""
    same = keras.backend.backend() == "tensorflow" or kind.startswith("tf")

    def seed(number):
        begun = (tmp_path / "backup" / "checkpoints.json").exists()
        return 50 + number if begun and not same else 1

    hits, result = 0, None
    for number in range(kills):
        result = start(tmp_path, kind, chance.uniform(0.0, 1.0), seed(number))
        hits += result is None
        if result is not None:
            break
    # also after a run that has ended: started again it trains nothing, and ends the same
    return start(tmp_path, kind, "never", seed(kills)), hits


@pytest.mark.jax  # which starts soonest; test_backup_and_restore.py has one for each backend
def test_a_process_that_is_killed_and_started_again_ends_with_the_same_bits(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = start(tmp_path / "a", "arrays", "never", 1)
    assert start(tmp_path / "b", "arrays", "batch 3", 1) is None
    result = start(tmp_path / "b", "arrays", "never", 1)
    assert [name for name in whole if result[name] != whole[name]] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["arrays", "resumable"])
def test_runs_that_are_killed_at_random_moments_end_with_the_same_bits(tmp_path, kind):
    runs = int(os.environ.get("KCP_KILLED_RUNS", "50"))
    chance = random.Random(f"{kind} {keras.backend.backend()}")
    (tmp_path / "whole").mkdir()
    whole = start(tmp_path / "whole", kind, "never", 1)
    hits, wrong = 0, {}
    for number in range(runs):
        folder = tmp_path / f"{number:02d}"
        folder.mkdir()
        result, killed = run_with_kills(folder, kind, 5, chance)
        hits += killed
        differs = [name for name in whole if result[name] != whole[name]]
        if differs:
            wrong[number] = differs
    print(f"{runs} runs of {kind}, {hits} kills that hit")
    assert hits >= runs // 2, "the delays are too long for this machine"
    assert wrong == {}
