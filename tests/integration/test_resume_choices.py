"""What a restarted script may change, what it is told, and how often a batch is trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
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
    x = np.random.default_rng(0).random((12, 4)).astype("float32")
    fit_arguments = {"batch_size": more.pop("batch_size", 4)} if data is None else {}
    fit_arguments.update(more.pop("fit", {}))
    epochs = more.pop("epochs", 5)
    backup = kcp.BackupAndRestore(
        folder, save_freq=more.pop("save_freq", 1), delete_checkpoint=False, **more
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
