"""`ModelCheckpoint` in a real `fit`: which files live, and that Keras opens them."""

from __future__ import annotations

import copy
import errno
import math
import os

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.callbacks._model_series import step_of
from keras_callbacks_plus.errors import (
    CheckpointWarning,
    InvalidArgumentError,
    MissingMetricWarning,
    StorageError,
)
from keras_callbacks_plus.storage import CheckpointStore
from keras_callbacks_plus.storage.filesystem import LocalFileSystem
from tests.helpers.trainings import forget_what_was_trained

pytestmark = pytest.mark.backend


class Script(keras.callbacks.Callback):
    """Writes prescribed values into the logs."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        if self.values[epoch] is not None:
            logs["val_loss"] = self.values[epoch]


def new_model(seed=3):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def train(values, checkpoint, *more, model=None):
    model = model or new_model()
    x = np.random.default_rng(0).random((24, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=len(values),
        verbose=0,
        callbacks=[Script(values), checkpoint, *more],
    )
    return model


def files(folder):
    return sorted(f for f in os.listdir(folder) if f.endswith((".keras", ".h5")))


VALUES = [0.9, 0.5, math.nan, 0.7, 0.4, 0.8, 0.6]


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({"save_best_only": True, "max_to_keep": 1}, [5]),
        ({"save_best_only": True, "max_to_keep": 3}, [2, 5, 7]),
        ({"max_to_keep": 2}, [6, 7]),
        ({}, [1, 2, 3, 4, 5, 6, 7]),
        ({"save_best_only": True}, [1, 2, 5]),
        ({"keep": kcp.policies.BestN(1) | kcp.policies.LatestN(1)}, [5, 7]),
        ({"save_freq": "3 epochs"}, [3, 6]),
        ({"save_best_only": True, "initial_value_threshold": 0.45}, [5]),
        ({"save_best_only": True, "min_delta": 0.2}, [1, 2]),
        ({"save_best_only": True, "min_delta": 0.2, "max_to_keep": 1}, [2]),
        ({"save_best_only": True, "min_delta": 0.2, "max_to_keep": 2}, [2, 5]),
        ({"save_best_only": True, "keep": kcp.policies.LatestN(1)}, [5]),
    ],
)
@pytest.mark.parametrize("background", [True, False])
def test_which_files_live(tmp_path, arguments, kept, background):
    path = tmp_path / "{epoch:02d}.weights.h5"
    checkpoint = kcp.ModelCheckpoint(
        path, save_weights_only=True, save_on_background=background, **arguments
    )
    train(VALUES, checkpoint)
    assert files(tmp_path) == [f"{e:02d}.weights.h5" for e in kept]
    store = CheckpointStore(tmp_path)
    assert sorted(r.path for r in store.records()) == files(tmp_path)
    if checkpoint.save_best_only:
        assert checkpoint.best == min(r.metrics["val_loss"] for r in store.records())
    for record in store.records():
        store.verify(record)
        assert record.step == (record.epoch + 1) * 3


def test_a_new_process_goes_on_with_the_ranking(tmp_path):
    def fresh():
        return kcp.ModelCheckpoint(
            tmp_path / "{epoch:02d}-{val_loss:.1f}.weights.h5",
            save_best_only=True,
            save_weights_only=True,
            max_to_keep=2,
        )

    train([0.5, 0.3], fresh())
    forget_what_was_trained()
    second = fresh()
    train([0.9, 0.4, 0.6], second)
    assert files(tmp_path) == ["02-0.3.weights.h5", "02-0.4.weights.h5"]
    assert second.best == 0.3


def test_a_worse_model_never_replaces_a_better_file(tmp_path):
    path = tmp_path / "best.keras"
    train([0.5, 0.1], kcp.ModelCheckpoint(path, save_best_only=True))
    before = path.read_bytes()
    forget_what_was_trained()
    train([0.9, 0.8], kcp.ModelCheckpoint(path, save_best_only=True))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"save_best_only": True},
        {"save_best_only": True, "max_to_keep": 1},
        {"keep": kcp.policies.BestN(1)},
        {"save_best_only": True, "keep": kcp.policies.BestN(1)},
    ],
)
def test_under_one_name_the_best_stays(tmp_path, arguments):
    path = tmp_path / "best.weights.h5"
    checkpoint = kcp.ModelCheckpoint(path, save_weights_only=True, **arguments)
    train([0.5, 0.1, 0.9], checkpoint)
    forget_what_was_trained()
    train([0.3], kcp.ModelCheckpoint(path, save_weights_only=True, **arguments))
    assert [r.metrics["val_loss"] for r in CheckpointStore(tmp_path).records()] == [0.1]
    assert files(tmp_path) == ["best.weights.h5"]


def test_the_names_of_another_run_do_not_cost_its_best(tmp_path):
    def fresh():
        return kcp.ModelCheckpoint(
            tmp_path / "{epoch:02d}.weights.h5",
            save_best_only=True,
            save_weights_only=True,
            max_to_keep=2,
        )

    train([0.1, 0.5], fresh())
    forget_what_was_trained()
    train([0.2, 0.8, 0.9], fresh())
    scores = {r.path: r.metrics["val_loss"] for r in CheckpointStore(tmp_path).records()}
    assert scores == {"01.weights.h5": 0.1, "01-v1.weights.h5": 0.2}
    assert files(tmp_path) == sorted(scores)


def test_a_file_that_nobody_listed_is_never_replaced(tmp_path):
    (tmp_path / "best.keras").write_bytes(b"years of work")
    checkpoint = kcp.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    with pytest.warns(CheckpointWarning, match="left as it is, and best-v1.keras is written") as w:
        train([0.5, 0.4], checkpoint)
    assert [x.category for x in w].count(CheckpointWarning) == 1
    assert (tmp_path / "best.keras").read_bytes() == b"years of work"
    assert files(tmp_path) == ["best-v1.keras", "best.keras"]


def test_two_callbacks_with_the_same_files_are_refused(tmp_path):
    path = tmp_path / "{epoch}.keras"
    best = kcp.ModelCheckpoint(path, save_best_only=True, max_to_keep=1)
    with pytest.raises(InvalidArgumentError, match=r"keep=policies.BestN\(1\) \| policies.Latest"):
        train([0.5], best, kcp.ModelCheckpoint(path, max_to_keep=1))


def test_a_second_fit_with_another_model_starts_a_new_ranking(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    train([0.5, 0.1], checkpoint)
    first = (tmp_path / "best.keras").read_bytes()
    train([0.9, 0.8], checkpoint, model=new_model(seed=4))  # fold 2
    assert checkpoint.best == 0.8
    assert (tmp_path / "best.keras").read_bytes() != first


def test_a_second_fit_with_the_same_model_goes_on(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    model = train([0.5, 0.1], checkpoint)
    before = (tmp_path / "best.keras").read_bytes()
    train([0.9, 0.8], checkpoint, model=model)
    assert (tmp_path / "best.keras").read_bytes() == before


def test_keras_opens_the_file_and_it_predicts_the_same(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras")
    model = train([1.0, 1.0], checkpoint)
    x = np.random.default_rng(1).random((5, 4)).astype("float32")
    loaded = keras.models.load_model(tmp_path / "2.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert int(loaded.optimizer.iterations) == 6


@pytest.mark.parametrize(("freq", "batches"), [(2, [2, 4, 6, 8]), ("4 batches", [4, 8])])
def test_saving_by_batches_counts_over_the_epochs(tmp_path, freq, batches):
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}-{batch}.weights.h5", save_weights_only=True, save_freq=freq
    )
    train([1.0, 1.0, 1.0], checkpoint)
    assert [r.step for r in CheckpointStore(tmp_path).records()] == batches


def test_best_only_by_batches_uses_the_metric_of_the_batch(tmp_path):
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}-{batch}.weights.h5",
        monitor="loss",
        save_best_only=True,
        save_weights_only=True,
        save_freq=1,
        max_to_keep=2,
    )
    train([1.0, 1.0, 1.0], checkpoint)
    records = CheckpointStore(tmp_path).records()
    assert len(records) == 2
    assert checkpoint.best == min(r.metrics["loss"] for r in records)


def test_best_only_by_batches_may_look_at_the_last_validation(tmp_path):
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}-{batch}.weights.h5",
        save_best_only=True,
        save_weights_only=True,
        save_freq=1,
    )
    with pytest.warns(MissingMetricWarning):  # in the first epoch
        train([0.5, 0.7, 0.3, 0.9], checkpoint)
    kept = {r.path: r.metrics["val_loss"] for r in CheckpointStore(tmp_path).records()}
    assert kept == {"2-1.weights.h5": 0.5, "4-1.weights.h5": 0.3}


def test_integer_save_freq_is_named_after_the_epoch_it_falls_into(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", save_freq=9)
    train([1.0] * 10, checkpoint)  # 3 batches an epoch
    assert files(tmp_path) == ["3.keras", "6.keras", "9.keras"]


class Stops(keras.callbacks.Callback):
    """Leaves `fit` in the second batch of the second epoch."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 5:
            raise self.error


def fit_until(error, *callbacks):
    model, x = new_model(), np.ones((24, 4), "float32")
    with pytest.raises(error):
        model.fit(
            x, x[:, :1], batch_size=8, epochs=4, verbose=0, callbacks=[*callbacks, Stops(error())]
        )
    return model


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
@pytest.mark.parametrize("best_only", [True, False])
def test_save_on_exception_keeps_the_model_of_that_moment(tmp_path, error, best_only):
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}.keras",
        monitor="loss",
        save_best_only=best_only,
        max_to_keep=1,
        save_on_exception=True,
    )
    model = fit_until(error, checkpoint)
    (kept,) = [f for f in files(tmp_path) if f != "1.keras"]
    assert kept == ("last-2.keras" if best_only else "2.keras")
    loaded = keras.models.load_model(tmp_path / kept)
    assert int(loaded.optimizer.iterations) == 5
    for saved, held in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, held)
    record = CheckpointStore(tmp_path).records()[-1]
    assert (record.epoch, record.batch, record.step, record.metrics) == (1, 1, 5, {})


def test_save_on_train_end_saves_what_fit_returns_and_nothing_twice(tmp_path):
    restore = kcp.EarlyStopping(patience=9, restore_best_weights=True)
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}.keras", save_freq="3 epochs", save_on_train_end=True
    )
    model = train([0.1, 0.2, 0.3, 0.4], checkpoint, restore)
    assert files(tmp_path) == ["3.keras", "4.keras"]
    assert restore.best_epoch == 0
    loaded = keras.models.load_model(tmp_path / "4.keras")
    for saved, held in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, held)
    other = kcp.ModelCheckpoint(tmp_path / "c" / "{epoch}.keras", save_on_train_end=True)
    train([1.0] * 3, other)
    assert [r.step for r in CheckpointStore(tmp_path / "c").records()] == [3, 6, 9]


def assert_holds(path, model):
    loaded = keras.models.load_model(path)
    for saved, held in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, held)


def test_save_on_train_end_saves_weights_that_were_restored_after_the_last_save(tmp_path):
    restore = kcp.EarlyStopping(patience=9, restore_best_weights=True)
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", save_on_train_end=True)
    model = train([0.1, 0.2, 0.3], restore, checkpoint)
    assert files(tmp_path) == ["1.keras", "2.keras", "3.keras", "last-3.keras"]
    assert_holds(tmp_path / "last-3.keras", model)
    assert CheckpointStore(tmp_path).records()[2].metrics["loss"] is not None  # of epoch 3


def test_save_on_train_end_saves_the_moving_average_that_fit_ends_with(tmp_path):
    model, x = new_model(), np.random.default_rng(0).random((24, 4)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", save_on_train_end=True)
    model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0, callbacks=[checkpoint])
    assert files(tmp_path) == ["1.keras", "2.keras", "last-2.keras"]
    assert_holds(tmp_path / "last-2.keras", model)


class OwnOptimizer(keras.Model):
    """As a GAN has it: `model.optimizer` never makes a step."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.own = keras.optimizers.SGD(0.1)

    def call(self, x):
        return self.dense(x)

    def train_on(self, batches):
        self.own.build(self.trainable_variables)
        self.own.iterations.assign(batches)


def test_the_step_is_that_of_the_optimizer_that_has_made_most():
    model = OwnOptimizer()
    model(np.ones((1, 4), "float32"))
    model.compile(loss="mse")
    assert step_of(model) == 0
    model.train_on(7)
    assert step_of(model) == 7


def test_with_gradients_accumulated_a_step_is_a_batch(tmp_path):
    model, x = new_model(), np.ones((32, 4), "float32")
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2), "mse")
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", save_on_exception=True)
    stops = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: [][0] if batch == 2 else None
    )
    with pytest.raises(IndexError):
        model.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[checkpoint, stops])
    (record,) = CheckpointStore(tmp_path).records()
    assert (record.path, record.batch, record.step) == ("1.keras", 2, 3)


def no_room_for(monkeypatch, name):
    """The disk is full whenever a file of that name is to be made."""
    create = LocalFileSystem.create

    def failing(self, path, final_path):
        if os.path.basename(path).startswith(f".{name}."):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return create(self, path, final_path)

    monkeypatch.setattr(LocalFileSystem, "create", failing)


@pytest.mark.parametrize("background", [True, False])
def test_a_save_that_fails_does_not_end_fit_if_so_asked(tmp_path, background, monkeypatch):
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}.keras",
        save_best_only=True,
        save_on_background=background,
        on_save_error="warn",
    )
    no_room_for(monkeypatch, "2.keras")
    wait = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: checkpoint.wait_until_finished()
    )
    with pytest.warns(CheckpointWarning, match="Training goes on"):
        train([0.5, 0.2, 0.4, 0.6], checkpoint, wait)
    assert [r.path for r in CheckpointStore(tmp_path).records()] == ["1.keras", "3.keras"]
    assert checkpoint.best == 0.4  # 0.2 is on no disk


def test_a_lost_manifest_is_rebuilt_from_the_files_and_the_ranking_goes_on(tmp_path):
    def fresh():
        return kcp.ModelCheckpoint(
            tmp_path / "{val_loss:.1f}.weights.h5",
            save_best_only=True,
            save_weights_only=True,
            max_to_keep=2,
        )

    train([0.5, 0.3, 0.4], fresh())
    before = CheckpointStore(tmp_path).records()
    (tmp_path / "checkpoints.json").unlink()
    (tmp_path / "mine.weights.h5").write_bytes(b"not a checkpoint of ours")
    forget_what_was_trained()
    second = fresh()
    with pytest.warns(CheckpointWarning, match="had no manifest; its 2 checkpoints were listed"):
        train([0.6, 0.2], second)
    assert files(tmp_path) == ["0.2.weights.h5", "0.3.weights.h5", "mine.weights.h5"]
    kept = CheckpointStore(tmp_path).records()[0]
    was = next(r for r in before if r.path == kept.path)
    for field in ("path", "series", "kind", "epoch", "step", "metrics", "size", "checksum"):
        assert getattr(kept, field) == getattr(was, field), field


def test_what_a_policy_would_not_keep_is_not_written(tmp_path):
    train([1.0] * 5, kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", keep=kcp.policies.EveryN(2)))
    assert files(tmp_path) == ["2.keras", "4.keras"]
    assert {line.path for line in CheckpointStore(tmp_path).ledger()} == {"2.keras", "4.keras"}


def test_a_missing_metric_saves_nothing_and_is_said_once(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    with pytest.warns(MissingMetricWarning, match="val_loss.*Available metrics are: loss") as w:
        train([None, None], checkpoint)
    assert len([x for x in w if x.category is MissingMetricWarning]) == 1
    assert files(tmp_path) == []


def test_a_validation_metric_that_was_not_computed_is_nan_in_the_name(tmp_path):
    train([0.5, None], kcp.ModelCheckpoint(tmp_path / "{epoch}-{val_loss:.2f}.keras"))
    assert files(tmp_path) == ["1-0.50.keras", "2-nan.keras"]


def test_a_file_removed_by_hand_is_said(tmp_path):
    train([0.5, 0.4], kcp.ModelCheckpoint(tmp_path / "{epoch}.keras"))
    (tmp_path / "1.keras").unlink()
    with pytest.warns(CheckpointWarning, match="removed by someone else"):
        train([0.3], kcp.ModelCheckpoint(tmp_path / "{epoch}.keras"))


def test_an_error_of_the_writer_thread_ends_fit_and_leaves_older_files(tmp_path, monkeypatch):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras")
    train([0.5], checkpoint)
    no_room_for(monkeypatch, "2.keras")
    with pytest.raises(StorageError, match="Could not write to"):
        train([0.5, 0.4, 0.3, 0.2], checkpoint)
    store = CheckpointStore(tmp_path)
    store.verify(store.records()[0])


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    checkpoint = kcp.ModelCheckpoint(tmp_path / "file" / "{epoch}.keras")
    with pytest.raises(StorageError, match=r"Could not create .*file"):
        train([0.5], checkpoint)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"filepath": "a/cp-{epoch}.ckpt"}, r'Write "a/cp-\{epoch\}.keras"'),
        ({"filepath": "a.hdf5"}, 'Write "a.keras"'),
        ({"filepath": "a.h5", "save_weights_only": True}, r'Write "a.weights.h5"'),
        ({"save_freq": "5"}, "save_freq=5"),
        ({"save_freq": 0}, "save_freq"),
        ({"save_freq": True}, "save_freq"),
        ({"mode": "up"}, "mode"),
        ({"max_to_keep": 0}, "positive integer"),
        ({"filepath": "best.keras", "max_to_keep": 3}, "placeholder"),
        ({"max_to_keep": 2, "keep": kcp.policies.LatestN(1)}, "Leave out `max_to_keep=2`"),
        ({"keep": 3}, "retention policy"),
        ({"filepath": "{epoch}/a.keras"}, "no placeholder"),
        ({"filepath": "{epoch:zz}.keras"}, "placeholders that Python can fill in"),
        ({"filepath": "{}.keras"}, "a placeholder has no name"),
        ({"filepath": "{batch}.keras"}, "Leave `{batch}` out"),
        ({"save_best_only": "no"}, "True or False"),
        ({"initial_value_threshold": "x"}, "a number or None"),
        ({"period": 5}, 'Write `save_freq="5 epochs"`'),
        ({"options": None}, "Leave it out"),
        ({"load_weights_on_restart": True}, "Use `BackupAndRestore`"),
        ({"on_save_error": "ignore"}, '"raise" or "warn"'),
        ({"filepath": "saved_model/"}, 'Write "saved_model.keras", or "saved_model.weights.h5"'),
        ({"filepath": "w.weights.hdf5", "save_weights_only": True}, r'Write "w\.weights\.h5"'),
        ({"filepath": "M.KERAS"}, r'Write "M\.keras"'),
        ({"filepath": "m.weights.h5"}, '"m.weights.h5" with `save_weights_only=True`'),
        ({"period": "x"}, 'Write `save_freq="5 epochs"`'),
        ({"period": 1.5}, 'Write `save_freq="5 epochs"`'),
        ({"keep": kcp.policies.BestN}, r"Write `BestN\(...\)`, with its arguments"),
        ({"filepath": "a.keras", "keep": kcp.policies.BestN(3)}, "one name is one file"),
        ({"filepath": "a.keras", "keep": kcp.policies.EveryN(2)}, "one name is one file"),
        (
            {"filepath": "a.keras", "keep": kcp.policies.BestN(1) | kcp.policies.LatestN(1)},
            "one name is one file",
        ),
        ({"min_delta": 0.1, "max_to_keep": 2}, "Write save_best_only=True, too"),
        ({"min_delta": 0.1, "keep": kcp.policies.BestN(1)}, "Write save_best_only=True, too"),
        ({"initial_value_threshold": 0.5}, "or leave `initial_value_threshold` out"),
        ({"save_freq": "every 5 epochs"}, 'Write save_freq="5 epochs"'),
    ],
)
def test_bad_arguments_are_refused_with_the_line_to_type(arguments, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kcp.ModelCheckpoint(**{"filepath": "{epoch}.keras", **arguments})


def test_numbers_of_numpy_are_numbers(tmp_path):
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5",
        save_best_only=np.True_,
        save_weights_only=np.True_,
        save_freq=np.int64(3),
        initial_value_threshold=np.float32(0.5),
        max_to_keep=np.int64(3),
        min_delta=np.float32(0.0),
        monitor="loss",
        mode="max",
    )
    train([0.5], checkpoint)
    assert files(tmp_path) == ["1.weights.h5"]


def test_a_users_policy_may_keep_one_file():
    class Newest:
        def decide(self, records):
            newest = max(r.sequence for r in records)
            return [kcp.policies.Decision(r.path, r.sequence == newest, "") for r in records]

    kcp.ModelCheckpoint("a.keras", keep=Newest())


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'perod'"):
        kcp.ModelCheckpoint("a.keras", perod=5)


def test_a_typo_in_a_validation_metric_is_named_once_there_was_a_validation(tmp_path):
    path = tmp_path / "{epoch}-{val_los}.keras"
    with pytest.raises(InvalidArgumentError, match="There is no 'val_los'; .*loss, val_loss"):
        train([None, 0.5], kcp.ModelCheckpoint(path))
    assert files(tmp_path) == ["1-nan.keras"]


@pytest.mark.parametrize("by", [{"keep": kcp.policies.BestN(2)}, {"save_best_only": True}])
def test_a_metric_that_a_policy_ranks_by_and_that_is_missing_is_said(tmp_path, by):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", monitor="val_my_loss", **by)
    with pytest.warns(MissingMetricWarning, match="val_my_loss was not .*are: loss, val_loss") as w:
        train([0.5, 0.4], checkpoint)
    assert len([x for x in w if x.category is MissingMetricWarning]) == 1


def test_a_policy_that_ranks_nothing_needs_no_metric(tmp_path):
    keep = kcp.policies.LatestN(1)
    train([0.5, 0.4], kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", monitor="x", keep=keep))
    assert files(tmp_path) == ["2.keras"]


def test_the_budget_of_bytes_holds(tmp_path):
    def trained(folder, **arguments):
        path = tmp_path / folder / "{epoch}.weights.h5"
        checkpoint = kcp.ModelCheckpoint(path, save_weights_only=True, **arguments)
        train([0.1, 0.2, 0.3], checkpoint)
        return CheckpointStore(tmp_path / folder).records()

    size = trained("all")[0].size
    for keep in (kcp.policies.MaxBytes(2.5 * size), kcp.policies.MaxBytes(0.5 * size)):
        records = trained(f"{keep.bytes}", keep=keep)
        assert [r.epoch for r in records] == list(range(int(max(1, keep.bytes // size))))


def test_what_a_policy_does_not_keep_is_said_with_its_reason(tmp_path, capsys):
    keep = kcp.policies.EveryN(2)
    train([0.5, 0.4], kcp.ModelCheckpoint(tmp_path / "{epoch}.keras", keep=keep, verbose=1))
    said = capsys.readouterr().out
    assert "Epoch 1: not saved: not one of every 2 epochs" in said
    assert f"Epoch 2: saving model to {tmp_path / '2.keras'}" in said


def test_a_typo_in_the_file_name_is_named(tmp_path):
    with pytest.raises(InvalidArgumentError, match="There is no 'accuracy'; there are: epoch"):
        train([0.5], kcp.ModelCheckpoint(tmp_path / "{accuracy}.keras"))


def test_can_be_copied_and_is_keras_own(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.keras")
    train([0.5], checkpoint)
    assert isinstance(copy.deepcopy(checkpoint), keras.callbacks.ModelCheckpoint)
