"""The folder of a run's snapshots: what is replaced, what goes first, and who may use it."""

from __future__ import annotations

import errno
import os

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.callbacks import _run_store
from keras_callbacks_plus.callbacks._run_store import RunStore
from keras_callbacks_plus.cli import main
from keras_callbacks_plus.errors import (
    CheckpointCorruptedError,
    CheckpointWarning,
    ResumeError,
    RunMismatchError,
    StorageError,
)
from keras_callbacks_plus.storage import ContainerPayload, LocalFileSystem, check_snapshot


def tree(epoch, **more):
    return {
        "format": _run_store.FORMAT,
        "time": 0.0,
        "epoch": epoch,
        "epochs": 9,
        "first_epoch": 0,
        "executions": 0,
        "batches_of_epoch": 0,
        "batches": 0,
        "stopped": False,
        "logs": None,
        "model": {"variables": [np.full(100, epoch)], "optimizer": []},
        "metrics": None,
        "rates": None,
        "random": {},
        "input": {},
        "callbacks": [],
        "start": None,
        "fingerprint": {"callbacks": []},
        **more,
    }


def commit(store, epoch):
    store.commit(tree(epoch), epoch=epoch, batch=None, before=lambda: None)
    store.wait_until_finished()


def names(folder):
    return sorted(path.name for path in folder.glob("*.kcp"))


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_damaged_snapshot_goes_before_a_whole_one(tmp_path):
    store = RunStore(str(tmp_path))
    for epoch in (1, 2):
        commit(store, epoch)
    damage(tmp_path / "snapshot-000002.kcp")
    store = RunStore(str(tmp_path))
    with pytest.warns(CheckpointWarning, match="before it is used"):
        assert store.newest()["epoch"] == 1
    commit(store, 3)
    assert names(tmp_path) == ["snapshot-000001.kcp", "snapshot-000003.kcp"]
    commit(store, 4)
    assert names(tmp_path) == ["snapshot-000003.kcp", "snapshot-000004.kcp"]


def test_a_damaged_snapshot_that_is_written_anew_is_whole(tmp_path):
    store = RunStore(str(tmp_path))
    for epoch in (1, 2):
        commit(store, epoch)
    damage(tmp_path / "snapshot-000002.kcp")
    store = RunStore(str(tmp_path))
    with pytest.warns(CheckpointWarning):
        store.newest()
    commit(store, 2)
    commit(store, 3)
    assert names(tmp_path) == ["snapshot-000002.kcp", "snapshot-000003.kcp"]


def test_a_file_that_nobody_listed_is_neither_replaced_nor_removed(tmp_path):
    mine = tmp_path / "snapshot-000001.kcp"
    mine.write_text("mine")
    store = RunStore(str(tmp_path))
    commit(store, 1)
    assert names(tmp_path) == ["snapshot-000001-v1.kcp", "snapshot-000001.kcp"]
    assert RunStore(str(tmp_path)).newest()["epoch"] == 1
    commit(store, 1)
    commit(store, 2)
    commit(store, 3)
    assert names(tmp_path) == ["snapshot-000001.kcp", "snapshot-000002.kcp", "snapshot-000003.kcp"]
    store.delete()
    assert mine.read_text() == "mine"


def test_a_run_that_another_process_has_gone_on_with_is_not_trained_from_the_older_one(tmp_path):
    commit(RunStore(str(tmp_path)), 1)
    late = RunStore(str(tmp_path))
    assert late.newest()["epoch"] == 1
    commit(RunStore(str(tmp_path)), 2)
    with pytest.raises(ResumeError, match="Another process has gone on with backup_dir"):
        late.hold()
    assert not (tmp_path / ".run.lock").exists()
    again = RunStore(str(tmp_path))
    assert again.newest()["epoch"] == 2
    again.hold()
    commit(again, 3)
    again.release()


def test_on_a_disk_that_is_read_only_a_finished_run_gives_its_history(tmp_path, monkeypatch):
    whole = fit(tmp_path, delete_checkpoint=False)

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(LocalFileSystem, "lock", refuse)
    again = fit(tmp_path, delete_checkpoint=False)
    assert again.history == whole.history
    assert all(map(np.array_equal, again.model.get_weights(), whole.model.get_weights()))
    with pytest.raises(StorageError, match="read-only"):
        fit(tmp_path, epochs=3, delete_checkpoint=False)


@pytest.mark.parametrize(("number", "passed_over"), [(errno.EIO, True), (errno.EACCES, False)])
def test_what_cannot_be_read_now_is_not_damaged(tmp_path, monkeypatch, number, passed_over):
    """But a sector that is gone is."""
    store = RunStore(str(tmp_path))
    commit(store, 1)
    commit(store, 2)
    real = _run_store.read_container

    def read(path):
        if path.endswith("snapshot-000002.kcp"):
            raise OSError(number, os.strerror(number), path)
        return real(path)

    monkeypatch.setattr(_run_store, "read_container", read)
    if passed_over:
        with pytest.warns(CheckpointWarning, match="before it is used instead"):
            assert RunStore(str(tmp_path)).newest()["epoch"] == 1
    else:
        with pytest.raises(ResumeError, match=r"snapshot-000002.kcp, cannot be read now"):
            RunStore(str(tmp_path)).newest()
    assert names(tmp_path) == ["snapshot-000001.kcp", "snapshot-000002.kcp"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"batches": "1"},
        {"stopped": 0},
        {"callbacks": [{}]},
        {"fingerprint": {}},
        {"model": {"variables": []}},
        {"executions": 3},
    ],
    ids=str,
)
def test_a_container_that_is_no_whole_snapshot_is_passed_over(tmp_path, wrong):
    store = RunStore(str(tmp_path))
    commit(store, 1)
    store.commit(tree(2, **wrong), epoch=2, batch=None, before=lambda: None)
    store.wait_until_finished()
    with pytest.warns(CheckpointWarning, match="no whole snapshot"):
        assert RunStore(str(tmp_path)).newest()["epoch"] == 1


def test_what_is_no_snapshot_is_said_by_the_command_line(tmp_path, capsys):
    for content in ({"format": _run_store.FORMAT}, [1], {}):
        with open(tmp_path / "a", "wb") as file:
            ContainerPayload(content).write_to(file)
        assert main(["inspect", str(tmp_path / "a")]) == 2
        assert "snapshot of a run" in capsys.readouterr().err
    with pytest.raises(ResumeError, match="has format 1"):
        check_snapshot({"format": 1}, "a")
    with pytest.raises(CheckpointCorruptedError):
        check_snapshot(3, "a")


class Boom(Exception):
    """The tests' own failure."""


class Calls(keras.callbacks.Callback):
    def __init__(self, epoch=None, function=None):
        super().__init__()
        self.epoch, self.function = epoch, function

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.function()


def fail():
    raise Boom


def fit(folder, epochs=2, at=None, function=fail, rate=0.01, model=None, **more):
    if model is None:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(rate), "mse")
    backup = kcp.BackupAndRestore(folder, **more)
    x = np.ones((8, 4), "float32")
    callbacks = [backup, Calls(at, function), keras.callbacks.TerminateOnNaN()]
    return model.fit(x, x[:, :1], batch_size=4, epochs=epochs, verbose=0, callbacks=callbacks)


def test_a_second_fit_of_a_script_does_not_pass_for_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(_run_store, "_FINISHED", _run_store.Counter())
    fit(tmp_path)
    with pytest.raises(Boom):
        fit(tmp_path, epochs=4, at=1)
    monkeypatch.setattr(_run_store, "_FINISHED", _run_store.Counter())  # a process that is new
    with pytest.raises(RunMismatchError, match=r"was 1, is 0\nGive each `fit` .* of its own"):
        fit(tmp_path)
    with pytest.raises(RunMismatchError):
        fit(tmp_path, epochs=4)
    monkeypatch.setattr(_run_store, "_FINISHED", _run_store.Counter({str(tmp_path): 1}))
    assert fit(tmp_path, epochs=4).epoch == [0, 1, 2, 3]


def test_two_fits_of_one_model_in_a_cell_that_is_run_again(tmp_path):
    fit(tmp_path)
    before = fit(tmp_path).model
    with pytest.raises(Boom):
        fit(tmp_path, epochs=4, at=1, model=before)
    with pytest.raises(RunMismatchError, match=r"before the run: was 4, is 0\nGive each `fit`"):
        fit(tmp_path)
    assert fit(tmp_path, epochs=4, model=before).epoch == [0, 1, 2, 3]  # the same model, again


def test_a_folder_in_use_is_refused(tmp_path):
    def again():
        with pytest.raises(ResumeError, match="name another `backup_dir`"):
            fit(tmp_path)

    fit(tmp_path, at=0, function=again, delete_checkpoint=False)
    assert not (tmp_path / ".run.lock").exists()
    with pytest.raises(Boom):
        fit(tmp_path, epochs=4, at=2)
    assert not (tmp_path / ".run.lock").exists()


def test_a_run_that_ended_in_nan_is_kept_however_often_it_is_started(tmp_path):
    losses = [fit(tmp_path, epochs=4, rate=1e30).history["loss"] for _ in range(3)]
    assert not np.isfinite(losses[0][-1])
    assert str(losses[0]) == str(losses[1]) == str(losses[2])
    assert len(list(tmp_path.glob("*.kcp"))) >= 1
