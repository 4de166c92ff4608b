"""Leaving `fit` in time: signals, the budget of time, and what a scheduler sees."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.callbacks import _backup_and_restore
from keras_callbacks_plus.errors import InexactResumeWarning, StorageError
from keras_callbacks_plus.storage import LocalFileSystem


@pytest.fixture(autouse=True)
def _handlers():
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in ours}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Sends(keras.callbacks.Callback):
    """Sends signals to its own process in the second batch of an epoch, of training by default."""

    def __init__(self, number=None, epoch=1, testing=False, then=None):
        super().__init__()
        self.numbers = () if number is None else number if isinstance(number, tuple) else (number,)
        self.send_in, self.testing, self.then = epoch, testing, then
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.send(batch, testing=False)

    def on_test_batch_end(self, batch, logs=None):
        self.send(batch, testing=True)

    def send(self, batch, testing):
        if (testing, self.epoch, batch) == (self.testing, self.send_in, 1):
            for number in self.numbers:
                os.kill(os.getpid(), number)
            if self.then is not None:
                self.then(self.model)


def fit(folder, number=None, epochs=3, backup=None, sends=None, validate=False, others=(), **more):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((32, 4)).astype("float32")
    backup = backup or kcp.BackupAndRestore(folder, delete_checkpoint=False, **more)
    callbacks = [backup, Sends(number) if sends is None else Sends(*sends), *others]
    fit_arguments = {"validation_data": (x, x.sum(1))} if validate else {}
    history = model.fit(
        x, x.sum(1), batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks, **fit_arguments
    )
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


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    """Not even for a batch that hangs."""
    reached = []
    sends = [(signal.SIGINT, signal.SIGINT), 1, False, reached.append]
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, sends=sends, save_before_preemption=["SIGINT"])
    assert not reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_copy_in_another_process_has_its_time_from_then_on(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(_backup_and_restore.time, "monotonic", lambda: clock[0])
    backup = kcp.BackupAndRestore(tmp_path, max_time="1 min")
    clock[0] = 5.0  # of another machine, which has started later
    assert pickle.loads(pickle.dumps(backup))._deadline == 65.0
    assert backup._deadline == 160.0


class FullDisk(keras.callbacks.Callback):
    """Another callback, whose writer has failed."""

    def wait_until_finished(self):
        raise StorageError("The disk is full.", "a")


@pytest.mark.parametrize("whose", ["another callback's", "our own"])
def test_what_could_not_be_saved_is_not_said_to_be_and_asks_for_no_other_start(
    tmp_path, monkeypatch, whose
):
    """A scheduler would start it for ever, and it would never get further."""
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    backup = kcp.BackupAndRestore(tmp_path, save_before_preemption=True)
    sends = [signal.SIGTERM, 0]
    if whose == "our own":

        def refuse(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        sends += [False, lambda _: monkeypatch.setattr(LocalFileSystem, "write", refuse)]
    with pytest.raises(StorageError, match="full|No space left") as failure:
        fit(tmp_path, backup=backup, sends=sends, others=[FullDisk()] * (len(sends) == 2))
    assert backup.stop_reason == f"caught SIGTERM; NOT saved: {failure.value}"
    assert seen == [signal.SIGTERM]


def test_a_signal_while_batches_are_passed_over_is_answered_at_once(tmp_path, caplog):
    def batches(send=None):
        x = np.ones((8, 4), "float32")
        for number in range(12):
            if number == send:
                os.kill(os.getpid(), signal.SIGTERM)
            yield x, x[:, :1]

    def fit_batches(send=None, at=None):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        backup = kcp.BackupAndRestore(tmp_path, save_freq=1, save_before_preemption=True)
        stop = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: batch == at and 1 / 0
        )
        with pytest.warns(InexactResumeWarning):  # a generator has no position
            model.fit(batches(send), epochs=1, verbose=0, shuffle=False, callbacks=[backup, stop])

    with pytest.raises(ZeroDivisionError):
        fit_batches(at=9)
    before = sorted(tmp_path.glob("*.kcp"))
    with pytest.raises(SystemExit) as left:
        fit_batches(send=4)  # the first few are taken before `fit` begins
    assert left.value.code == 75
    assert "caught SIGTERM while batches were passed over; the last snapshot" in caplog.text
    assert sorted(tmp_path.glob("*.kcp")) == before


def test_ctrl_c_stays_a_keyboard_interrupt(tmp_path):
    whole = fit(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b", signal.SIGINT, save_before_preemption=[signal.SIGINT])
    assert (tmp_path / "b" / "snapshot-000001-00000002.kcp").exists()
    assert same(fit(tmp_path / "b"), whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(tmp_path, caplog):
    whole = fit(tmp_path / "a")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with caplog.at_level("WARNING", "keras_callbacks_plus"):
        assert same(fit(tmp_path / "b", signal.SIGTERM, save_before_preemption=True), whole)
    assert caplog.text == ""


def test_without_the_argument_nothing_is_caught(tmp_path):
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append(sorted(tmp_path.glob("*-0000*-*.kcp"))))
    fit(tmp_path, signal.SIGTERM)
    assert seen == [[]]


def stop(model):
    model.stop_training = True


def boom(model):
    raise Boom


class Boom(Exception):
    """The tests' own failure."""


def left(folder, sends, **more):
    """Trains until it is left; the callback, and the signals that reached the handlers before."""
    seen = []
    numbers = sends[0] if isinstance(sends[0], tuple) else (sends[0],)
    for number in numbers:
        signal.signal(number, lambda number, frame: seen.append(signal.Signals(number).name))
    backup = kcp.BackupAndRestore(
        folder, delete_checkpoint=more.pop("delete", False), save_before_preemption=numbers
    )
    with pytest.raises(SystemExit) as raised:
        fit(folder, sends=sends, backup=backup, **more)
    assert raised.value.code == 75
    return backup, seen


def test_a_signal_during_validation_is_answered_at_the_end_of_the_epoch(tmp_path):
    whole = fit(tmp_path / "a", validate=True)
    backup, seen = left(tmp_path / "b", (signal.SIGTERM, 1, True), validate=True)
    assert backup.stop_reason == "caught SIGTERM; saved in epoch 1 after 0 batches"
    assert seen == ["SIGTERM"]
    assert same(fit(tmp_path / "b", validate=True), whole)


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize(
    "sends",
    [(signal.SIGTERM, 2, True), (signal.SIGTERM, 0, True, stop)],
    ids=["last epoch", "stopped early"],
)
def test_a_signal_at_the_end_of_the_run_leaves_after_the_run_is_saved(tmp_path, sends, delete):
    backup, seen = left(tmp_path / "b", sends, validate=True, delete=delete)
    assert backup.stop_reason == "caught SIGTERM; the run has ended, and is saved"
    assert seen == ["SIGTERM"]
    whole = fit(tmp_path / "a", validate=True, sends=(None, *sends[1:]))
    again = kcp.BackupAndRestore(tmp_path / "b", delete_checkpoint=delete)
    assert same(fit(tmp_path / "b", validate=True, sends=(None, *sends[1:]), backup=again), whole)
    assert (tmp_path / "b").exists() is not delete


def test_a_signal_in_a_batch_that_fails_is_not_lost(tmp_path):
    backup, seen = left(tmp_path, (signal.SIGTERM, 1, False, boom))
    assert backup.stop_reason.startswith("caught SIGTERM while `fit` failed with Boom")
    assert seen == ["SIGTERM"]


def test_two_signals_in_one_batch_reach_both_handlers(tmp_path):
    backup, seen = left(tmp_path, ((signal.SIGTERM, signal.SIGUSR1), 1, False))
    assert backup.stop_reason == ("caught SIGTERM and SIGUSR1; saved in epoch 1 after 2 batches")
    assert sorted(seen) == ["SIGTERM", "SIGUSR1"]


def test_a_handler_that_raises_does_not_keep_the_signal_from_another(tmp_path):
    seen = []

    def raises(number, frame):
        seen.append(number)
        raise SystemExit(3)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, raises)
    with pytest.raises(SystemExit) as raised:
        fit(
            tmp_path,
            (signal.SIGTERM, signal.SIGUSR1),
            save_before_preemption=["SIGTERM", "SIGUSR1"],
        )
    assert raised.value.code == 3
    assert sorted(seen) == sorted([signal.SIGTERM, signal.SIGUSR1])


def test_ctrl_c_in_the_last_epoch_stays_a_keyboard_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(
            tmp_path, sends=(signal.SIGINT, 2, True), validate=True, save_before_preemption="SIGINT"
        )
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "b", sends=(signal.SIGINT, 2, False, boom))


SCRIPT = """
import os, signal, sys
from tests.integration.test_preemption import fit
number = signal.Signals[sys.argv[2]]
fit(sys.argv[1], sends=(number, int(sys.argv[3]), True), validate=True,
    save_before_preemption=["SIGTERM", "SIGUSR1"])
"""


@pytest.mark.jax  # which starts soonest; the handling is the same
@pytest.mark.parametrize(("name", "epoch"), [("SIGUSR1", "0"), ("SIGTERM", "2")])
def test_a_scheduler_sees_the_status(tmp_path, name, epoch):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), name, epoch],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 75, done.stderr
    assert f"caught {name}" in done.stderr
    assert list(tmp_path.glob("*.kcp"))


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
