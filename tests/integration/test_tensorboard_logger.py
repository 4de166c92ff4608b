"""`TensorBoardLogger` in `fit`: what stands in the charts, and that they go on after anything."""

from __future__ import annotations

import copy
import errno
import math
import os
import pickle
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
    BackgroundWriteError,
    CallbacksPlusWarning,
    InvalidArgumentError,
)
from keras_callbacks_plus.storage import LocalFileSystem

pytestmark = pytest.mark.backend

BATCHES = 5
X = np.linspace(-1.0, 1.0, 10 * 3, dtype="float32").reshape(10, 3)
Y = X @ np.array([[1.0], [-2.0], [0.5]], dtype="float32")


def make_model(optimizer=None, **compile_arguments):
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(
        optimizer or keras.optimizers.SGD(0.1), loss="mse", metrics=["mae"], **compile_arguments
    )
    return model


def fit(model, *callbacks, epochs=3, **arguments):
    arguments = {"validation_data": (X[:4], Y[:4]), "shuffle": False, "verbose": 0, **arguments}
    arguments.setdefault("batch_size", 2)
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **arguments).history


def charts(folder):
    """{run: {tag: [(step, value)]}}, as TensorBoard reads them."""
    found = {}
    for path, _, names in os.walk(folder):
        if any("tfevents" in name for name in names):
            accumulator = EventAccumulator(path, size_guidance={"scalars": 0})
            accumulator.Reload()
            run = os.path.relpath(path, folder).replace(os.sep, "/")
            found[run] = {
                tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
                for tag in accumulator.Tags()["scalars"]
            }
    return found


def steps(points):
    return [step for step, _ in points]


def numbered(values, first=0):
    return [(first + i, pytest.approx(value, rel=1e-6)) for i, value in enumerate(values)]


class Stop(keras.callbacks.Callback):
    """Ends `fit` by an exception, as Ctrl-C does, after some batches of an epoch."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = epoch, batch
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt


class Logs(keras.callbacks.Callback):
    """What Keras said at every batch."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(dict(logs))


# ---------------------------------------------------------------------------- what is written


def test_epochs_are_written_as_history_has_them(tmp_path):
    history = fit(make_model(), kcp.TensorBoardLogger(tmp_path))
    assert charts(tmp_path) == {
        "train": {
            "epoch_loss": numbered(history["loss"]),
            "epoch_mae": numbered(history["mae"]),
            "epoch_learning_rate": numbered([0.1] * 3),
        },
        "validation": {
            "epoch_loss": numbered(history["val_loss"]),
            "epoch_mae": numbered(history["val_mae"]),
        },
    }


def test_batches_are_written_at_the_optimizers_steps(tmp_path):
    logs = Logs()
    history = fit(make_model(), kcp.TensorBoardLogger(tmp_path, update_freq="batch"), logs)
    found = charts(tmp_path)
    assert found["train/steps"] == {
        "batch_loss": numbered([batch["loss"] for batch in logs.batches], first=1),
        "batch_mae": numbered([batch["mae"] for batch in logs.batches], first=1),
        "batch_learning_rate": numbered([0.1] * 15, first=1),
    }
    ends = [(5 * (i + 1), pytest.approx(v, rel=1e-6)) for i, v in enumerate(history["val_loss"])]
    assert found["validation/steps"]["evaluation_loss_vs_iterations"] == ends
    assert found["train"]["epoch_loss"] == numbered(history["loss"])


@pytest.mark.parametrize(
    ("update_freq", "expected"), [(1, range(1, 16)), (4, (4, 8, 12)), (7, (7, 14))]
)
def test_every_nth_batch_is_counted_over_the_epochs(tmp_path, update_freq, expected):
    fit(make_model(), kcp.TensorBoardLogger(tmp_path, update_freq=update_freq))
    assert steps(charts(tmp_path)["train/steps"]["batch_loss"]) == list(expected)


@pytest.mark.tensorflow
@pytest.mark.jax
@pytest.mark.parametrize(
    ("update_freq", "expected"), [("batch", [2, 4, 5, 7, 9, 10]), (5, [5, 10]), (4, [4, 9])]
)
def test_steps_under_steps_per_execution_are_the_optimizers(tmp_path, update_freq, expected):
    model = make_model(steps_per_execution=2)
    fit(model, kcp.TensorBoardLogger(tmp_path, update_freq=update_freq), epochs=2)
    found = charts(tmp_path)
    assert steps(found["train/steps"]["batch_loss"]) == expected
    assert steps(found["validation/steps"]["evaluation_loss_vs_iterations"]) == [5, 10]
    assert int(model.optimizer.iterations) == 10


def test_steps_under_gradient_accumulation_are_updates(tmp_path):
    model = make_model(keras.optimizers.SGD(0.1, gradient_accumulation_steps=5))
    fit(model, kcp.TensorBoardLogger(tmp_path, update_freq="batch"))
    assert steps(charts(tmp_path)["train/steps"]["batch_loss"]) == [0, 1, 2, 3]
    assert int(model.optimizer.iterations) == 3


def test_the_rate_at_a_batch_is_the_one_it_was_trained_with(tmp_path):
    schedule = kcp.schedules.LinearDecay(0.1, 20)
    scheduler = kcp.LearningRateScheduler(schedule)
    fit(make_model(), kcp.TensorBoardLogger(tmp_path, update_freq="batch"), scheduler)
    found = charts(tmp_path)["train/steps"]["batch_learning_rate"]
    assert found == numbered([schedule(step) for step in range(15)], first=1)


def test_an_optimizer_that_owns_a_schedule_has_its_rate_at_epochs(tmp_path):
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 15, 0.0)
    model = make_model(keras.optimizers.SGD(schedule))
    fit(model, kcp.TensorBoardLogger(tmp_path, update_freq="batch"))
    found = charts(tmp_path)
    expected = [
        (i, pytest.approx(0.1 * (1 - done / 15), abs=1e-7)) for i, done in enumerate((5, 10, 15))
    ]
    assert found["train"]["epoch_learning_rate"] == expected
    assert set(found["train/steps"]) == {"batch_loss", "batch_mae"}


def test_the_rate_that_another_callback_logged_is_written(tmp_path):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=1e9)
    history = fit(make_model(), plateau, kcp.TensorBoardLogger(tmp_path))
    assert len(set(history["learning_rate"])) > 1
    found = charts(tmp_path)["train"]["epoch_learning_rate"]
    assert found == numbered(history["learning_rate"])


def test_the_rate_is_left_out_where_it_is_not_wanted(tmp_path):
    logger = kcp.TensorBoardLogger(tmp_path, update_freq="batch", write_learning_rate=False)
    fit(make_model(), logger)
    found = charts(tmp_path)
    assert not [tag for run in found.values() for tag in run if "learning_rate" in tag]


def test_speed_is_steps_by_the_time_of_training_without_validation(tmp_path):
    logger = kcp.TensorBoardLogger(tmp_path, write_steps_per_second=True)
    seconds = iter(range(0, 10_000, 2))  # every look at the clock is 2 s after the one before
    logger._clock = lambda: float(next(seconds))
    fit(make_model(), logger, epochs=2)
    found = charts(tmp_path)["train"]["epoch_steps_per_second"]
    assert found == [(0, 2.5), (1, 2.5)]  # 5 steps between two looks


def test_nan_and_infinity_are_written(tmp_path):
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["a"], logs["b"], logs["c"] = math.nan, math.inf, 1e300

    fit(make_model(), Broken(), kcp.TensorBoardLogger(tmp_path), epochs=1)
    found = charts(tmp_path)["train"]
    assert math.isnan(found["epoch_a"][0][1])
    assert found["epoch_b"] == found["epoch_c"] == [(0, math.inf)]


def test_what_is_no_number_is_left_out_with_a_warning(tmp_path):
    class Vector(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["confusion"] = np.zeros(4)

    with pytest.warns(
        CallbacksPlusWarning, match="'confusion' is not written.*Reduce it"
    ) as caught:
        fit(make_model(), Vector(), kcp.TensorBoardLogger(tmp_path))
    assert [w.category for w in caught].count(CallbacksPlusWarning) == 1
    assert "epoch_confusion" not in charts(tmp_path)["train"]


def test_validation_at_some_epochs_only(tmp_path):
    fit(make_model(), kcp.TensorBoardLogger(tmp_path), epochs=5, validation_freq=2)
    assert steps(charts(tmp_path)["validation"]["epoch_loss"]) == [1, 3]


def test_evaluate_on_its_own_writes_nothing(tmp_path):
    model = make_model()
    model.evaluate(
        X, Y, verbose=0, callbacks=[kcp.TensorBoardLogger(tmp_path, update_freq="batch")]
    )
    assert charts(tmp_path) == {}


# ---------------------------------------------------------------------------- going on


def test_a_second_fit_goes_on_where_the_charts_end(tmp_path):
    model, logger = make_model(), kcp.TensorBoardLogger(tmp_path, update_freq="batch")
    first, second = fit(model, logger), fit(model, logger, epochs=2)
    found = charts(tmp_path)
    assert found["train"]["epoch_loss"] == numbered(first["loss"] + second["loss"])
    assert found["validation"]["epoch_loss"] == numbered(first["val_loss"] + second["val_loss"])
    assert steps(found["train/steps"]["batch_loss"]) == list(range(1, 26))


def test_a_second_fit_with_initial_epoch_keeps_its_epochs(tmp_path):
    model, logger = make_model(), kcp.TensorBoardLogger(tmp_path)
    fit(model, logger)
    fit(model, logger, initial_epoch=6, epochs=8)
    assert steps(charts(tmp_path)["train"]["epoch_loss"]) == [0, 1, 2, 6, 7]


def test_a_second_fit_with_a_new_optimizer_counts_its_steps_on(tmp_path):
    logger = kcp.TensorBoardLogger(tmp_path, update_freq="batch")
    fit(make_model(), logger)
    fit(make_model(), logger)
    found = charts(tmp_path)
    assert steps(found["train/steps"]["batch_loss"]) == list(range(1, 31))
    assert steps(found["train"]["epoch_loss"]) == list(range(6))


def test_a_fit_after_one_that_was_interrupted_goes_on(tmp_path):
    model, logger = make_model(), kcp.TensorBoardLogger(tmp_path, update_freq="batch")
    with pytest.raises(KeyboardInterrupt):
        fit(model, logger, Stop(1, 2))
    fit(model, logger)
    assert steps(charts(tmp_path)["train/steps"]["batch_loss"]) == list(range(1, 24))


def test_close_writes_what_an_interrupted_fit_left_and_the_next_fit_reopens(tmp_path):
    model, logger = make_model(), kcp.TensorBoardLogger(tmp_path, update_freq="batch")
    with pytest.raises(KeyboardInterrupt):
        fit(model, logger, Stop(1, 2))
    logger.close()
    logger.close()
    assert steps(charts(tmp_path)["train/steps"]["batch_loss"]) == list(range(1, 9))
    fit(model, logger)
    assert steps(charts(tmp_path)["train/steps"]["batch_loss"]) == list(range(1, 24))


def test_a_new_run_in_a_used_folder_warns_and_is_drawn_in_place_of_the_old(tmp_path):
    fit(make_model(), kcp.TensorBoardLogger(tmp_path), epochs=5)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")}
    with pytest.warns(CallbacksPlusWarning, match="give each run a `log_dir` of its own"):
        history = fit(make_model(), kcp.TensorBoardLogger(tmp_path), epochs=2)
    assert charts(tmp_path)["train"]["epoch_loss"] == numbered(history["loss"])
    assert {path: path.read_bytes() for path in before} == before


def test_training_continued_by_hand_needs_no_warning(tmp_path):
    model = make_model()
    fit(model, kcp.TensorBoardLogger(tmp_path, update_freq="batch"))
    fit(model, kcp.TensorBoardLogger(tmp_path, update_freq="batch"), initial_epoch=3, epochs=5)
    found = charts(tmp_path)
    assert steps(found["train"]["epoch_loss"]) == list(range(5))
    assert steps(found["train/steps"]["batch_loss"]) == list(range(1, 26))


# ---------------------------------------------------------------------------- resume


class Snapshots(keras.callbacks.Callback):
    """Does what `BackupAndRestore` does: state at an epoch's end, put back in another process."""

    def __init__(self, logger, resume=None):
        super().__init__()
        self.logger = logger
        self.resume = resume
        self.taken = {}

    def variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def on_train_begin(self, logs=None):
        if self.resume is not None:
            values, state = self.resume
            for variable, value in zip(self.variables(), values, strict=True):
                variable.assign(value)
            self.logger.set_state(pickle.loads(pickle.dumps(state)))
        else:
            self.take(-1)

    def on_epoch_end(self, epoch, logs=None):
        self.take(epoch)

    def take(self, epoch):
        state = self.logger.get_state()
        self.logger.wait_until_finished()
        values = [np.copy(keras.ops.convert_to_numpy(v)) for v in self.variables()]
        self.taken[epoch] = values, state


@pytest.mark.parametrize("update_freq", ["epoch", "batch", 3])
@pytest.mark.parametrize("resume_after", [-1, 0, 1])
def test_a_resumed_run_has_the_charts_of_an_uninterrupted_one(tmp_path, resume_after, update_freq):
    def make(name):
        return kcp.TensorBoardLogger(tmp_path / name, update_freq=update_freq)

    fit(make_model(), make("whole"), epochs=5)
    logger = make("killed")
    snapshots = Snapshots(logger)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), logger, snapshots, Stop(3, 2), epochs=5)
    logger.wait_until_finished()  # the thread had time to write before the kill
    logger = make("killed")
    restore = Snapshots(logger, snapshots.taken[resume_after])
    fit(make_model(), logger, restore, initial_epoch=resume_after + 1, epochs=5)
    found = charts(tmp_path / "killed")
    assert found == charts(tmp_path / "whole")
    assert steps(found["train"]["epoch_loss"]) == list(range(5))


def test_a_resume_leaves_the_files_of_other_runs_alone(tmp_path):
    fit(make_model(), kcp.TensorBoardLogger(tmp_path), epochs=5)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")}
    logger = kcp.TensorBoardLogger(tmp_path)
    snapshots = Snapshots(logger)
    with pytest.warns(CallbacksPlusWarning, match="earlier run"):
        fit(make_model(), logger, snapshots, epochs=3)
    logger = kcp.TensorBoardLogger(tmp_path)
    restore = Snapshots(logger, snapshots.taken[0])
    fit(make_model(), logger, restore, initial_epoch=1, epochs=2)
    assert steps(charts(tmp_path)["train"]["epoch_loss"]) == [0, 1]
    assert {path: path.read_bytes() for path in before} == before


def test_the_state_is_plain_data():
    import json

    state = kcp.TensorBoardLogger("logs").get_state()
    assert json.loads(json.dumps(state)) == state


def test_a_snapshot_of_a_finished_run_opens_no_file(tmp_path):
    logger = kcp.TensorBoardLogger(tmp_path)
    fit(make_model(), logger)
    state = logger.get_state()
    files = sorted(tmp_path.rglob("*"))
    again = kcp.TensorBoardLogger(tmp_path)
    again.set_state(state)
    again.close()
    assert sorted(tmp_path.rglob("*")) == files


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
import numpy as np, keras, keras_callbacks_plus as kcp
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
class End(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            {how}
logger = kcp.TensorBoardLogger({folder!r}, update_freq="batch", flush_secs=3600)
try:
    model.fit(np.ones((10, 3)), np.ones(10), batch_size=2, verbose=0, callbacks=[logger, End()])
except ValueError:
    pass
print("tensorflow" in sys.modules)
"""


@pytest.mark.jax  # which starts soonest; the backend has no part in it
@pytest.mark.parametrize("how", ["raise ValueError", "sys.exit()", "raise KeyboardInterrupt"])
def test_a_process_that_ends_by_an_exception_loses_nothing(tmp_path, how):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    script = KILLED.format(root=root, folder=str(tmp_path), how=how)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300
    )
    assert steps(charts(tmp_path)["train/steps"]["batch_loss"]) == [1, 2, 3, 4], result.stderr
    if how == "raise ValueError" and keras.backend.backend() != "tensorflow":
        assert result.stdout == "False\n"


class Fail(keras.callbacks.Callback):
    """Fails after some batches of the second epoch, or before its validation."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, self.batch):
            raise KeyboardInterrupt

    def on_test_begin(self, logs=None):
        if (self.epoch, self.batch) == (1, BATCHES):
            raise KeyboardInterrupt


@pytest.mark.parametrize("batch", [0, 1, 3, BATCHES])
def test_a_resume_within_an_epoch_draws_what_a_whole_run_does(tmp_path, batch):
    def run(name, fails_after=None):
        backup = kcp.BackupAndRestore(tmp_path / name / "backup", 1, delete_checkpoint=False)
        logger = kcp.TensorBoardLogger(
            tmp_path / name / "charts", update_freq=1, write_steps_per_second=False
        )
        fit(make_model(), backup, logger, Fail(fails_after))
        return charts(tmp_path / name / "charts")

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("resumed", batch)
    resumed = run("resumed")
    assert steps(whole["train/steps"]["batch_loss"]) == list(range(1, 3 * BATCHES + 1))
    assert resumed == whole


# ---------------------------------------------------------------------------- the callback itself


def test_an_error_of_the_disk_ends_fit(tmp_path):
    class FullDisk(LocalFileSystem):
        def write(self, descriptor, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    logger = kcp.TensorBoardLogger(tmp_path)
    logger._epochs.folders["train"]._file_system = FullDisk()
    with pytest.raises(BackgroundWriteError, match="No space left.*leave the callback out"):
        fit(make_model(), logger)
    assert steps(charts(tmp_path)["validation"]["epoch_loss"]) == [0, 1, 2]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
@pytest.mark.parametrize("update_freq", ["epoch", "batch"])
def test_a_copy_is_a_fresh_callback_with_the_same_arguments(tmp_path, clone, update_freq):
    logger = kcp.TensorBoardLogger(tmp_path / "a", update_freq=update_freq, flush_secs=3.0)
    fit(make_model(), logger, epochs=2)
    twin = clone(logger)
    assert (twin.log_dir, twin.update_freq, twin.flush_secs) == (logger.log_dir, update_freq, 3.0)
    assert twin.get_state()["run"] != logger.get_state()["run"]
    assert twin.get_state()["epochs"]["written"] == {"train": None, "validation": None}
    twin.log_dir = str(tmp_path / "b")
    twin.__setstate__(twin.__getstate__())
    fit(make_model(), twin, epochs=2)
    assert charts(tmp_path / "b") == charts(tmp_path / "a")


def test_only_batch_logging_takes_keras_asynchronous_dispatch():
    from keras.src.utils.python_utils import is_default

    assert is_default(kcp.TensorBoardLogger().on_train_batch_end)
    assert is_default(kcp.TensorBoardLogger().on_test_batch_end)
    assert not is_default(kcp.TensorBoardLogger(update_freq=10).on_train_batch_end)


def test_batches_do_not_touch_self_model(tmp_path, monkeypatch):
    touched = []
    where = []

    class Watched(kcp.TensorBoardLogger):
        @property
        def model(self):
            touched.append(list(where))
            return self._model

    logger = Watched(tmp_path, update_freq="batch")
    inner = logger.on_train_batch_end

    def hook(batch, logs=None):
        where.append(batch)
        inner(batch, logs=logs)
        where.pop()

    logger.on_train_batch_end = hook
    fit(make_model(), logger)
    assert touched
    assert not any(touched)


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"log_dir": ""}, 'Pass a string such as "logs/run1"'),
        ({"log_dir": 3}, 'Pass a string such as "logs/run1"'),
        ({"update_freq": 0}, "Write 100"),
        ({"update_freq": True}, "Write 100"),
        ({"update_freq": "epochs"}, "Write 100"),
        ({"update_freq": 1.5}, "Write 100"),
        ({"flush_secs": 0}, "Leave it out"),
        ({"flush_secs": math.inf}, "Leave it out"),
        ({"flush_secs": "10"}, "Leave it out"),
    ],
)
def test_bad_arguments_say_what_to_type(arguments, fix):
    with pytest.raises(InvalidArgumentError, match=fix):
        kcp.TensorBoardLogger(**arguments)


def test_a_file_in_the_place_of_the_folder_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="not of a file"):
        kcp.TensorBoardLogger(tmp_path / "file")


def test_a_fit_that_fails_leaves_no_thread_behind(tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(make_model(), kcp.TensorBoardLogger(tmp_path, update_freq=1), Fails())
    assert [t.name for t in threading.enumerate() if "event files" in t.name] == []
    assert charts(tmp_path)["train"]
