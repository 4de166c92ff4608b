"""A training that is left by an exception and started again, beside one that was left alone."""

from __future__ import annotations

import hashlib
import sys
import warnings

import keras
import numpy as np

import keras_callbacks_plus as kcp
from keras_callbacks_plus.errors import CallbacksPlusWarning

SAMPLES, BATCH, EPOCHS = 40, 8, 3
AT_EPOCH, WITHIN = (2, 0), (1, 3)


class Boom(Exception):
    """The tests' own failure."""


class FailsAt(keras.callbacks.Callback):
    """Raises at the beginning of a batch of an epoch."""

    def __init__(self, place):
        super().__init__()
        self.place, self.epoch = place, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if self.place == (self.epoch, batch):
            raise Boom


def arrays():
    x = np.random.default_rng(0).normal(size=(SAMPLES, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def plain_model(**compiled):
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5), layers.Dropout(0.2), layers.Dense(1)]
    )
    model.compile(**{"optimizer": "adam", "loss": "mse", "metrics": ["mae"], **compiled})
    return model


def train(folder, make=plain_model, data=arrays, place=None, callbacks=(), get=None, **more):
    """Trains as a script would; returns everything that must be equal.

    Args:
        folder: Of the backup.
        make: Makes the compiled model.
        data: Makes the data: a tuple of arrays, or one input.
        place: The epoch and the batch at which it fails, or `None`.
        callbacks: More callbacks.
        get: Returns more of the model that must be equal.
        more: `seed`, `epochs`, `backup` (arguments of the callback), and arguments of `fit`.
    """
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(more.pop("seed", 1))
    if "torch" in sys.modules:  # which Keras seeds where it is the backend
        sys.modules["torch"].manual_seed(1)
    made = data()
    model = make()
    backup = kcp.BackupAndRestore(
        folder, **{"delete_checkpoint": False, "save_freq": 1, **more.pop("backup", {})}
    )
    if isinstance(made, tuple):
        more.setdefault("batch_size", BATCH)
    elif not isinstance(made, keras.utils.PyDataset):
        more.setdefault("shuffle", False)
    more = {name: value() if callable(value) else value for name, value in more.items()}
    history = model.fit(
        *(made if isinstance(made, tuple) else (made,)),
        **{"epochs": EPOCHS, "verbose": 0, **more},
        callbacks=[*callbacks, FailsAt(place), backup],
    )
    digest = hashlib.sha256()
    optimizer = [] if model.optimizer is None else model.optimizer.variables
    for variable in [*model.variables, *optimizer, *(get(model) if get else [])]:
        value = keras.ops.convert_to_numpy(variable.value)
        digest.update(np.ascontiguousarray(value).tobytes())
    return {"variables": digest.hexdigest(), "history": history.history, "epochs": history.epoch}


def compare(tmp_path, place, **more):
    """The names of what differs after a resume, and the warnings of ours.

    Args:
        tmp_path: A folder.
        place: The epoch and the batch at which it fails; a snapshot is taken after each batch.
        more: What `train` takes. A resume at the beginning of an epoch saves at epochs only.
    """
    backup = {"save_freq": "epoch" if place[1] == 0 else 1, **more.pop("backup", {})}
    told = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole = train(tmp_path / "whole", backup=backup, **more)
        try:
            train(tmp_path / "cut", backup=backup, place=place, **more)
        except Boom:
            resumed = train(tmp_path / "cut", backup=backup, **more)
        else:
            raise AssertionError("it did not fail")
    told = [str(w.message) for w in caught if issubclass(w.category, CallbacksPlusWarning)]
    return [name for name in whole if whole[name] != resumed[name]], told
