"""`BackupAndRestore`: a run that is killed and started again equals one that was left alone."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import (
    CheckpointWarning,
    InexactResumeWarning,
    InvalidArgumentError,
    ResumeError,
    RunMismatchError,
)

pytestmark = pytest.mark.backend


class Boom(Exception):
    """The tests' own failure."""


class FailsIn(keras.callbacks.Callback):
    """Raises in the third batch of an epoch."""

    def __init__(self, epoch=None):
        super().__init__()
        self.fail_in, self.epoch = epoch, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.fail_in and batch == 2:
            raise Boom


def run(folder, epochs=6, seed=1, fail_in=None, patience=10, units=8, verbose_order=False, **more):
    """One training with dropout, shuffling, Keras's and our callbacks; as a script would be."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(units),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"])
    x = np.random.default_rng(0).random((40, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    early = kcp.EarlyStopping(
        patience=patience, min_delta=more.pop("min_delta", 0), restore_best_weights=True
    )
    plateau = keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5)
    backup = kcp.BackupAndRestore(
        os.path.join(folder, "backup"), delete_checkpoint=more.pop("delete", False), **more
    )
    checkpoint = kcp.ModelCheckpoint(
        os.path.join(folder, "best-{epoch:02d}.weights.h5"),
        save_best_only=True,
        save_weights_only=True,
        max_to_keep=2,
    )
    callbacks = [early, backup, plateau, checkpoint, FailsIn(fail_in)]
    if verbose_order:
        callbacks.reverse()
    history = model.fit(
        x,
        y,
        batch_size=8,
        epochs=epochs,
        verbose=0,
        validation_data=(x[:8], y[:8]),
        callbacks=callbacks,
    )
    digest = hashlib.sha256()
    for variable in [*model.variables, *model.optimizer.variables]:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes())
    return {
        "weights": digest.hexdigest(),
        "history": history.history,
        "epochs": history.epoch,
        "early": [early.best, early.best_epoch, early.wait, early.stopped_epoch],
        "plateau": [float(plateau.best), plateau.wait],
        "files": sorted(f for f in os.listdir(folder) if f.endswith(".h5")),
    }


@pytest.mark.parametrize(
    ("fail_in", "order"), [(0, False), (3, True), (5, False)], ids=["first", "reversed", "last"]
)
def test_a_run_that_failed_in_any_epoch_ends_like_one_that_did_not(tmp_path, fail_in, order):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a", verbose_order=order)
    with pytest.raises(Boom):
        run(tmp_path / "b", fail_in=fail_in, verbose_order=order)
    assert run(tmp_path / "b", verbose_order=order) == whole


@pytest.mark.tensorflow
def test_on_tensorflow_another_seed_is_told(tmp_path):
    with pytest.raises(Boom):
        run(tmp_path, fail_in=2)
    with pytest.raises(RunMismatchError, match=r"global seed.*was 1, is 2"):
        run(tmp_path, seed=2)


def test_elsewhere_another_seed_does_not_matter(tmp_path):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow fixes the order of the data before any callback runs")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a")
    with pytest.raises(Boom):
        run(tmp_path / "b", fail_in=2)
    assert run(tmp_path / "b", seed=77) == whole


def test_a_finished_run_trains_nothing_and_returns_its_history(tmp_path):
    whole = run(tmp_path)
    assert run(tmp_path) == whole


def test_an_early_stopped_run_trains_nothing_and_returns_its_history(tmp_path):
    whole = run(tmp_path, patience=0, min_delta=1000.0)
    assert len(whole["epochs"]) == 2
    assert run(tmp_path, patience=0, min_delta=1000.0) == whole


def test_more_epochs_continue_a_finished_run(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    run(tmp_path / "b", epochs=3)
    assert run(tmp_path / "b", epochs=6)["history"] == run(tmp_path / "a", epochs=6)["history"]


def test_delete_checkpoint_deletes_after_a_clean_finish_only(tmp_path):
    with pytest.raises(Boom):
        run(tmp_path, fail_in=3, delete=True)
    assert (tmp_path / "backup").exists()
    (tmp_path / "backup" / "mine").write_text("mine")
    run(tmp_path, delete=True)
    assert os.listdir(tmp_path / "backup") == ["mine"]


def test_a_damaged_snapshot_is_passed_over_and_the_end_is_the_same(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a")
    with pytest.raises(Boom):
        run(tmp_path / "b", fail_in=4)
    snapshots = sorted((tmp_path / "b" / "backup").glob("*.kcp"))
    assert len(snapshots) == 2
    data = bytearray(snapshots[-1].read_bytes())
    data[len(data) // 2] ^= 1
    snapshots[-1].write_bytes(bytes(data))
    with pytest.warns(CheckpointWarning, match="damaged or cut"):
        assert run(tmp_path / "b") == whole


@pytest.mark.filterwarnings("ignore:.*It was set aside")
@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_lost_manifest_is_made_again_from_the_snapshots(tmp_path, how):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a")
    with pytest.raises(Boom):
        run(tmp_path / "b", fail_in=4)
    manifest = tmp_path / "b" / "backup" / "checkpoints.json"
    if how == "gone":
        manifest.unlink()
    else:
        manifest.write_bytes(manifest.read_bytes()[:-50])
    with pytest.warns(CheckpointWarning, match="its 2 checkpoints were listed again"):
        assert run(tmp_path / "b") == whole


def test_all_snapshots_damaged_is_an_error_and_nothing_is_deleted(tmp_path):
    with pytest.raises(Boom):
        run(tmp_path, fail_in=4)
    snapshots = sorted((tmp_path / "backup").glob("*.kcp"))
    for path in snapshots:
        path.write_bytes(path.read_bytes()[:-1])
    with (
        pytest.warns(CheckpointWarning),
        pytest.raises(ResumeError, match="Nothing was deleted"),
    ):
        run(tmp_path)
    assert sorted((tmp_path / "backup").glob("*.kcp")) == snapshots


def test_another_model_is_refused_with_what_differs(tmp_path):
    with pytest.raises(Boom):
        run(tmp_path, fail_in=2)
    with pytest.raises(
        RunMismatchError, match=r"layers: number 0 \(Dense\) units was 8, is 9"
    ) as caught:
        run(tmp_path, units=9)
    assert len(caught.value.differences) == 1


def test_initial_epoch_does_not_leak_into_a_later_fit(tmp_path):
    with pytest.raises(Boom):
        run(tmp_path, fail_in=3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.ones((8, 4)), np.ones(8)
    backup = kcp.BackupAndRestore(tmp_path / "other", delete_checkpoint=False)
    model.fit(*data, epochs=2, verbose=0, callbacks=[backup])
    model.fit(*data, epochs=2, verbose=0, callbacks=[kcp.BackupAndRestore(tmp_path / "other")])
    assert model.fit(*data, epochs=3, verbose=0).epoch == [0, 1, 2]


def test_initial_epoch_does_not_leak_from_a_fit_that_does_not_begin(tmp_path):
    class FailsAtOnce(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise Boom

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.ones((8, 4)), np.ones(8)

    def fit(*more, epochs=2):
        backup = kcp.BackupAndRestore(tmp_path, delete_checkpoint=False, on_mismatch="ignore")
        return model.fit(*data, epochs=epochs, verbose=0, callbacks=[backup, *more])

    keras.utils.set_random_seed(1)
    fit()
    with pytest.raises(Boom):
        fit(FailsAtOnce(), epochs=3)
    assert model.fit(*data, epochs=3, verbose=0).epoch == [0, 1, 2]


def csv_run(folder, fail_in=None, verbose=0, epochs=5, append=False):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).random((40, 4)).astype("float32")
    log = keras.callbacks.CSVLogger(folder / "log.csv", append=append)
    backup = kcp.BackupAndRestore(folder / "backup", delete_checkpoint=False)
    more = {"batch_size": 8, "epochs": epochs, "verbose": verbose, "shuffle": False}
    try:
        model.fit(x, x[:, :1], callbacks=[log, backup, FailsIn(fail_in)], **more)
    finally:
        log.csv_file.close()  # Keras leaves it open
    return (folder / "log.csv").read_bytes()


@pytest.mark.parametrize("append", [False, True])
def test_the_rows_of_a_csv_logger_are_those_of_an_uninterrupted_run(tmp_path, append):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = csv_run(tmp_path / "a", append=append)
    assert whole.count(b"\n") == 6
    with pytest.raises(Boom):
        csv_run(tmp_path / "b", fail_in=3, append=append)
    assert csv_run(tmp_path / "b", append=append) == whole
    assert csv_run(tmp_path / "b", append=append) == whole  # it is finished


def test_the_progress_bar_is_no_part_of_the_run(tmp_path):
    with pytest.raises(Boom):
        csv_run(tmp_path, fail_in=3, verbose=2)
    csv_run(tmp_path, verbose=0)


def test_an_input_with_state_of_its_own_is_told_at_the_start(tmp_path):
    def batches():
        while True:
            yield np.ones((8, 4)), np.ones((8, 1))

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.warns(InexactResumeWarning, match="state of its own"):
        model.fit(
            batches(),
            steps_per_epoch=2,
            shuffle=False,
            verbose=0,
            callbacks=[kcp.BackupAndRestore(tmp_path)],
        )
    with pytest.raises(ResumeError, match="would not be exact"):
        model.fit(
            batches(),
            steps_per_epoch=2,
            shuffle=False,
            verbose=0,
            callbacks=[kcp.BackupAndRestore(tmp_path, on_inexact="raise")],
        )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"save_freq": False}, "save_freq"),
        ({"save_freq": 0}, "save_freq"),
        ({"save_before_preemption": "SIGKILL"}, "SIGTERM"),
        ({"save_before_preemption": ["SIGNONE"]}, "SIGTERM"),
        ({"save_before_preemption": "SIGSEGV"}, "ask a process to end"),
        ({"save_before_preemption": []}, "False for none"),
        ({"save_before_preemption": 2.0}, "SIGTERM"),
        ({"save_before_preemption": [True]}, "SIGTERM"),
        ({"max_time": 10}, '"10 s"'),
        ({"save_freq": "5"}, "save_freq=5"),
        ({"on_mismatch": "warning"}, '"raise", "warn", "ignore"'),
        ({"backup_dir": ""}, "path of a folder"),
        ({"delete_checkpoint": "False"}, "True or False"),
    ],
)
def test_bad_arguments_are_refused(arguments, match):
    with pytest.raises(InvalidArgumentError, match=match):
        kcp.BackupAndRestore(**{"backup_dir": "x", **arguments})


SCRIPT = """
    import json, os, sys
    sys.path.insert(0, {root!r})
    from tests.integration.test_backup_and_restore import *
    class Kill(FailsIn):
        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == self.fail_in and batch == 2:
                os.kill(os.getpid(), signal.SIGKILL)
    import tests.integration.test_backup_and_restore as module
    module.FailsIn = Kill
    print("RESULT", json.dumps(module.run({folder!r}, fail_in={fail_in})))
"""


def in_a_process(folder, fail_in):
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    script = textwrap.dedent(SCRIPT).format(root=root, folder=str(folder), fail_in=fail_in)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=240
    )


def test_a_process_that_was_killed_is_resumed_bit_for_bit(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = run(tmp_path / "a")
    killed = in_a_process(tmp_path / "b", fail_in=3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = in_a_process(tmp_path / "b", fail_in=None)
    assert resumed.returncode == 0, resumed.stderr
    line = next(x for x in resumed.stdout.splitlines() if x.startswith("RESULT"))
    assert json.loads(line.removeprefix("RESULT ")) == json.loads(json.dumps(whole))
