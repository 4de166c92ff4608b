"""Trainings that are resumed from every snapshot they take, and compared bit by bit.

Each is what a script would be: it seeds, makes its data, its model and its callbacks, and fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import random
import shutil
from pathlib import Path

import keras
import numpy as np

import keras_callbacks_plus as kcp
from keras_callbacks_plus.callbacks import _resumable_run

BATCH, SAMPLES, EPOCHS = 8, 44, 2  # five whole batches and half of one


class Trace(keras.callbacks.Callback):
    """A stranger's callback: draws random numbers, and notes every batch it is told of."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append([batch, random.random()])

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([batch, float(np.random.random()), float(logs["loss"])])


class Noted(keras.callbacks.Callback):
    """Like `Trace`, without touching the generators that the data may draw from."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([batch, float(logs["loss"])])


def arrays():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


class Batches(keras.utils.PyDataset):
    """The classic: a random order, made anew at the end of each epoch; noise on each batch."""

    def __init__(self, workers=1, noise=True):
        super().__init__(workers=workers)
        self.x, self.y = arrays()
        self.order = np.arange(SAMPLES)
        self.rng = np.random.default_rng(3)
        self.noise = noise

    def __len__(self):
        return -(-SAMPLES // BATCH)

    def __getitem__(self, index):
        rows = self.order[index * BATCH : (index + 1) * BATCH]
        noise = np.random.normal(size=(len(rows), 4)) if self.noise else 0.0
        return (self.x[rows] + noise).astype("float32"), self.y[rows]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


def tf_dataset(unknown=False):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(SAMPLES, seed=5).batch(BATCH)
    return dataset.filter(lambda x, y: True) if unknown else dataset


def data_loader(own_generator=False, workers=0):
    import torch

    x, y = (torch.from_numpy(a) for a in arrays())
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        generator=torch.Generator().manual_seed(11) if own_generator else None,
    )


def grain_dataset(iterable=False):
    import grain

    x, y = arrays()
    source = [(x[i], y[i]) for i in range(SAMPLES)]
    dataset = grain.MapDataset.source(source).shuffle(seed=3).batch(BATCH)
    return dataset.to_iter_dataset() if iterable else dataset


INPUTS = {
    "arrays": lambda: (arrays(), {"batch_size": BATCH}),
    "arrays-in-order": lambda: (arrays(), {"batch_size": BATCH, "shuffle": False}),
    "arrays-batch-shuffle": lambda: (arrays(), {"batch_size": BATCH, "shuffle": "batch"}),
    "tf.data": lambda: ((tf_dataset(),), {"shuffle": False}),
    "tf.data-unknown-length": lambda: ((tf_dataset(unknown=True),), {"shuffle": False}),
    "PyDataset": lambda: ((Batches(),), {}),
    "PyDataset-workers-0": lambda: ((Batches(workers=0),), {}),
    "DataLoader": lambda: ((data_loader(),), {"shuffle": False}),
    "DataLoader-generator": lambda: ((data_loader(own_generator=True),), {"shuffle": False}),
    "grain": lambda: ((grain_dataset(),), {"shuffle": False}),
    "grain-iterable": lambda: ((grain_dataset(iterable=True),), {"shuffle": False}),
    "resumable": lambda: ((kcp.resumable(*arrays(), batch_size=BATCH, seed=2),), {}),
}


NEEDS = {"tf": "tensorflow", "Data": "torch", "grain": "grain"}


def needs(kind):
    """The packages that an input needs beside Keras and NumPy."""
    return [module for prefix, module in NEEDS.items() if kind.startswith(prefix)]


def missing(kind):
    """Those of them that are not installed."""
    return [module for module in needs(kind) if not importlib.util.find_spec(module)]


def follows_the_seed(kind):
    """Whether the order of an input follows the seed of the process: TensorFlow shuffles it."""
    return keras.backend.backend() == "tensorflow" or kind.startswith("tf")


def plain_model(**compiled):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    model.compile(**{"optimizer": "adam", "loss": "mse", "metrics": ["mae"], **compiled})
    return model


def exact_backup(folder, save_freq, **arguments):
    return kcp.BackupAndRestore(folder, save_freq, delete_checkpoint=False, **arguments)


def train(
    folder,
    kind="arrays",
    *,
    seed=1,
    make=plain_model,
    make_backup=exact_backup,
    callbacks=(),
    **more,
):
    """Trains; returns everything that must be equal.

    Args:
        folder: Where everything is written.
        kind: One of `INPUTS`, or a function that returns the data and more arguments of `fit`.
        seed: Of the process.
        make: Makes the compiled model.
        make_backup: Makes the callback that keeps the run: of a folder and `save_freq`.
        callbacks: More callbacks.
        more: Further arguments of `fit`; `save_freq`, `epochs` and `backup` of the backup;
            `read_ahead`, whether TensorFlow reads the data in a thread of its own.
    """
    folder = Path(folder)
    keras.utils.clear_session(free_memory=False)  # so that layers have the same names in the files
    keras.utils.set_random_seed(seed)
    data, fit = (INPUTS[kind] if isinstance(kind, str) else kind)()
    model = make()
    x, y = arrays()
    of_python = isinstance(kind, str) and kind.startswith(("PyData", "DataL", "grain"))
    read_ahead = more.pop("read_ahead", of_python) and keras.backend.backend() == "tensorflow"
    trace = Noted() if read_ahead else Trace()
    epochs = more.pop("epochs", EPOCHS)
    backup = more.pop("backup", {})
    save_freq = more.pop("save_freq", 1)
    early = kcp.EarlyStopping(patience=5, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau(patience=1, factor=0.5, min_delta=0.1)
    # the backup comes first on purpose: the saves of the other one by batches come after its own
    members = [
        make_backup(folder / "backup", save_freq, **backup),
        early,
        plateau,
        kcp.ModelCheckpoint(
            folder / "kept" / "{epoch:02d}-{batch:02d}.weights.h5",
            save_weights_only=True,
            save_freq=4,
            max_to_keep=2,
        ),
        kcp.TensorBoardLogger(folder / "charts", update_freq=2),
        trace,
        *callbacks,
    ]
    fit = {"validation_data": (x[:8], y[:8]), "verbose": 0, **fit, **more}
    history = model.fit(*data, epochs=epochs, callbacks=members, **fit)
    digest = hashlib.sha256()
    for variable in [*model.variables, *model.optimizer.variables]:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes())
    result = {
        "variables": digest.hexdigest(),
        "history": history.history,
        "epochs": history.epoch,
        "early": [early.best, early.best_epoch, early.wait],
        "plateau": [float(plateau.best), plateau.wait, plateau.cooldown_counter],
        "trace": trace.seen,
        "kept": {path.name: arrays_in(path) for path in sorted((folder / "kept").glob("*.h5"))},
        "charts": charts(folder / "charts"),
    }
    if isinstance(trace, Trace):
        result["random"] = [random.random(), float(np.random.random())]
    return result


def arrays_in(path):
    """A digest of the arrays in an HDF5 file, whose bytes hold other things as well."""
    import h5py

    digest = hashlib.sha256()

    def add(name, item):
        if hasattr(item, "shape"):
            digest.update(name.encode() + item[()].tobytes())

    with h5py.File(path) as file:
        file.visititems(add)
    return digest.hexdigest()


def charts(folder):
    """What TensorBoard would draw: tag -> points, in types that JSON has."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    drawn = {}
    for place in sorted({Path(root) for root, _, files in os.walk(folder) if files}):
        events = EventAccumulator(str(place), purge_orphaned_data=True)
        events.Reload()
        for tag in events.Tags()["scalars"]:
            name = f"{place.relative_to(folder)}:{tag}"
            drawn[name] = [[e.step, repr(e.value)] for e in events.Scalars(tag)]
    if not drawn:
        raise RuntimeError(f"There are no charts in {folder}: nothing can be compared.")
    return drawn


@contextlib.contextmanager
def every_snapshot(folder, aside):
    """Within it, the folder of a run is copied to `aside/000`, ... each time one is committed."""
    commit = _resumable_run.RunStore.commit
    number = iter(range(10_000))

    def commit_and_copy(self, tree, **where):
        commit(self, tree, **where)
        self.wait_until_finished()
        shutil.copytree(folder, Path(aside) / f"{next(number):03d}")

    _resumable_run.RunStore.commit = commit_and_copy
    try:
        yield
    finally:
        _resumable_run.RunStore.commit = commit


def differing(whole, resumed):
    """The names of what is not equal."""
    return [name for name in whole if whole[name] != resumed[name]]
