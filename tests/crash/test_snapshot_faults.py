"""What a kill in a commit, or a disk, does to the snapshots of a run: it is resumed all the same.

Each trial ends with the weights and the `History` of a run that nothing happened to.
"""

from __future__ import annotations

import functools
import os
import shutil
import warnings

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.callbacks import _run_store
from keras_callbacks_plus.errors import BackgroundWriteError, CheckpointWarning
from keras_callbacks_plus.storage import CheckpointStore, LocalFileSystem
from tests.helpers.faults import CutOff


class Boom(Exception):
    """The tests' own failure."""


class Fails(keras.callbacks.Callback):
    """Raises at the end of a batch, counted over all epochs."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.batches = at, 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == self.at:
            raise Boom


def run(folder, at=None):
    """Three epochs of three batches, with a snapshot after every second batch."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((12, 4)).astype("float32")
    fails = Fails(at)
    backup = kcp.BackupAndRestore(folder, save_freq=2, delete_checkpoint=False)
    history = model.fit(x, x.sum(1), batch_size=4, epochs=3, verbose=0, callbacks=[fails, backup])
    return history.history["loss"], [w.tobytes() for w in model.get_weights()], fails.batches


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


# ---------------------------------------------------------------- a kill at any operation


def cut_off(monkeypatch, at, done):
    """From the operation `at` on, the disk takes nothing any more: as if the process were dead."""
    disk = CutOff(LocalFileSystem(), at=at, done=done)
    store = functools.partial(CheckpointStore, filesystem=disk)
    monkeypatch.setattr(_run_store, "CheckpointStore", store)
    return disk


def resume_after_a_kill(folder, monkeypatch, at, done):
    with monkeypatch.context() as patched:
        cut_off(patched, at, done)
        with pytest.raises((BackgroundWriteError, OSError)):
            run(folder)
    return run(folder)


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        disk = cut_off(patched, None, False)
        run(tmp_path_factory.mktemp("counted"))
    return disk.operations


def of_a_commit(operations):
    """The numbers of the operations of the third commit: the first that also removes a file."""
    first_removal = next(i for i, (name, _) in enumerate(operations) if name == "remove")
    before = [i for i, (name, _) in enumerate(operations[:first_removal]) if name == "create"]
    return range(before[-3], first_removal + 1)


def one_of_each(operations, numbers):
    """The first of the operations that do the same to the same kind of file."""
    seen, chosen = set(), []
    for number in numbers:
        name, target = operations[number]
        file = target if isinstance(target, str) else ""  # a write has its bytes there
        kind = (name, os.path.basename(file).lstrip(".").split("-")[0])
        if kind not in seen:
            seen.add(kind)
            chosen.append(number)
    return chosen


@pytest.mark.jax  # no backend has a part in it
def test_a_kill_at_each_kind_of_operation_of_a_commit(tmp_path, monkeypatch, operations, whole):
    chosen = one_of_each(operations, of_a_commit(operations))
    assert {operations[n][0] for n in chosen} == {"create", "write", "rename", "remove"}
    for number in chosen:
        ended = resume_after_a_kill(tmp_path / f"{number}", monkeypatch, number, done=True)
        assert ended == whole, f"operation {number}: {operations[number]}"


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("done", [False, True])
def test_a_kill_at_every_operation_of_a_run(tmp_path, monkeypatch, operations, whole, done):
    for number in range(len(operations)):
        folder = tmp_path / f"{number}"
        ended = resume_after_a_kill(folder, monkeypatch, number, done)
        assert ended == whole, f"operation {number}: {operations[number]}"
        shutil.rmtree(folder)


# ---------------------------------------------------------------- damage to the newest snapshot


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A folder of a run that failed, with two snapshots."""
    folder = tmp_path_factory.mktemp("failed")
    with pytest.raises(Boom):
        run(folder, at=7)
    assert len(list(folder.glob("*.kcp"))) == 2
    return folder


def newest(folder):
    return sorted(folder.glob("*.kcp"))[-1]


def flipped(data, position):
    return data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :]


def resume_after_damage(folder, failed, data):
    shutil.copytree(failed, folder)
    newest(folder).write_bytes(data)
    with pytest.warns(CheckpointWarning, match="The snapshot before it is used instead"):
        ended = run(folder)
    shutil.rmtree(folder)
    return ended


@pytest.mark.jax
def test_a_newest_snapshot_that_is_damaged_anywhere(tmp_path, failed, whole):
    data = newest(failed).read_bytes()
    header = int.from_bytes(data[8:16], "little")
    places = [0, 16 + header // 2, 16 + header + 1, len(data) - 1]  # the record is last
    for position in places:
        ended = resume_after_damage(tmp_path / "flipped", failed, flipped(data, position))
        assert ended == whole, f"byte {position}"
    for length in (0, len(data) // 2):
        ended = resume_after_damage(tmp_path / "cut", failed, data[:length])
        assert ended == whole, f"cut to {length} bytes"


@pytest.mark.jax
def test_no_damaged_region_is_taken_for_a_snapshot(tmp_path, failed):
    folder = tmp_path / "damaged"
    shutil.copytree(failed, folder)
    path = newest(folder)
    data = path.read_bytes()
    for position in range(0, len(data), 211):
        path.write_bytes(flipped(data, position))
        store = _run_store.RunStore(str(folder))
        with pytest.warns(CheckpointWarning):
            older = store.newest()
        assert older["batches"] == 4, f"byte {position}"


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_every_region_of_the_newest_snapshot_flipped_or_cut(tmp_path, failed, whole):
    data = newest(failed).read_bytes()
    for position in range(0, len(data), 256):
        for damaged in (flipped(data, position), data[:position]):
            assert resume_after_damage(tmp_path / "one", failed, damaged) == whole, position


# ---------------------------------------------------------------- Keras's own callbacks


class Counting(keras.callbacks.LambdaCallback):
    """A closure, which keeps nothing; its object does."""

    def __init__(self):
        super().__init__(on_epoch_end=lambda epoch, logs: None)
        self.epochs = []

    def on_train_batch_end(self, batch, logs=None):
        self.epochs.append(float(logs["loss"]))


def keras_run(folder, at=None, save_freq=1):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9), "mse")
    x = np.random.default_rng(0).random((12, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    rates = []

    def schedule(epoch, rate):
        rates.append(rate)
        return rate * 0.9

    early = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.5, min_delta=9.0)
    best = keras.callbacks.ModelCheckpoint(
        str(folder / "best.weights.h5"), "val_loss", save_best_only=True, save_weights_only=True
    )
    swap = keras.callbacks.SwapEMAWeights()
    counting = Counting()
    members = [
        Fails(at),
        early,
        plateau,
        best,
        swap,
        counting,
        keras.callbacks.LearningRateScheduler(schedule),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        kcp.BackupAndRestore(folder / "backup", save_freq=save_freq, delete_checkpoint=False),
    ]
    if keras.backend.backend() == "tensorflow":
        members.append(keras.callbacks.TensorBoard(folder / "charts", update_freq=1))
    history = model.fit(
        x, y, batch_size=4, epochs=4, verbose=0, validation_data=(x, y), callbacks=members
    )
    return {
        "history": history.history,
        "weights": [w.tobytes() for w in model.get_weights()],
        "optimizer": [
            keras.ops.convert_to_numpy(v.value).tobytes() for v in model.optimizer.variables
        ],
        "early": [early.best, early.best_epoch, early.wait, early.stopped_epoch],
        "plateau": [plateau.best, plateau.wait, plateau.cooldown_counter],
        "best": [best.best, best_weights(folder / "best.weights.h5")],
        "swapped": swap._ema_weights_in_model,
        "losses": counting.epochs,
        "rows": (folder / "log.csv").read_text(),
        "charts": charts(folder / "charts"),
    }


def best_weights(path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
    model.load_weights(path)
    return [w.tobytes() for w in model.get_weights()]


def charts(folder):
    """Tag -> step -> the last point that was drawn there."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = {}
    for place in sorted(folder.glob("*")):
        events = EventAccumulator(str(place), size_guidance={"tensors": 0})  # all of them
        events.Reload()
        for tag in events.Tags()["tensors"]:
            points = {e.step: e.tensor_proto.SerializeToString() for e in events.Tensors(tag)}
            drawn[f"{place.name}:{tag}"] = points
    return drawn


@pytest.mark.parametrize(("at", "save_freq"), [(8, 1), (8, "epoch")], ids=["within", "epoch"])
def test_keras_own_callbacks_go_on_as_if_nothing_had_happened(tmp_path, at, save_freq):
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Keras leaves the rows' file open
        expected = keras_run(tmp_path / "whole", save_freq=save_freq)
        with pytest.raises(Boom):
            keras_run(tmp_path / "resumed", at=at, save_freq=save_freq)
        ended = keras_run(tmp_path / "resumed", save_freq=save_freq)
    assert [name for name in expected if ended[name] != expected[name]] == []
