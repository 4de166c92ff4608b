"""Files are written slowly beside a real `fit`, and at once wherever somebody waits for them.

Rests last for days here: a test in which one is waited for does not end.
"""

from __future__ import annotations

import os
import signal

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.storage import pace
from keras_callbacks_plus.storage.pace import Pace

pytestmark = [pytest.mark.backend, pytest.mark.timeout(240)]

WIDTH = 1200  # 17 MB with Adam: some pieces of a file, with rests between
BATCHES = 2


@pytest.fixture(autouse=True)
def rests(monkeypatch):
    """How long each rest was to be."""
    found, made = [], []
    init = Pace.__init__

    def told(self, *arguments):
        init(self, *arguments)
        made.append(self)
        wait = self._hurry.wait
        self._hurry.wait = lambda seconds: (found.append(seconds), wait(seconds))

    monkeypatch.setattr(Pace, "__init__", told)
    monkeypatch.setattr(pace, "_SLOWER", 1e8)
    monkeypatch.setattr(pace, "_SHARE", 1e9)
    yield found
    for each in made:  # also where a test has failed
        each.hurry()


class LeavesAt(keras.callbacks.Callback):
    """Does something in the last batch of an epoch."""

    def __init__(self, epoch, how):
        super().__init__()
        self.leave_in, self.how, self.epoch = epoch, how, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.leave_in, BATCHES - 1):
            self.how()


def fit(callbacks, epochs=2):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(WIDTH)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((4 * BATCHES, WIDTH)).astype("float32")
    model.fit(x, x, batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


def checkpoint(folder, **more):
    return kcp.ModelCheckpoint(
        os.path.join(folder, "{epoch}.weights.h5"), save_weights_only=True, **more
    )


def names(folder):
    return [os.path.basename(item.path) for item in kcp.checkpoints(folder)]


def test_the_next_save_and_the_end_of_fit(tmp_path, rests):
    fit([checkpoint(tmp_path)], epochs=3)
    assert names(tmp_path) == ["1.weights.h5", "2.weights.h5", "3.weights.h5"]
    assert len(rests) >= 3
    assert min(rests) > 1000  # seconds: whoever had waited for one would be here no more
    assert all(item.verify() is None for item in kcp.checkpoints(tmp_path))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("more", [{}, {"save_on_exception": True}])
def test_an_exception(tmp_path, rests, error, more):
    def leave():
        raise error

    with pytest.raises(error):
        fit([checkpoint(tmp_path, **more), LeavesAt(1, leave)])
    assert names(tmp_path)[0] == "1.weights.h5"
    assert len(names(tmp_path)) == 1 + len(more)
    assert rests


def test_somebody_waits_for_it(tmp_path, rests):
    saver = checkpoint(tmp_path)
    seen = []

    def wait():
        saver.wait_until_finished()
        seen.extend(names(tmp_path))

    fit([saver, LeavesAt(1, wait)])
    assert seen == ["1.weights.h5"]
    assert rests


def test_snapshots(tmp_path, rests):
    fit([kcp.BackupAndRestore(tmp_path, delete_checkpoint=False)], epochs=3)
    assert len(rests) >= 3


def test_snapshots_and_the_checkpoints_that_they_wait_for(tmp_path, rests):
    saver = checkpoint(tmp_path / "best")
    backup = kcp.BackupAndRestore(tmp_path / "run", delete_checkpoint=False)
    fit([saver, backup], epochs=3)
    assert names(tmp_path / "best") == ["1.weights.h5", "2.weights.h5", "3.weights.h5"]
    assert len(rests) >= 4


def test_a_signal_that_asks_to_leave(tmp_path, rests):
    handler = signal.getsignal(signal.SIGTERM)
    saver = checkpoint(tmp_path / "best")
    backup = kcp.BackupAndRestore(tmp_path / "run", save_before_preemption=True)
    try:
        with pytest.raises(SystemExit) as left:
            fit([saver, backup, LeavesAt(1, lambda: os.kill(os.getpid(), signal.SIGTERM))])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert left.value.code == 75
    assert rests
    again = kcp.BackupAndRestore(tmp_path / "run", save_before_preemption=True)
    fit([checkpoint(tmp_path / "best"), again, LeavesAt(1, lambda: None)])
    assert names(tmp_path / "best") == ["1.weights.h5", "2.weights.h5"]


def test_in_the_hook_and_in_an_object_store_nothing_rests(tmp_path, rests):
    pytest.importorskip("fsspec")
    fit([checkpoint(tmp_path, save_on_background=False)])
    fit([checkpoint("memory://paced")])
    assert names(tmp_path) == ["1.weights.h5", "2.weights.h5"]
    assert len(kcp.checkpoints("memory://paced")) == 2
    assert rests == []
