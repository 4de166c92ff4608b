"""Leaving `fit` in time: signals, the budget of time, and what a scheduler sees."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.callbacks import _backup_and_restore


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Sends(keras.callbacks.Callback):
    """Sends a signal to its own process in a batch of the second epoch."""

    def __init__(self, number):
        super().__init__()
        self.number, self.epoch = number, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.number is not None and self.epoch == 1 and batch == 1:
            os.kill(os.getpid(), self.number)


def fit(folder, number=None, epochs=3, backup=None, **more):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((32, 4)).astype("float32")
    backup = backup or kcp.BackupAndRestore(folder, delete_checkpoint=False, **more)
    callbacks = [backup, Sends(number)]
    history = model.fit(x, x.sum(1), batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)
    weights = [np.array(w) for w in model.get_weights()]
    return history.history["loss"], weights


def same(one, other):
    return one[0] == other[0] and all(map(np.array_equal, one[1], other[1]))


def test_sigterm_saves_at_the_end_of_the_batch_and_asks_to_be_started_again(tmp_path):
    whole = fit(tmp_path / "a", save_before_preemption=True)
    before = signal.getsignal(signal.SIGTERM)
    backup = kcp.BackupAndRestore(
        tmp_path / "b", delete_checkpoint=False, save_before_preemption=True
    )
    with pytest.raises(SystemExit) as left:
        fit(tmp_path / "b", signal.SIGTERM, backup=backup)
    assert left.value.code == backup.exit_status == 75
    assert backup.stop_reason == "caught SIGTERM; saved in epoch 1 after 2 batches"
    assert signal.getsignal(signal.SIGTERM) is before
    assert (tmp_path / "b" / "snapshot-000001-00000002.kcp").exists()
    assert same(fit(tmp_path / "b", save_before_preemption=True), whole)


def test_a_handler_that_was_there_before_is_called_after_the_snapshot(tmp_path):
    seen = []

    def handler(number, frame):
        seen.append([number, sorted(p.name for p in tmp_path.glob("*-00000002.kcp"))])

    signal.signal(signal.SIGTERM, handler)
    with pytest.raises(SystemExit):
        fit(tmp_path, signal.SIGTERM, save_before_preemption=["SIGTERM"])
    assert seen == [[signal.SIGTERM, ["snapshot-000001-00000002.kcp"]]]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_ctrl_c_stays_a_keyboard_interrupt(tmp_path):
    whole = fit(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b", signal.SIGINT, save_before_preemption=[signal.SIGINT])
    assert (tmp_path / "b" / "snapshot-000001-00000002.kcp").exists()
    assert same(fit(tmp_path / "b"), whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(tmp_path):
    whole = fit(tmp_path / "a")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert same(fit(tmp_path / "b", signal.SIGTERM, save_before_preemption=True), whole)


def test_without_the_argument_nothing_is_caught(tmp_path):
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append(sorted(tmp_path.glob("*-0000*-*.kcp"))))
    fit(tmp_path, signal.SIGTERM)
    assert seen == [[]]


def test_max_time_saves_and_leaves_and_every_start_gets_further(tmp_path, monkeypatch):
    whole = fit(tmp_path / "a")
    ticks = itertools.count()
    monkeypatch.setattr(_backup_and_restore.time, "monotonic", lambda: float(next(ticks)))
    results, starts = [], 0
    while not results:
        starts += 1
        assert starts < 50, "it does not get further"
        backup = kcp.BackupAndRestore(tmp_path / "b", delete_checkpoint=False, max_time="9 s")
        with contextlib.suppress(SystemExit):
            results.append(fit(tmp_path / "b", backup=backup))
        assert results or backup.stop_reason.startswith("max_time is used up")
    assert starts > 2
    assert backup.stop_reason is None
    assert same(results[0], whole)
