"""From a training to a folder, and from the folder back into models."""

from __future__ import annotations

import logging
import tempfile

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import CheckpointCorruptedError, CheckpointWarning
from tests.helpers.checkpoint_folder import damage

X = np.random.default_rng(0).random((24, 4)).astype("float32")


class Script(keras.callbacks.Callback):
    """Writes prescribed values into the logs."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values = name, values

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]


def new_model(seed=3):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])


class Predictions(keras.callbacks.Callback):
    """What the model said at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.of_epoch = []

    def on_epoch_end(self, epoch, logs=None):
        self.of_epoch.append(keras.ops.convert_to_numpy(self.model(X)))


def train(values, *savers, name="val_loss"):
    said = Predictions()
    callbacks = [Script(name, values), said, *savers]
    y = X.sum(1, keepdims=True)
    model = new_model()
    model.compile("adam", "mse")
    model.fit(X, y, batch_size=8, epochs=len(values), verbose=0, callbacks=callbacks)
    return said.of_epoch


def assert_says(model, expected):
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(X)), expected, rtol=1e-5, atol=1e-6)


VALUES = [0.9, 0.2, 0.5]


@pytest.fixture
def trained(tmp_path):
    """A folder of models, and what the model said after each epoch."""
    return tmp_path, train(VALUES, kcp.ModelCheckpoint(tmp_path / "{epoch:02d}.keras"))


def test_the_best_and_the_latest_load(trained, caplog):
    folder, said = trained
    saved = kcp.checkpoints(folder)
    with caplog.at_level(logging.INFO, "keras_callbacks_plus"):
        assert_says(saved.best().load_model(), said[1])
    assert f"Verified {saved[1].size:,} bytes of {saved[1].path}" in caplog.text
    assert_says(saved.latest().load_model(compile=False), said[2])


def test_weights_load_into_a_model(trained):
    folder, said = trained
    model = new_model(seed=8)
    kcp.checkpoints(folder).best().load_weights(model)
    assert_says(model, said[1])


def test_a_weights_file_loads_into_a_model(tmp_path):
    path = tmp_path / "{epoch}.weights.h5"
    said = train(VALUES, kcp.ModelCheckpoint(path, save_weights_only=True))
    best = kcp.checkpoints(tmp_path).best()
    assert (best.kind, best.epoch, best.step) == ("weights", 1, 6)
    model = new_model(seed=8)
    best.load_weights(model, skip_mismatch=False)
    assert_says(model, said[1])


@pytest.mark.parametrize(("name", "weights"), [("{epoch}.keras", False), ("w.weights.h5", True)])
def test_models_and_weights_load_from_an_object_store(name, weights, tmp_path, monkeypatch):
    """Keras opens files of this machine: a copy is fetched, compared on the way, and removed."""
    pytest.importorskip("fsspec")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    url = f"memory://{tmp_path.name}/{weights}"
    said = train(
        VALUES, kcp.ModelCheckpoint(f"{url}/{name}", save_weights_only=weights, save_best_only=True)
    )
    best = kcp.checkpoints(url).best()
    if not weights:
        assert_says(best.load_model(), said[1])
    model = new_model(seed=8)
    best.load_weights(model)
    assert_says(model, said[1])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_object_loads_nothing(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    train([0.5], kcp.ModelCheckpoint(f"memory://{tmp_path.name}/a.keras"))
    saved = kcp.checkpoints(f"memory://{tmp_path.name}")
    data = bytearray(fsspec.filesystem("memory").cat_file(saved[0].path))
    data[len(data) // 2] ^= 4
    fsspec.filesystem("memory").pipe_file(saved[0].path, bytes(data))
    with pytest.raises(CheckpointCorruptedError) as error:
        saved[0].load_model()
    assert error.value.path == saved[0].path
    assert error.value.suspects == (len(data) // 2,)
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_manifest_was_lost_is_read_back(trained):
    folder, said = trained
    (folder / "checkpoints.json").unlink()
    with pytest.warns(CheckpointWarning, match=r"Listed is each checkpoint .* \(3\)"):
        saved = kcp.checkpoints(folder)
    assert (saved[0].monitor, saved[0].mode, saved[0].step) == ("val_loss", "min", 3)
    assert_says(saved.best().load_model(), said[1])
    assert not (folder / "checkpoints.json").exists()


def test_a_damaged_file_loads_nothing(trained):
    """Not even a model that is wrong in one weight."""
    folder, said = trained
    saved = kcp.checkpoints(folder)
    best = saved.best()
    damage(folder / "02.keras", best.size // 2)
    model = new_model(seed=8)
    before = keras.ops.convert_to_numpy(model(X))
    with pytest.raises(CheckpointCorruptedError, match=r"02\.keras is damaged between bytes 0 and"):
        best.load_weights(model)
    assert_says(model, before)
    with pytest.raises(CheckpointCorruptedError):
        best.load_model()
    with pytest.warns(CheckpointWarning, match=r"02\.keras is damaged"):
        assert_says(saved.best().load_model(), said[2])


@pytest.mark.parametrize("best_only", [True, False])
def test_the_manifest_knows_what_the_callback_ranks_by(tmp_path, best_only):
    saver = kcp.ModelCheckpoint(
        tmp_path / "{epoch}.keras",
        monitor="score",
        mode="max",
        save_best_only=best_only,
        max_to_keep=2,
    )
    train([0.5, 0.9, 0.7], saver, name="score")
    saved = kcp.checkpoints(tmp_path)
    assert {(c.monitor, c.mode) for c in saved} == {("score", "max")}
    assert saved.best().epoch == 1


def test_a_metric_that_is_not_logged_is_not_claimed(tmp_path):
    train([0.5], kcp.ModelCheckpoint(tmp_path / "a.keras"), name="other")
    assert kcp.checkpoints(tmp_path)[0].monitor is None
    assert kcp.checkpoints(tmp_path).best("loss").mode is None


def test_snapshots_of_a_backup_are_listed_and_stay(tmp_path):
    backup = kcp.BackupAndRestore(tmp_path, delete_checkpoint=False)
    train(VALUES, kcp.ModelCheckpoint(tmp_path / "{epoch}.keras"), backup)
    saved = kcp.checkpoints(tmp_path)
    assert saved.series == ("{epoch}.keras", "training_state")
    assert saved.latest().kind == "model"
    saved.prune(kcp.policies.LatestN(1))
    assert [c.kind for c in kcp.checkpoints(tmp_path)].count("training_state") == 2
