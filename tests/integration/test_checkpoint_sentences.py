"""What is promised of `ModelCheckpoint` in a sentence each, through a real `fit`."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_callbacks_plus as kcp
from keras_callbacks_plus.storage import CheckpointStore

pytestmark = pytest.mark.backend

X = np.random.default_rng(0).random((40, 2)).astype("float32")
Y = X.sum(1, keepdims=True)
STORED = Path(__file__).parents[1] / "fixtures" / "manifest_version_1"


class Script(keras.callbacks.Callback):
    """Writes prescribed values into the logs, from the epoch on that `fit` begins with."""

    def __init__(self, values):
        super().__init__()
        self.values = list(values)

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.values.pop(0)


def new_model(**arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    loss = keras.losses.MeanSquaredError()  # "mse" in an HDF5 file is not found again by Keras
    model.compile(keras.optimizers.SGD(0.01), loss, **arguments)
    return model


def fit(model, *callbacks, epochs=1, initial_epoch=0):
    model.fit(
        X,
        Y,
        batch_size=4,
        epochs=initial_epoch + epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


def saved_files(folder):
    return sorted(name for name in os.listdir(folder) if name.endswith(".h5"))


def test_a_folder_of_an_older_format_is_read_upgraded_and_continued(tmp_path):
    """Its files have 0.5 (epoch 1) and 0.25 (epoch 3), and it keeps the best two."""
    folder = shutil.copytree(STORED, tmp_path / "run")
    assert kcp.checkpoints(folder).best(series="{epoch:02d}.weights.h5").epoch == 2
    assert json.loads((folder / "checkpoints.json").read_text())["version"] == 1
    checkpoint = kcp.ModelCheckpoint(
        folder / "{epoch:02d}.weights.h5",
        save_best_only=True,
        save_weights_only=True,
        max_to_keep=2,
    )
    model = fit(new_model(), Script([0.6, 0.3]), checkpoint, epochs=2, initial_epoch=4)
    assert saved_files(folder) == ["03.weights.h5", "06.weights.h5", "last.weights.h5"]
    assert json.loads((folder / "checkpoints.json").read_text())["version"] == 2
    saved = kcp.checkpoints(folder)
    saved.verify()
    assert [(c.name, c.sequence) for c in saved] == [
        ("03.weights.h5", 1),
        ("last.weights.h5", 5),
        ("06.weights.h5", 6),
    ]
    assert saved.best(series="{epoch:02d}.weights.h5").name == "03.weights.h5"
    assert checkpoint.best == 0.25
    saved.best(series="{epoch:02d}.weights.h5").load_weights(model)


@pytest.mark.filterwarnings("ignore:.*HDF5 file.*legacy")  # it is asked for
def test_a_whole_model_in_an_h5_file(tmp_path):
    checkpoint = kcp.ModelCheckpoint(tmp_path / "{epoch}.h5", monitor="loss", max_to_keep=2)
    model = fit(new_model(), checkpoint, epochs=3)
    assert saved_files(tmp_path) == ["2.h5", "3.h5"]
    saved = kcp.checkpoints(tmp_path)
    saved.verify()
    assert [(c.kind, c.epoch) for c in saved] == [("model", 1), ("model", 2)]
    for one in (saved.latest().load_model(), keras.models.load_model(tmp_path / "3.h5")):
        assert int(one.optimizer.iterations) == 30
        for now, then in zip(one.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(now, then)
        # as after `model.save("m.h5")`, its optimizer does not know the variables: Keras's reader
        one.compile("sgd", "mse")
        fit(one)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch has no steps_per_execution")
@pytest.mark.parametrize(
    ("save_freq", "expected"),
    [
        (4, {"1-4": 4, "1-8": 8, "2-4": 14, "2-8": 18, "2-10": 20}),
        ("7 batches", {"1-8": 8, "2-4": 14}),
        (1, {"1-4": 4, "1-8": 8, "1-10": 10, "2-4": 14, "2-8": 18, "2-10": 20}),
    ],
)
def test_batches_are_counted_where_several_are_one_execution(tmp_path, save_freq, expected):
    """Ten batches an epoch, four in an execution: after the first one that reaches the number."""
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}-{batch}.weights.h5", save_weights_only=True, save_freq=save_freq
    )
    fit(new_model(steps_per_execution=4), checkpoint, epochs=2)
    steps = {r.path.partition(".")[0]: r.step for r in CheckpointStore(tmp_path).records()}
    assert steps == expected


class Clock(keras.callbacks.Callback):
    """Five minutes and a second pass in each batch."""

    def __init__(self):
        super().__init__()
        self.passed = 0.0
        self.real = time.monotonic

    def __call__(self):
        return self.real() + self.passed

    def on_train_batch_begin(self, batch, logs=None):
        self.passed += 301.0


def test_a_file_every_ten_minutes(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    checkpoint = kcp.ModelCheckpoint(
        tmp_path / "{epoch}-{batch:02d}.weights.h5", save_weights_only=True, save_freq="10 min"
    )
    fit(new_model(), clock, checkpoint, epochs=2)
    names = [f"{epoch}-{batch:02d}.weights.h5" for epoch in (1, 2) for batch in (2, 4, 6, 8, 10)]
    assert saved_files(tmp_path) == names
