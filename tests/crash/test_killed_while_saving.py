"""SIGKILL while a model is saved at every batch: what is left is whole and is what was promised."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_callbacks_plus.storage import CheckpointStore
from keras_callbacks_plus.storage.atomic import is_staging_name

ROOT = Path(__file__).parents[2]
MANY = "{epoch}-{batch}-{loss:.6f}.weights.h5"
NAME = re.compile(r"\d+-\d+-(\d+\.\d+)\.weights\.h5")
ONE = "latest.keras"


def run_child(folder, *, name=MANY, kill_at=-1, kill_after=None):
    """Runs the child until it is killed: by itself, or so many seconds after its first save."""
    program = str(ROOT / "tests" / "crash" / "saving_child.py")
    with subprocess.Popen(
        [sys.executable, program, folder, str(kill_at), name],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as child:
        line = child.stdout.readline()
        assert line == "SAVING\n", f"the child ended with {child.wait()}"
        try:
            child.wait(timeout=kill_after)
        except subprocess.TimeoutExpired:
            child.kill()
    assert child.returncode == -signal.SIGKILL


def values(path):
    found = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda _, x: found.append(x[()]) if isinstance(x, h5py.Dataset) else None)
    return found


def assert_whole(folder):
    """The manifest names every file, every file is as committed, and the best and newest load."""
    store = CheckpointStore(folder)
    facts = store.recover()
    assert facts == []
    records = store.records()
    assert {r.path for r in records} == {f for f in os.listdir(folder) if NAME.fullmatch(f)}
    assert not [f for f in os.listdir(folder) if is_staging_name(f)]
    assert len(records) >= 1
    for record in records:
        store.verify(record)
        assert float(NAME.fullmatch(record.path)[1]) == pytest.approx(record.metrics["loss"], 1e-5)
    newest = records[-1]
    best = min(records, key=lambda r: r.metrics["loss"])
    for record in (newest, best):
        arrays = values(store.path_of(record))
        assert sum(a.nbytes for a in arrays) > 19_000_000
        assert all(np.isfinite(a).all() for a in arrays)
    return best.metrics["loss"]


def assert_one_whole(folder):
    """There is one file, which is as committed, and Keras loads it."""
    store = CheckpointStore(folder)
    assert store.recover() == []
    (record,) = store.records()
    assert [f for f in os.listdir(folder) if is_staging_name(f) or f.endswith(".keras")] == [ONE]
    store.verify(record)
    model = keras.saving.load_model(store.path_of(record))
    assert int(model.optimizer.iterations) == record.step
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def kill_at_random_moments(folder, times, seed):
    moments = random.Random(seed)
    best = float("inf")
    for _ in range(times):
        run_child(folder, kill_after=moments.uniform(0.0, 0.6))
        now = assert_whole(folder)
        assert now <= best  # the best ever is never lost, over all the processes
        best = now


@pytest.mark.jax  # which starts soonest; the files are written without the backend
def test_killed_at_random_moments(tmp_path):
    kill_at_random_moments(str(tmp_path), times=3, seed=1)


def kill_while_one_file_is_replaced(folder, times, seed):
    moments = random.Random(seed)
    for _ in range(times):
        run_child(folder, name=ONE, kill_after=moments.uniform(0.0, 0.6))
        assert_one_whole(folder)


@pytest.mark.jax
def test_killed_while_one_file_is_replaced(tmp_path):
    kill_while_one_file_is_replaced(str(tmp_path), times=3, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_killed_at_100_random_moments_while_one_file_is_replaced(tmp_path):
    kill_while_one_file_is_replaced(str(tmp_path), times=100, seed=4)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_killed_at_200_random_moments(tmp_path):
    kill_at_random_moments(str(tmp_path), times=200, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_every_disk_operation_of_several_saves(tmp_path):
    for number in range(60):  # a save is about twenty
        run_child(str(tmp_path / "many"), kill_at=number)
        assert_whole(str(tmp_path / "many"))
        run_child(str(tmp_path / "one"), name=ONE, kill_at=number)
        assert_one_whole(str(tmp_path / "one"))
