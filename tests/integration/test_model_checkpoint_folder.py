"""`ModelCheckpoint` in a folder that others write to, damage or take away; and a new training."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
import warnings
import weakref

import keras
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus import policies
from keras_callbacks_plus.callbacks import _model_series
from keras_callbacks_plus.errors import (
    CheckpointWarning,
    InvalidArgumentError,
    StorageError,
)
from keras_callbacks_plus.storage import CheckpointStore
from keras_callbacks_plus.storage.filesystem import LocalFileSystem
from tests.helpers.trainings import forget_what_was_trained
from tests.integration.test_model_checkpoint import files, new_model, no_room_for, train

pytestmark = pytest.mark.backend


def best_weights(folder, **arguments):
    return kcp.ModelCheckpoint(
        folder / arguments.pop("name", "best.weights.h5"),
        save_best_only=True,
        save_weights_only=True,
        **arguments,
    )


def scores(folder):
    return {r.path: r.metrics["val_loss"] for r in CheckpointStore(folder).records()}


def each_epoch(epoch, action):
    """A callback that does something at the beginning of one epoch."""
    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda now, logs: action() if now == epoch else None
    )


def said_by(action):
    """All that is warned of."""
    with pytest.warns(CheckpointWarning) as said:
        action()
    return " ".join(str(w.message) for w in said)


# ------------------------------------------------------------------ two writers


class Held:
    """Holds the first write of a background thread until it is let go."""

    def __init__(self, monkeypatch):
        self.may_go = threading.Event()
        self.is_held = threading.Event()
        sync = LocalFileSystem.sync

        def held(files, descriptor):
            if threading.current_thread().name.startswith("kcp") and not self.is_held.is_set():
                self.is_held.set()
                self.may_go.wait()
            return sync(files, descriptor)

        monkeypatch.setattr(LocalFileSystem, "sync", held)


def begin(checkpoint, model):
    checkpoint.set_params({})
    checkpoint.set_model(model)
    checkpoint.on_train_begin()


def save(checkpoint, value, epoch=0):
    checkpoint.on_epoch_begin(epoch)
    checkpoint.on_epoch_end(epoch, {"val_loss": value})


def two_writers(monkeypatch, one, other):
    """`one` decides on 0.5 and writes it; meanwhile `other` commits 0.1; then `one` goes on."""
    held = Held(monkeypatch)
    begin(one, new_model(1))
    save(one, 0.5)
    held.is_held.wait()
    forget_what_was_trained()
    begin(other, new_model(2))
    save(other, 0.1)
    other.on_train_end()
    held.may_go.set()
    one.on_train_end()


def test_a_worse_model_that_was_slower_does_not_replace_a_better_file(tmp_path, monkeypatch):
    one, other = best_weights(tmp_path), best_weights(tmp_path)
    with pytest.warns(CheckpointWarning, match="was not kept, as things had changed: val_loss did"):
        two_writers(monkeypatch, one, other)
    assert scores(tmp_path) == {"best.weights.h5": 0.1}
    assert files(tmp_path) == ["best.weights.h5"]
    assert one.best == other.best == 0.1
    line = next(x for x in CheckpointStore(tmp_path).ledger() if x.action == "refused")
    assert line.reason == "val_loss did not improve from 0.10000"


def test_a_slower_writer_takes_another_name_where_its_own_is_taken(tmp_path, monkeypatch):
    one, other = (
        best_weights(tmp_path, name="{epoch:02d}.weights.h5", max_to_keep=2) for _ in range(2)
    )
    two_writers(monkeypatch, one, other)
    assert scores(tmp_path) == {"01.weights.h5": 0.1, "01-v1.weights.h5": 0.5}
    assert one.best == 0.1


def test_one_folder_under_two_names_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    twin = kcp.ModelCheckpoint("runs/../runs/best.keras")
    with pytest.raises(InvalidArgumentError, match="another one for each ModelCheckpoint"):
        train([0.5], kcp.ModelCheckpoint(tmp_path / "runs" / "best.keras"), twin)


# ------------------------------------------------------------------ a new training, or the same


def test_a_file_is_there_when_somebody_has_waited_for_it(tmp_path, monkeypatch):
    held, seen = Held(monkeypatch), []
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras")

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            held.is_held.wait()
            seen.append(files(tmp_path))
            held.may_go.set()
            checkpoint.wait_until_finished()
            seen.append(sorted(os.listdir(tmp_path)))

    train([0.5], checkpoint, Look())
    assert seen == [[], [".checkpoints.lock", "1.keras", "checkpoints.json"]]


def test_each_fold_of_a_cross_validation_has_its_own_best(tmp_path):
    kept = []
    for values in ([0.5, 0.1], [0.9, 0.8]):
        checkpoint = best_weights(tmp_path)
        train(values, checkpoint)
        kept.append((checkpoint.best, scores(tmp_path)))
    assert kept == [(0.1, {"best.weights.h5": 0.1}), (0.8, {"best.weights.h5": 0.8})]


def test_the_files_of_an_earlier_fold_stay_under_names_of_their_own(tmp_path):
    for fold, value in enumerate((0.1, 0.9)):
        keras.utils.set_random_seed(fold)
        name = "{val_loss:.1f}.weights.h5"
        train([value, value + 0.05], best_weights(tmp_path, name=name, max_to_keep=1))
    assert scores(tmp_path) == {"0.1.weights.h5": 0.1, "0.9.weights.h5": 0.9}


def test_a_model_that_was_trained_before_goes_on_with_the_ranking(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    train([0.5, 0.1], checkpoint)
    loaded = keras.models.load_model(tmp_path / "best.keras")
    again = kcp.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    train([0.9, 0.8], again, model=loaded)
    assert again.best == 0.1
    assert scores(tmp_path) == {"best.keras": 0.1}


class Fails(keras.callbacks.Callback):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.after:
            raise ZeroDivisionError


@pytest.mark.parametrize("another_process", [True, False])
def test_a_resumed_run_goes_on_with_its_own_ranking(tmp_path, another_process):
    def fold(*, fails_after=None):
        checkpoint = best_weights(tmp_path)
        backup = kcp.BackupAndRestore(tmp_path / "backup")
        train([0.5, 0.3, 0.4, 0.4], checkpoint, backup, Fails(fails_after))
        return checkpoint

    train([0.05], best_weights(tmp_path))  # of an earlier fold, and better than all that follow
    with pytest.raises(ZeroDivisionError):
        fold(fails_after=2)
    assert scores(tmp_path) == {"best.weights.h5": 0.3}
    before = (tmp_path / "best.weights.h5").read_bytes()
    if another_process:
        forget_what_was_trained()
    resumed = fold()
    assert resumed.best == 0.3
    assert (tmp_path / "best.weights.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("lost", "best"), [("the manifest", "0.30.weights.h5"), ("everything", "0.35.weights.h5")]
)
@pytest.mark.parametrize("resumed", [True, False])
def test_a_later_fold_that_loses_its_manifest_goes_on_with_its_own_ranking(
    tmp_path, lost, best, resumed
):
    folder = tmp_path / "checkpoints"

    def fold(values, *callbacks):
        name = "{val_loss:.2f}.weights.h5"
        checkpoint = best_weights(folder, name=name, max_to_keep=1, save_on_background=False)
        train(values, checkpoint, *callbacks)
        return checkpoint

    def lose():
        for name in os.listdir(folder):
            if lost == "everything" or name == "checkpoints.json":
                os.remove(folder / name)

    values = [0.5, 0.3, 0.4, 0.35]
    fold([0.05, 0.04, 0.03])  # an earlier one, and better than all that follow
    with warnings.catch_warnings():  # where something is left, that it was found is said
        warnings.simplefilter("ignore", CheckpointWarning)
        if resumed:
            with pytest.raises(ZeroDivisionError):
                fold(values, kcp.BackupAndRestore(tmp_path / "backup"), Fails(2))
            lose()
            last = fold(values, kcp.BackupAndRestore(tmp_path / "backup"), Fails(None))
        else:
            last = fold(values, each_epoch(2, lose))
    assert last.best == float(best[:4])
    assert set(scores(folder)) - {"0.03.weights.h5"} == {best}


@pytest.mark.parametrize("arguments", [{}, {"max_to_keep": 1}])
@pytest.mark.parametrize("ending", ["an exception", "no epochs"])
def test_a_model_that_was_not_trained_takes_the_place_of_none(tmp_path, arguments, ending):
    name = "model.keras" if not arguments else "{epoch}.keras"

    def checkpoint():
        return kcp.ModelCheckpoint(
            tmp_path / name, save_on_train_end=True, save_on_exception=True, **arguments
        )

    train([0.5, 0.4], checkpoint())
    before = {f: (tmp_path / f).read_bytes() for f in files(tmp_path)}
    forget_what_was_trained()
    if ending == "an exception":
        wrong = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train([0.3], checkpoint(), wrong)
    else:
        train([], checkpoint())
    assert {f: (tmp_path / f).read_bytes() for f in files(tmp_path)} == before


def test_a_ranking_that_is_taken_up_is_said(tmp_path, capsys):
    train([0.5, 0.1], best_weights(tmp_path))
    forget_what_was_trained()
    train([0.9], best_weights(tmp_path, verbose=1))
    said = capsys.readouterr().out
    assert f"goes on with the 1 checkpoint in {tmp_path}, best val_loss 0.1" in said
    assert "Epoch 1: val_loss did not improve from 0.10000" in said


def test_every_n_of_a_second_run_is_kept_beside_that_of_the_first(tmp_path):
    for run in range(2):
        forget_what_was_trained()
        keep = policies.EveryN(2)
        train([1.0 + run] * 4, kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", keep=keep))
    assert files(tmp_path) == ["2-v1.keras", "2.keras", "4-v1.keras", "4.keras"]
    assert scores(tmp_path)["2.keras"] == 1.0


@pytest.mark.parametrize("arguments", [{"max_to_keep": 1}, {"save_best_only": True}])
def test_the_only_good_file_stays_until_another_one_is_whole(tmp_path, arguments, monkeypatch):
    """The one that a run was resumed from, say."""
    train([0.5], kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", **arguments))
    model = keras.models.load_model(tmp_path / "1.keras")
    before = (tmp_path / "1.keras").read_bytes()
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", **arguments)
    with monkeypatch.context() as full:
        no_room_for(full, "1.keras")
        with pytest.raises(StorageError, match="disk is full"):
            train([0.4], checkpoint, model=model)
    assert (tmp_path / "1.keras").read_bytes() == before
    CheckpointStore(tmp_path).verify(CheckpointStore(tmp_path).records()[0])


# ------------------------------------------------------------------ damage


def cut_off(path):
    os.truncate(path, 100)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut_off, flip_a_bit])
def test_a_damaged_best_file_does_not_keep_worse_ones_out(tmp_path, damage):
    train([0.5, 0.1], best_weights(tmp_path))
    damage(tmp_path / "best.weights.h5")
    damaged = (tmp_path / "best.weights.h5").read_bytes()
    forget_what_was_trained()
    checkpoint = best_weights(tmp_path)
    told = said_by(lambda: train([0.3, 0.2], checkpoint))
    assert "best.weights.h5 is damaged between" in told or "best.weights.h5 has 100 bytes" in told
    assert "best-v1.weights.h5 is written instead" in told
    assert checkpoint.best == 0.2
    assert scores(tmp_path) == {"best-v1.weights.h5": 0.2}
    assert (tmp_path / "best.weights.h5").read_bytes() == damaged


def test_the_best_of_the_whole_files_counts_where_a_better_one_is_damaged(tmp_path):
    train([0.3, 0.1], best_weights(tmp_path, name="{epoch}.weights.h5", max_to_keep=2))
    flip_a_bit(tmp_path / "2.weights.h5")
    forget_what_was_trained()
    checkpoint = best_weights(tmp_path, name="{epoch}.weights.h5", max_to_keep=2)
    with pytest.warns(CheckpointWarning, match="It is left as it is, and no longer listed"):
        train([0.9], checkpoint)
    assert checkpoint.best == 0.3
    assert scores(tmp_path) == {"1.weights.h5": 0.3, "1-v1.weights.h5": 0.9}


def test_a_file_that_somebody_put_in_the_place_of_ours_is_left(tmp_path):
    path = tmp_path / "best.keras"
    train([0.5], kcp.ModelCheckpoint(path, save_best_only=True))
    forget_what_was_trained()
    checkpoint = kcp.ModelCheckpoint(path, save_best_only=True)
    mine = each_epoch(1, lambda: (checkpoint.wait_until_finished(), path.write_bytes(b"mine")))
    told = said_by(lambda: train([0.4, 0.3], checkpoint, mine))
    assert "best.keras has 4 bytes, and" in told
    assert "best-v1.keras is written instead" in told
    assert path.read_bytes() == b"mine"
    assert scores(tmp_path) == {"best-v1.keras": 0.3}


def test_what_happens_to_the_folder_during_a_fit_is_said_and_dealt_with(tmp_path):
    checkpoint = best_weights(tmp_path, name="{epoch}.weights.h5", max_to_keep=2)

    def spoil():
        checkpoint.wait_until_finished()
        (tmp_path / "checkpoints.json").write_bytes(b"{")

    def remove():
        checkpoint.wait_until_finished()
        (tmp_path / "2.weights.h5").unlink()

    more = checkpoint, each_epoch(2, spoil), each_epoch(3, remove)
    told = said_by(lambda: train([0.5, 0.4, 0.6, 0.7], *more))
    assert scores(tmp_path) == {"1.weights.h5": 0.5, "4.weights.h5": 0.7}
    assert checkpoint.best == 0.5
    for part in (
        "It was set aside as",
        "2 checkpoints were listed again",
        "removed by someone else",
    ):
        assert part in told


# ------------------------------------------------------------------ going on without a file


@pytest.mark.parametrize("background", [True, False])
def test_a_folder_that_cannot_be_made_does_not_end_fit_if_so_asked(tmp_path, background):
    (tmp_path / "file").write_text("in the way")
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "file" / "{epoch}.keras", on_save_error="warn", save_on_background=background
    )
    with pytest.warns(CheckpointWarning, match="A file is in the way.*Training goes on"):
        train([0.5, 0.4], checkpoint)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("on_save_error", ["raise", "warn"])
def test_a_folder_that_becomes_a_file_is_said(tmp_path, on_save_error):
    folder = tmp_path / "run"
    checkpoint = kcp.ModelCheckpoint(folder / "{epoch}.keras", on_save_error=on_save_error)

    def replace():
        checkpoint.wait_until_finished()
        shutil.rmtree(folder)
        folder.write_text("in the way")

    args = [0.5, 0.4, 0.3], checkpoint, each_epoch(1, replace)
    if on_save_error == "warn":
        with pytest.warns(CheckpointWarning, match="A file is in the way: choose another folder"):
            train(*args)
    else:
        with pytest.raises(StorageError, match="A file is in the way: choose another folder"):
            train(*args)


def test_a_manifest_that_cannot_be_looked_at_does_not_end_fit_if_so_asked(tmp_path, monkeypatch):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", on_save_error="warn")
    version = LocalFileSystem.version

    def stale(files, path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    def use(method):
        checkpoint.wait_until_finished()
        monkeypatch.setattr(LocalFileSystem, "version", method)

    first, second = each_epoch(1, lambda: use(stale)), each_epoch(2, lambda: use(version))
    with pytest.warns(CheckpointWarning, match="Could not read .* Training goes on"):
        train([0.5, 0.4, 0.3], checkpoint, first, second)
    assert files(tmp_path) == ["1.keras", "3.keras"]


def test_a_copy_that_keras_cannot_write_does_not_end_fit_if_so_asked(tmp_path, monkeypatch):
    def full(model, path, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.h5", on_save_error="warn")
    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.warns(
        CheckpointWarning, match="Could not write to .* disk is full.*Training goes on"
    ):
        train([0.5], checkpoint)
    assert files(tmp_path) == []


def test_an_error_is_raised_by_whose_it_is_and_there_is_no_snapshot_of_it(
    tmp_path, monkeypatch, caplog
):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras")
    backup = kcp.BackupAndRestore(tmp_path / "backup")
    is_waited_for, may_save, snapshots = threading.Event(), threading.Event(), []
    create, wait = LocalFileSystem.create, kcp.ModelCheckpoint.wait_until_finished

    def full(files, path, final_path):
        if os.path.basename(path).startswith(".2.keras."):
            is_waited_for.wait()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return create(files, path, final_path)

    class Waits(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                may_save.wait()

    def waits(callback):  # called by the backup's thread, before each snapshot
        snapshots.append(threading.current_thread())
        if len(snapshots) == 3:  # at the beginning, after one epoch, after two
            is_waited_for.set()
        wait(callback)
        if len(snapshots) == 2:  # which has not waited for what is saved from now on
            may_save.set()

    monkeypatch.setattr(LocalFileSystem, "create", full)
    monkeypatch.setattr(kcp.ModelCheckpoint, "wait_until_finished", waits)
    with pytest.raises(StorageError, match=r"^Writing checkpoints of \{epoch\}.keras in the back"):
        train([0.5, 0.4, 0.3, 0.2], backup, Waits(), checkpoint)
    assert "No snapshot is taken, as ModelCheckpoint has failed" in caplog.text
    assert "a callback failed" not in caplog.text  # nobody else has an error to tell
    newest = CheckpointStore(tmp_path / "backup").records()[-1]
    assert newest.epoch == 1  # the second epoch is to be done again, with its checkpoint


def test_another_thread_that_waits_leaves_the_error_to_the_training(tmp_path, monkeypatch):
    checkpoint = best_weights(tmp_path, name="{epoch}.weights.h5")
    may_fail = threading.Event()

    def full(files, path, final_path):
        may_fail.wait()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    begin(checkpoint, new_model())
    monkeypatch.setattr(LocalFileSystem, "create", full)
    save(checkpoint, 0.5)
    seen = []

    def wait():
        may_fail.set()
        try:
            checkpoint.wait_until_finished()
        except StorageError as error:
            seen.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    with pytest.raises(StorageError, match="disk is full") as raised:
        save(checkpoint, 0.4, epoch=1)
    thread = threading.Thread(target=wait)  # too late, and told all the same
    thread.start()
    thread.join()
    assert [str(error) for error in seen] == [str(raised.value)] * 2
    checkpoint.on_train_end()


def test_the_copy_of_the_model_is_given_back_at_the_end_of_fit(tmp_path, monkeypatch):
    made = []
    writer = _model_series.ModelFileWriter

    def noted(*args, **arguments):
        made.append(writer(*args, **arguments))
        return made[-1]

    monkeypatch.setattr(_model_series, "ModelFileWriter", noted)
    checkpoint = best_weights(tmp_path)
    train([0.5], checkpoint)
    copy = weakref.ref(made.pop())
    gc.collect()
    assert copy() is None


@pytest.mark.timeout(60)  # it used to wait for ever
def test_where_no_thread_can_be_started_fit_ends_and_the_next_one_saves(tmp_path, monkeypatch):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("kcp"):
            raise RuntimeError("can't start new thread")
        start(thread)

    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StorageError, match="can't start new thread"):
            train([0.5, 0.4], checkpoint)
    train([0.5, 0.4], checkpoint)
    assert files(tmp_path) == ["1.keras", "2.keras"]
