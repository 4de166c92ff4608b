"""What a restarted script may change, what it is told, and how often a batch is trained."""

from __future__ import annotations

import itertools
import time
import types

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus._keras import fingerprint
from keras_callbacks_plus.callbacks import _resumable_run
from keras_callbacks_plus.errors import (
    CheckpointWarning,
    InexactResumeWarning,
    InvalidArgumentError,
    ResumeError,
    RunMismatchError,
)
from tests.helpers.resumed_runs import Batches


class Boom(Exception):
    """The tests' own failure."""


class Fails(keras.callbacks.Callback):
    """Raises in a batch, counted over all epochs."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.count = at, 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1
        if self.count == self.at:
            raise Boom


class Counting(keras.layers.Layer):
    """Counts the steps that it was trained for."""

    def __init__(self):
        super().__init__()
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign(self.count + 1)
        return x


def fit(folder, *, at=None, rate=0.01, data=None, units=1, momentum=0.0, callbacks=None, **more):
    keras.utils.set_random_seed(1)
    layer = Counting()
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(units)])
    model.compile(keras.optimizers.SGD(rate, momentum=momentum), "mse")
    x = np.random.default_rng(0).random((12, 4)).astype("float32") + more.pop("shift", 0)
    fit_arguments = {"batch_size": more.pop("batch_size", 4)} if data is None else {}
    fit_arguments.update(more.pop("fit", {}))
    epochs = more.pop("epochs", 5)
    backup = kcp.BackupAndRestore(
        folder,
        save_freq=more.pop("save_freq", 1),
        delete_checkpoint=more.pop("delete_checkpoint", False),
        **more,
    )
    members = [backup, Fails(at)] if callbacks is None else [backup, *callbacks]
    data = (x, x.sum(1, keepdims=True)) if data is None else (data,)
    history = model.fit(*data, epochs=epochs, verbose=0, callbacks=members, **fit_arguments)
    return model, history, float(keras.ops.convert_to_numpy(layer.count.value))


def test_no_batch_is_trained_twice(tmp_path):
    with pytest.raises(Boom):
        fit(tmp_path, at=5)
    assert fit(tmp_path)[2] == 15.0


def test_a_learning_rate_that_was_changed_is_taken_over(tmp_path):
    with pytest.raises(Boom):
        fit(tmp_path, at=5)
    model, history, _ = fit(tmp_path, rate=0.002)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    assert history.epoch == [0, 1, 2, 3, 4]


def test_more_epochs_go_on_within_an_epoch(tmp_path):
    with pytest.raises(Boom):
        fit(tmp_path, at=5)
    assert fit(tmp_path, epochs=6)[2] == 18.0


def snapshots(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.kcp")}


def test_fewer_epochs_than_are_done_train_nothing_and_delete_nothing(tmp_path):
    with pytest.raises(Boom):
        fit(tmp_path, at=11, save_freq="epoch")  # in the fourth epoch
    before = snapshots(tmp_path)
    with pytest.warns(CheckpointWarning, match="3 epochs are done and epochs=2 was asked"):
        _, history, count = fit(tmp_path, epochs=2, save_freq="epoch", delete_checkpoint=True)
    assert (history.epoch, count, snapshots(tmp_path)) == ([0, 1, 2], 9.0, before)
    _, history, count = fit(tmp_path, epochs=3, save_freq="epoch", delete_checkpoint=True)
    assert (history.epoch, count, snapshots(tmp_path)) == ([0, 1, 2], 9.0, {})


@pytest.mark.parametrize("epochs", [2, 3])
def test_fewer_epochs_than_the_one_that_was_begun_are_refused(tmp_path, epochs):
    with pytest.raises(Boom):
        fit(tmp_path, at=11)
    before = snapshots(tmp_path)
    with pytest.raises(ResumeError, match=r"within epoch 4 of 5, .* at least epochs=4"):
        fit(tmp_path, epochs=epochs, delete_checkpoint=True)
    assert snapshots(tmp_path) == before
    assert fit(tmp_path, epochs=4)[2] == 12.0


def test_a_fit_that_finds_what_this_process_has_finished_is_told(tmp_path):
    fit(tmp_path)
    with pytest.warns(CheckpointWarning, match=r"had finished in this process: nothing is trained"):
        assert fit(tmp_path)[1].epoch == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("resumable", [False, True])
def test_another_fold_does_not_pass_for_the_one_that_was_saved(tmp_path, resumable):
    def fold(shift):
        x = np.ones((12, 4), "float32") + shift
        data = kcp.resumable(x, x[:, :1], batch_size=4, seed=1) if resumable else None
        return fit(tmp_path, data=data, shift=shift)

    fold(0)
    with pytest.raises(RunMismatchError, match="samples of the data"):
        fold(1)


def test_other_validation_data_is_named(tmp_path):
    """The callbacks would compare what was measured on two sets."""

    def validated(count, at=None, **more):
        x = np.ones((count, 4), "float32")
        return fit(tmp_path, at=at, fit={"validation_data": (x, x[:, :1]), **more})

    with pytest.raises(Boom):
        validated(8, at=5)
    with pytest.raises(RunMismatchError, match="samples of the validation data"):
        validated(9)
    with pytest.raises(RunMismatchError, match="validation_freq: was 1, is 2"):
        validated(8, validation_freq=2)
    assert validated(8)[1].epoch == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("parts", "known"),
    [
        (([1.0, 2.0],), False),  # numbers, and no array
        ((np.ones((2, 3)), None), True),
        ((np.array([object(), object()]),), False),
        ((types.SimpleNamespace(shape=(2, 2)),), False),  # a sparse matrix has no array
    ],
)
def test_what_cannot_be_looked_at_is_not_compared(parts, known):
    assert (fingerprint._digest_of_samples(parts) is not None) == known


def test_samples_in_the_middle_count():
    one = np.zeros((100, 3))
    other = one.copy()
    other[20:30] = 1
    assert fingerprint._digest_of_samples(one) != fingerprint._digest_of_samples(other)
    assert fingerprint._digest_of_samples(one) == fingerprint._digest_of_samples(one.copy())


class TakesTheOptimizer(keras.callbacks.Callback):
    """Frees memory at the end of `fit`."""

    def on_train_end(self, logs=None):
        self.model.optimizer = None


def test_a_callback_may_take_the_optimizer_away_at_the_end(tmp_path):
    model, history, _ = fit(tmp_path, callbacks=[TakesTheOptimizer()])
    assert history.epoch == [0, 1, 2, 3, 4]
    assert model.optimizer is None
    assert "evaluate" not in vars(model)
    assert not (tmp_path / ".run.lock").exists()


def rates(folder, model, at=None, change=None):
    """The rate of each epoch under a schedule of Keras's, as the history has them."""
    if change is not None:
        model.optimizer.learning_rate = change
    x = np.ones((8, 4), "float32")
    callbacks = [
        kcp.BackupAndRestore(folder, save_freq="2 epochs", delete_checkpoint=False),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        Fails(at),
    ]
    fit = {"batch_size": 4, "epochs": 6, "verbose": 0, "callbacks": callbacks}
    return model.fit(x, x[:, :1], **fit).history["learning_rate"]


def scheduled():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def test_a_rate_that_a_callback_has_left_is_not_one_that_the_script_has_set(tmp_path):
    """A cell of a notebook that failed is run again with the same model."""
    whole = rates(tmp_path / "a", scheduled())
    model = scheduled()
    for _ in range(2):
        with pytest.raises(Boom):  # in the fourth epoch: the count is kept
            rates(tmp_path / "b", model, at=8)
    assert rates(tmp_path / "b", model) == whole


def test_a_rate_that_is_set_between_two_runs_of_a_cell_is_taken_over(tmp_path):
    model = scheduled()
    with pytest.raises(Boom):
        rates(tmp_path, model, at=8)
    assert rates(tmp_path, model, change=0.4)[2:] == pytest.approx([0.2, 0.1, 0.05, 0.025])


def test_snapshots_by_the_minute_resume_within_an_epoch(tmp_path, monkeypatch):
    whole = fit(tmp_path / "a")[0].get_weights()
    ticks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: 25.0 * next(ticks), time=time.time)
    monkeypatch.setattr(_resumable_run, "time", clock)
    with pytest.raises(Boom):
        fit(tmp_path / "b", at=8, save_freq="1 min")
    assert any(name.count("-") == 2 for name in snapshots(tmp_path / "b"))  # within an epoch
    model, _, count = fit(tmp_path / "b", save_freq="1 min")
    assert count == 15.0
    assert all(map(np.array_equal, model.get_weights(), whole))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"batch_size": 3}, r"steps per epoch: was 3, is 4\n- batch size: was 4, is 3"),
        ({"momentum": 0.9}, r"optimizer: \(SGD\) momentum was 0.0, is 0.9"),
        ({"units": 2}, r"layers: number 1 \(Dense\) units was 1, is 2"),
        ({"callbacks": []}, r"callbacks: there were 2, there are 1|callbacks: number 0 was"),
    ],
)
def test_what_differs_is_named(tmp_path, changed, match):
    with pytest.raises(Boom):
        fit(tmp_path, at=5)
    with pytest.raises(RunMismatchError, match=match):
        fit(tmp_path, **changed)


def test_another_list_of_callbacks_can_be_had_on_purpose(tmp_path):
    with pytest.raises(Boom):
        fit(tmp_path, at=5)
    with pytest.warns(InexactResumeWarning, match="callbacks"):
        _, history, count = fit(tmp_path, callbacks=[], on_mismatch="warn")
    assert (count, history.epoch) == (15.0, [0, 1, 2, 3, 4])


def test_less_data_than_were_done_is_an_error(tmp_path):
    if keras.backend.backend() == "torch":
        pytest.skip("the length of this input is known: the fingerprint has it")
    data = kcp.resumable(np.ones((12, 4), "float32"), np.ones((12, 1)), batch_size=4)
    with pytest.raises(Boom):
        fit(tmp_path, data=data, at=3)
    less = kcp.resumable(np.ones((4, 4), "float32"), np.ones((4, 1)), batch_size=4)
    with pytest.raises(ResumeError):
        fit(tmp_path, data=less, on_mismatch="ignore")


def test_several_workers_are_told_with_the_way_out(tmp_path):
    with pytest.raises(ResumeError, match=r"several workers.*workers=1.*kcp\.resumable"):
        fit(tmp_path, data=Batches(workers=2), on_inexact="raise")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "Write 32"),
        ({"seed": -1}, "Write 0"),
        ({"shuffle": "batch"}, "Write True"),
        ({"y": np.ones(3)}, "one row for each sample"),
        ({"sample_weight": np.ones(4)}, "Pass `y`"),
    ],
)
def test_resumable_refuses_what_it_cannot_use(arguments, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kcp.resumable(np.ones((4, 2)), **arguments)


def test_the_order_of_resumable_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        data = kcp.resumable(np.arange(20), batch_size=6, seed=seed)
        data.seek(epoch, 0)
        np.random.random()
        return [int(i) for (batch,) in data for i in batch]

    assert order(1, 4) == order(1, 4)
    assert sorted(order(1, 4)) == list(range(20))
    assert len({tuple(order(1, e)) for e in range(3)} | {tuple(order(2, 0))}) == 4
